"""The list of processes: what is chosen is what the viewer sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from textual.pilot import Pilot

from live_views import run, screen_text, shows, type_at_once
from live_views import until as wait
from mem_cli.live.candidates import ATTACHABLE, Candidate
from mem_cli.live.choosing import ChooserApp
from mem_parser.errors import MemError

NAMES = ["redis-server *:6379", "python app.py \x1b[2J", "postgres: writer"]


def three(_asked: Callable[[], bool]) -> Iterator[Candidate]:
    for k, name in enumerate(NAMES):
        yield Candidate(100 + k, "me", ATTACHABLE, "", "8 MiB", name)


@pytest.mark.parametrize(
    ("keys", "pid"),
    [
        (["enter"], 100),
        (["down", "enter"], 101),
        (["end", "enter"], 102),
        (["slash", *"POST", "enter"], 102),
        (["slash", *"er", "enter", "down", "enter"], 102),
        (["q"], None),
        (["slash", "x", "escape", "escape"], None),
        (["down", "ctrl+c"], None),
    ],
)
def test_keys_choose_the_line_that_they_are_on(keys: list[str], pid: int | None) -> None:
    app = ChooserApp(three)

    async def body(pilot: Pilot[Any]) -> None:
        await shows(pilot, "3 may be watched")
        await wait(pilot, lambda: app.complete, "all are found")
        await pilot.press(*keys)

    try:
        run(app, body)
    finally:
        app.end()
    assert app.return_value == pid


def test_keys_that_come_at_once_go_to_the_filter() -> None:
    app = ChooserApp(three)

    async def body(pilot: Pilot[Any]) -> None:
        await shows(pilot, "3 may be watched")
        await wait(pilot, lambda: app.complete, "all are found")
        type_at_once(app, "/post")
        await wait(pilot, lambda: len(app.shown) == 1, "the filter")
        await pilot.press("enter")

    try:
        run(app, body)
    finally:
        app.end()
    assert app.return_value == 102


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (MemError("/proc is not what it should be"), "/proc is not what it should be"),
        (IndexError("of nothing"), "the search ended early: IndexError: of nothing"),
    ],
)
def test_names_are_shown_and_never_obeyed_and_a_problem_is_a_line(
    problem: Exception, said: str
) -> None:
    def some(asked: Callable[[], bool]) -> Iterator[Candidate]:
        yield from three(asked)
        raise problem

    app = ChooserApp(some)

    async def body(pilot: Pilot[Any]) -> None:
        await shows(pilot, said)
        assert "looking for more" not in screen_text(app)
        assert "app.py \\x1b[2J" in screen_text(app)

    try:
        run(app, body, (120, 24))
    finally:
        app.end()
