"""How much may be reserved for a segment: by variable and control group, not below a floor."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_profiler.process import cgroup
from mem_profiler.segment import bound, layout


def bound_of(variable: str | None, group: int | None, pid: int | None = 7) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(bound.VARIABLE, raising=False)
        if variable is not None:
            patch.setenv(bound.VARIABLE, variable)
        patch.setattr(cgroup, "limit_bytes", lambda _pid: group)
        return bound.of_process(pid)


def test_without_limits_it_is_the_default() -> None:
    assert bound_of(None, None) == bound.DEFAULT_BYTES
    assert bound_of("nonsense", None) == bound.DEFAULT_BYTES


def test_the_variable_sets_it_but_not_below_the_least() -> None:
    assert bound_of("64M", None) == 64 << 20
    assert bound_of("1", None) == layout.LIMIT_MIN_BYTES


def test_a_group_leaves_its_share_and_a_process_out_of_sight_has_none() -> None:
    share = layout.LIMIT_GROUP_SHARE
    assert bound_of(None, share << 25) == 32 << 20
    assert bound_of(None, share << 25, pid=None) == bound.DEFAULT_BYTES
    assert bound_of("64M", 0) == layout.LIMIT_MIN_BYTES


def test_a_size_that_was_asked_for_counts_up_to_a_larger_share() -> None:
    share = layout.LIMIT_GROUP_ASKED_SHARE
    assert bound_of("24M", share << 25) == 24 << 20
    assert bound_of("64M", share << 25) == 32 << 20
    assert share < layout.LIMIT_GROUP_SHARE


@given(st.integers(1, 1 << 40), st.none() | st.integers(0, 1 << 50))
def test_it_grows_with_each_limit_and_stays_above_the_least(size: int, group: int | None) -> None:
    found = bound_of(str(size), group)
    assert layout.LIMIT_MIN_BYTES <= found <= max(size, layout.LIMIT_MIN_BYTES)
    assert found <= bound_of(str(2 * size), None if group is None else 2 * group)
