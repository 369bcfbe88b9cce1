"""peek: who calls a function, and whom it calls."""

from __future__ import annotations

import pytest

from mem_parser.errors import UsageProblem
from mem_parser.reports import peek
from reportview import view


def test_peek_shows_who_calls_and_who_is_called() -> None:
    found = peek.peek(view(), "serve")[0]
    assert [(n.name, n.value.value) for n in found.callers] == [("main", 140)]
    assert [(n.name, n.value.value) for n in found.callees] == [("net_read", 100), ("db_get", 40)]
    leaf = peek.peek(view(), "^par")[0]
    assert [n.name for n in leaf.callees] == [peek.OWN]
    assert [n.name for n in peek.peek(view(), "main")[0].callers] == [peek.OUTERMOST]
    with pytest.raises(UsageProblem, match="no such function"):
        peek.peek(view(), "nowhere")
