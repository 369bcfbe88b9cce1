"""summary: one row per function, recursion counted once."""

from __future__ import annotations

from mem_parser.reports import summary
from reportview import view


def test_summary_counts_a_recursive_function_once() -> None:
    shown = view((("malloc f f g", 10), ("malloc g", 5)), blocks=1)
    found = summary.summary(shown)
    assert {r.name: (r.total.value, r.own.value, r.count.value) for r in found.rows} == {
        "g": (15, 5, 2), "f": (10, 10, 1)}  # fmt: skip
    by_own = summary.summary(shown, summary.Sort.OWN, 1)
    assert ([r.name for r in by_own.rows], by_own.left_out) == (["f"], 1)
