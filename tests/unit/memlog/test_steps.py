"""What came and went from moment to moment, against windows of the same moments."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import DOMAINS, Ledger, Row, log_of, programs
from mem_parser.errors import UsageProblem
from mem_parser.estimate import FloatArray
from mem_parser.memlog.livesites import domain_of, stack_of
from mem_parser.memlog.run import Run
from mem_parser.memlog.steps import Step, steps
from mem_parser.memlog.window import window
from mem_parser.model import Count, Unit
from memlogs import UNIT

times = st.lists(st.integers(0, 100 * UNIT), max_size=4)


def by_stack(run: Run, found: list[Step], domain: int, column: str) -> FloatArray:
    """Sums of the steps, of shape (steps, stacks, 5)."""
    result = np.zeros((len(found), len(run.stacks), 5))
    for step in found:
        mine = domain_of(step.keys) == domain
        np.add.at(result[step.moment], stack_of(step.keys[mine]), getattr(step, column)[mine])
    return np.cumsum(result, axis=0)


def of_window(run: Run, low: int, high: int, domain: int, count: Count) -> FloatArray:
    """The same of a window, of shape (stacks, 5)."""
    profile = window(run, low, high, domain=domain)
    space, space_variance, samples = profile.weigh(count, Unit.SPACE)
    objects, objects_variance, _ = profile.weigh(count, Unit.OBJECTS)
    result = np.zeros((len(run.stacks), 5))
    columns = (space, space_variance, objects, objects_variance, samples)
    np.add.at(result, profile.sites.stack, np.column_stack(columns).astype(np.float64))
    return result


def check(run: Run, moments: list[int]) -> None:
    found = list(steps(run, moments, (0, 1)))
    assert [step.moment for step in found] == list(range(len(moments)))
    for domain in range(len(DOMAINS)):
        live = by_stack(run, found, domain, "live")
        born = by_stack(run, found, domain, "born")
        for low, high in itertools.combinations(range(len(moments)), 2):
            part = (moments[low], moments[high], domain)
            in_use = of_window(run, *part, Count.INUSE)
            np.testing.assert_allclose(live[high], in_use, rtol=1e-9, atol=1e-6)
            allocated = of_window(run, *part, Count.ALLOC)
            np.testing.assert_allclose(born[high] - born[low], allocated, rtol=1e-4, atol=1e-6)


@given(
    programs(), times, times, st.lists(st.integers(0, 50 * UNIT), min_size=2, max_size=4),
    st.sampled_from([1.0, 512.0]),
)  # fmt: skip
def test_the_sums_of_steps_are_what_windows_say(
    rows: list[Row], cuts: list[int], keyframes: list[int], moments: list[int], rate: float
) -> None:
    with log_of(Ledger(rows), cuts, keyframes, rates=(rate, 1.0)) as run:
        check(run, sorted({min(t, run.end_ns) for t in moments}))


@given(programs(), st.lists(st.integers(0, 50 * UNIT), min_size=2, max_size=4))
def test_so_they_are_over_a_missing_file(rows: list[Row], moments: list[int]) -> None:
    with log_of(Ledger(rows), [10 * UNIT, 20 * UNIT], [], left_out=(2,)) as run:
        check(run, sorted({min(t, run.end_ns) for t in moments}))


def test_a_domain_that_is_not_asked_for_is_left_out() -> None:
    row = {"time_ns": 5, "kind": 1, "address": 16, "size_bytes": 100, "stack": 0, "birth_ns": 5,
           "thread": 0}  # fmt: skip
    rows = [row | {"domain": 0}, row | {"domain": 1, "time_ns": 6}]
    with log_of(Ledger(rows), [], []) as run:
        found = [step for step in steps(run, [0, 6], (1,)) if len(step.keys)]
    assert [domain_of(step.keys).tolist() for step in found] == [[1]]


def test_a_moment_before_the_log_knows_anything_is_refused() -> None:
    row = {"time_ns": 15_000, "kind": 1, "address": 16, "size_bytes": 100, "stack": 0,
           "birth_ns": 5, "thread": 0, "domain": 0}  # fmt: skip
    with (
        log_of(Ledger([row]), [10_000], [], left_out=(1,)) as run,
        pytest.raises(UsageProblem, match="does not say what was in use"),
    ):
        list(steps(run, [0, 12_000], (0,)))
