"""summary: one row per function, recursion counted once."""

from __future__ import annotations

import pytest

from mem_cli.terminal import plain_lines
from mem_parser.reports import summary
from reportview import view


def test_summary_counts_a_recursive_function_once() -> None:
    shown = view((("malloc f f g", 10), ("malloc g", 5)), blocks=1)
    found = summary.summary(shown)
    assert {r.name: (r.total.value, r.own.value, r.count.value) for r in found.rows} == {
        "g": (15, 5, 2), "f": (10, 10, 1)}  # fmt: skip
    by_own = summary.summary(shown, summary.Sort.OWN, 1)
    assert ([r.name for r in by_own.rows], by_own.left_out) == (["f"], 1)


@pytest.mark.parametrize(("sort", "blocks"), [(summary.Sort.OWN, "3"), (summary.Sort.TOTAL, "6")])
def test_the_blocks_are_those_of_what_the_table_is_sorted_by(
    sort: summary.Sort, blocks: str
) -> None:
    shown = view((("malloc inner f", 10), ("malloc f", 5)), blocks=3)
    lines = plain_lines(summary.blocks(summary.summary(shown, sort)))
    assert [line.split()[-2] for line in lines if line.endswith(" f")] == [blocks]
