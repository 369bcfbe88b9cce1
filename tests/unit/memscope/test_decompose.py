"""Bytes by class at moments: against a sum over all blocks."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.memscope.decompose import BlockTable, sums_of

NAMES = ("a", "b", "c")
blocks = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 99), st.integers(0, 20), st.integers(1, 9)),
    max_size=25,
)


def live(rows: list[tuple[int, int, int, int]], moment: int) -> list[int]:
    sums = [0] * len(NAMES)
    for of_class, size, born, life in rows:
        if born <= moment < born + life:
            sums[of_class] += size
    return sums


@given(blocks, st.lists(st.integers(0, 30), max_size=4).map(sorted))
def test_steps_and_peaks_are_what_a_sum_over_all_blocks_gives(
    rows: list[tuple[int, int, int, int]], ends: list[int]
) -> None:
    columns = np.array(rows, dtype=np.int64).reshape(-1, 4).T
    table = BlockTable(columns[0], columns[1], columns[2], columns[2] + columns[3])
    names = [str(k) for k in range(len(ends))]
    found = sums_of(NAMES, table, np.array(ends, dtype=np.int64), names)
    assert [s.name for s in found.steps] == names
    assert [s.end.bytes.tolist() for s in found.steps] == [live(rows, end) for end in ends]
    totals = {t: sum(live(rows, t)) for t in range(-1, 32)}
    assert found.peak.total == max(totals.values())
    assert found.peak.total == 0 or found.peak.bytes.tolist() == live(rows, found.peak.at)
    begin = -1
    for step, end in zip(found.steps, ends, strict=True):
        assert step.peak.total == max(totals[t] for t in range(begin, end + 1))
        begin = end


def test_a_block_that_takes_the_place_of_another_at_one_moment_is_no_peak() -> None:
    one = np.array([1, 1], dtype=np.int64)
    table = BlockTable(one * 0, one * 8, np.array([0, 5]), np.array([5, 9]))
    assert sums_of(("x",), table, np.array([], dtype=np.int64), []).peak.total == 8
