"""top: the largest rows, marked where they are noise."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from mem_cli.terminal import plain_lines
from mem_parser.filters import Filters
from mem_parser.model import Unit
from mem_parser.reports import summary, top
from mem_parser.reports.aggregate import GroupBy
from mem_parser.reports.view import make_view
from reportview import named, view


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


@pytest.mark.parametrize(("stacks", "is_told"), [
    ((("malloc xget a", 90), ("malloc xget b", 90), ("malloc xget c", 90)), True),
    ((("malloc xget a", 90), ("malloc xget b", 90), ("malloc xget b m", 90)), False),
    ((("malloc xget a", 9), ("malloc xget b", 9), ("malloc xget c", 9), ("malloc d", 9)), False),
])  # fmt: skip
def test_a_function_that_owns_nearly_all_for_several_callers_may_be_a_wrapper(
    stacks: tuple[tuple[str, int], ...], *, is_told: bool
) -> None:
    line = "xget may be a wrapper: --library '^xget$' charges its callers"
    for shown in (view(stacks), view(stacks, unit=Unit.OBJECTS)):
        for found in (
            top.blocks(top.top(shown, top.TopOptions())),
            summary.blocks(summary.summary(shown)),
        ):
            assert (line in plain_lines(found)) is is_told
    narrowed = view(stacks, focus="xget")
    assert line not in plain_lines(top.blocks(top.top(narrowed, top.TopOptions())))


def test_a_function_with_two_calls_of_malloc_is_no_wrapper() -> None:
    profile, symbols = named(tuple((f"malloc xget {name}", 90) for name in "abc"))
    whole = make_view(profile, symbols, Filters())
    assert any("wrapper" in line for line in plain_lines(whole.framed([], of_functions=True)))
    k = next(k for k, f in enumerate(symbols.functions) if f.name == "xget")
    symbols.locations.append(dataclasses.replace(symbols.locations[k], line=99))
    symbols.locations_of_stack[1] = len(symbols.locations) - 1
    two = make_view(profile, symbols, Filters())
    assert not any("wrapper" in line for line in plain_lines(two.framed([], of_functions=True)))
