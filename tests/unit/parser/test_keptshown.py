"""Stacks that are looked at once are shown as if they were looked at each time."""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.filters import Filters
from mem_parser.live.keptshown import KeptShown
from mem_parser.live.stacksums import Names, ShownStacks, last_of_name, shown_stacks
from mem_parser.names import FrameRule
from mem_parser.symbols.table import Function, KnownColumns, Location, Role, Symbols

NAMES = ["main", "load", "push", "malloc", "load", "start_thread", "a+0x10", "a+0x20"]
SERIES = object()
Stacks = list[list[int]]
stacks_strategy = st.lists(
    st.lists(st.integers(0, len(NAMES) - 1), min_size=1, max_size=5), max_size=6
)
step_strategy = st.tuples(
    stacks_strategy,
    st.lists(st.sampled_from(list(Role)), min_size=len(NAMES), max_size=len(NAMES)),
    st.sampled_from(list(FrameRule)),
    st.booleans(),
)


def symbols(stacks: Stacks, roles: list[Role], series: object = SERIES) -> Symbols:
    """As `Naming` gives them: functions are those that some stack has had so far."""
    count = max((k for stack in stacks for k in stack), default=-1) + 1
    functions = [
        Function(name, name, f"/lib/{k}.so", f"{k}.c", role=role)
        if "+" not in name
        else Function(name, name, "/a", known=False, role=role)
        for k, (name, role) in enumerate(zip(NAMES[:count], roles, strict=False))
    ]
    locations = [Location(k) for k in range(count)]
    offsets = np.cumsum([0, *map(len, stacks)]).astype(np.int64)
    spelled = np.array([k for stack in stacks for k in stack], dtype=np.int32)
    name_of = np.array([NAMES.index(f.name) for f in functions], dtype=np.int64)
    known = KnownColumns(
        locations, np.arange(count, dtype=np.int32), spelled,
        last_of_name(name_of[spelled], offsets), series,
    )  # fmt: skip
    return Symbols(functions, locations, offsets, spelled, known=known)


def anew(of: Symbols, filters: Filters) -> tuple[Names, ShownStacks]:
    names = Names.of(of)
    every = np.ones(len(of.offsets) - 1, dtype=np.bool_)
    return names, shown_stacks(of, filters, every, names)


def same(found: tuple[Names, ShownStacks] | None, wanted: tuple[Names, ShownStacks]) -> None:
    assert found is not None
    for kept, fresh in zip(found, wanted, strict=True):
        for field in dataclasses.fields(kept):
            ours, theirs = getattr(kept, field.name), getattr(fresh, field.name)
            assert np.array_equal(ours, theirs), (field.name, ours, theirs)


@given(st.lists(step_strategy, min_size=1, max_size=4))
def test_what_is_kept_is_what_would_be_found_anew(
    steps: list[tuple[Stacks, list[Role], FrameRule, bool]],
) -> None:
    kept, stacks = KeptShown(), [[0, 1]]
    for more, roles, rule, keeps in steps:
        stacks = [*stacks, *more]
        now, filters = symbols(stacks, roles), Filters(rule=rule, start_frames=keeps)
        same(kept.of(now, filters), anew(now, filters))


def test_a_function_that_became_a_wrapper_changes_all_its_stacks() -> None:
    kept, filters = KeptShown(), Filters(rule=FrameRule.PROGRAM)
    before = [Role.PROGRAM] * len(NAMES)
    first = kept.of(symbols([[2, 0], [2, 1]], before), filters)
    assert first is not None
    after = [*before[:2], Role.WRAPPER, *before[3:]]
    second = kept.of(symbols([[2, 0], [2, 1]], after), filters)
    assert second is not None
    names = second[0].names
    assert [names[k] for k in first[1].own.tolist()] == ["push", "push"]
    assert [names[k] for k in second[1].own.tolist()] == ["main", "load"]


def test_an_earlier_moment_and_filters_that_choose_are_not_answered() -> None:
    kept, filters = KeptShown(), Filters(rule=FrameRule.NONE)
    roles = [Role.PROGRAM] * len(NAMES)
    later = symbols([[2, 0], [2, 1]], roles)
    assert kept.of(later, filters) is not None
    assert kept.of(symbols([[2, 0]], roles), filters) is None
    assert kept.of(later, dataclasses.replace(filters, focus=("load",))) is None
    assert kept.of(dataclasses.replace(later, known=None), filters) is None
    same(kept.of(later, filters), anew(later, filters))


def test_another_series_begins_anew() -> None:
    kept, filters = KeptShown(), Filters(rule=FrameRule.NONE)
    roles = [Role.PROGRAM] * len(NAMES)
    assert kept.of(symbols([[2, 0], [2, 1]], roles), filters) is not None
    other = symbols([[1, 0], [0]], roles, object())
    same(kept.of(other, filters), anew(other, filters))
