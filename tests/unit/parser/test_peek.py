"""peek: who calls a function, and whom it calls."""

from __future__ import annotations

import pytest

from mem_parser.errors import UsageProblem
from mem_parser.filters import Filters
from mem_parser.reports import peek
from mem_parser.reports.view import make_view
from reportview import named, view


def test_peek_shows_who_calls_and_who_is_called() -> None:
    found = peek.peek(view(), "serve")[0]
    assert [(n.name, n.value.value) for n in found.callers] == [("main", 140)]
    assert [(n.name, n.value.value) for n in found.callees] == [("net_read", 100), ("db_get", 40)]
    leaf = peek.peek(view(), "^par")[0]
    assert [n.name for n in leaf.callees] == [peek.OWN]
    assert [n.name for n in peek.peek(view(), "main")[0].callers] == [peek.OUTERMOST]
    with pytest.raises(UsageProblem, match="no such function"):
        peek.peek(view(), "nowhere")


def test_each_line_of_a_function_has_its_own_callers() -> None:
    profile, symbols = named(
        (("malloc fill a", 100), ("malloc fill~ b", 40), ("malloc refill a", 7))
    )
    names = [function.name for function in symbols.functions]
    twice = names.index("fill ")
    symbols.functions[twice] = symbols.functions[names.index("fill")]
    whole = make_view(profile, symbols, Filters())
    assert len(peek.peek(whole, "fill")) == 1
    found = peek.peek(whole, "fill", lines=True)
    called = [(one.row.name, [n.name.split()[0] for n in one.callers]) for one in found]
    assert called == [(f"fill fill.c:{names.index('fill') + 1}", ["a"]),
                      (f"fill fill~.c:{twice + 1}", ["b"])]  # fmt: skip
