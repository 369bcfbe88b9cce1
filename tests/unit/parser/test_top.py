"""top: the largest rows, marked where they are noise."""

from __future__ import annotations

from typing import Any

from mem_cli.terminal import plain_lines
from mem_parser.reports import top
from mem_parser.reports.aggregate import GroupBy
from reportview import view


def test_top_marks_what_is_noise_and_says_so() -> None:
    shown = view((("malloc a main", 4 << 20), ("malloc b main", 1024)), rate=1 << 16)
    found = top.top(shown, top.TopOptions(rows=0))
    lines = list(plain_lines(top.blocks(found)))

    assert [r.name for r in found.shown] == ["a", "b", "main"]
    assert [bool(line.startswith("~ ")) for line in lines[3:6]] == [False, True, False]
    assert lines[6] == "~ 1 row is inside the noise: its error is as large as the number"
    assert [r["noise"] for r in top.records(found)] == [False, True, False]


def test_top_leaves_out_small_rows_and_names_their_sum() -> None:
    shown = view((("malloc a", 1000), ("malloc b", 1)))
    lines = list(plain_lines(top.blocks(top.top(shown, top.TopOptions()))))
    assert lines[-1] == "1 smaller row hidden (1 B). Use -n 0 to show all."


def test_callers_that_own_nothing_are_shown_by_cum_and_where_all_are_asked_for() -> None:
    shown = view((("malloc a main", 1000), ("malloc b main", 1)))

    def names(**options: Any) -> list[str]:
        return [row.name for row in top.top(shown, top.TopOptions(**options)).shown]

    assert names() == ["a"]
    assert names(rows=2) == ["a", "b"]
    assert names(by_cum=True) == names(callers=True)[::-1] == ["main", "a"]
    assert names(rows=0) == ["a", "b", "main"]
    lines = list(plain_lines(top.blocks(top.top(shown, top.TopOptions()))))
    assert lines[-1] == (
        "1 smaller row (1 B) and 1 caller without own memory hidden. Use -n 0 to show all."
    )


def test_top_by_line_tells_file_and_line_to_programs() -> None:
    found = top.top(view(), top.TopOptions(group=GroupBy.LINE))
    row = top.records(found)[0]
    assert (row["function"], row["file"], row["module"]) == (
        "net_read", "net_read.c", "/lib/net_read.so")  # fmt: skip
    assert isinstance(row["line"], int)
