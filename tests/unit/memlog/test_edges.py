"""The moments at which windows of a page begin and end."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ledger import Ledger, Row, log_of, programs
from mem_parser.memlog import edges as module
from mem_parser.memlog.edges import MOST_EDGES, edges, nearest
from memlogs import UNIT

times = st.lists(st.integers(0, 100 * UNIT), max_size=4)


@given(programs(), times, times, st.sampled_from([6, 9, 400]), st.sampled_from([0, 1]))
def test_no_moment_of_a_window_is_higher_than_its_highest_edge(
    rows: list[Row], cuts: list[int], named: list[int], most: int, domain: int
) -> None:
    ledger = Ledger(rows)
    usual, module.MOST_EDGES = module.MOST_EDGES, most
    try:
        with log_of(ledger, cuts, []) as run:
            end = run.end_ns
            found = edges(run, 0, end, named_ns=named, domain=domain).tolist()
    finally:
        module.MOST_EDGES = usual
    assert (found[0], found[-1]) == (0, end)
    assert found == sorted(set(found))
    assert {t for t in named if t <= end} <= set(found)

    def total(time: int) -> int:
        return sum(size for (_, d, _), (_, size) in ledger.at(time).items() if d == domain)

    live = [total(time) for time in found]
    for low, high in itertools.combinations(range(len(found)), 2):
        moments = ledger.moments(found[low], found[high] + 1)
        assert max(live[low : high + 1]) == max(size for _, d, size in moments if d == domain)


def births(count: int) -> list[Row]:
    return [
        {"time_ns": 1000 * (k + 1), "kind": 1, "address": 16 * k, "size_bytes": 100, "stack": 0,
         "domain": 0, "birth_ns": 1000 * (k + 1), "thread": 0}
        for k in range(count)
    ]  # fmt: skip


def test_there_are_few_of_them_however_many_moments_and_marks_a_log_has() -> None:
    with log_of(Ledger(births(3000)), [], []) as run:
        found = edges(run, 0, run.end_ns, named_ns=list(range(0, 3_000_000, 1500)))
    assert 200 <= len(found) <= MOST_EDGES


def test_where_a_log_is_known_anew_behind_a_hole_there_is_an_edge() -> None:
    with log_of(Ledger(births(30)), [10_000, 20_000], [], left_out=(2,)) as run:
        assert 20_000 in edges(run, 0, run.end_ns).tolist()


def test_processes_beside_find_the_same_moments() -> None:
    with log_of(Ledger(births(40)), [20_000], []) as run:
        alone, beside = (edges(run, 0, run.end_ns, jobs=jobs) for jobs in (1, 2))
    assert alone.tolist() == beside.tolist()


@given(st.lists(st.integers(0, 50), min_size=1, unique=True), st.integers(0, 60))
def test_the_nearest_moment_is_the_earlier_of_two(moments: list[int], time: int) -> None:
    ordered = np.array(sorted(moments))
    found = nearest(ordered, time)
    assert ordered[found] == min(ordered.tolist(), key=lambda t: (abs(t - time), t))
