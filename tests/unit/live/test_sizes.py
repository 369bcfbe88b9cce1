"""The live view on terminals of many sizes: nothing is cut in half, and too small ones say so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from textual.app import App, ComposeResult
from textual.pilot import Pilot

from live_views import Scripted, live_app, profile, run, screen_lines, screen_text, shows
from live_views import until as wait
from mem_cli.live import texts
from mem_cli.live.app import HINTS
from mem_cli.live.candidates import ATTACHABLE, Candidate
from mem_cli.live.choosing import ChooserApp
from mem_cli.live.screen_state import Page
from mem_cli.live.widgets import Lines

MANY = 500


def test_a_screen_that_is_too_small_says_so_and_a_larger_one_has_all_again() -> None:
    app = live_app(Scripted(profile()))

    async def body(pilot: Pilot[Any]) -> None:
        await shows(pilot, "net_read")
        for size in ((39, 24), (80, 9), (20, 5)):
            await pilot.resize_terminal(*size)
            await shows(pilot, f"too small: {size[0]} x {size[1]}")
            assert "net_read" not in screen_text(app)
        await pilot.resize_terminal(80, 24)
        await shows(pilot, "net_read")
        assert "too small" not in screen_text(app)
        await wait(pilot, lambda: texts.as_many(HINTS, 80) in screen_text(app), "the hints")

    run(app, body, (80, 24))


@pytest.mark.parametrize("columns", [40, 60, 79, 80, 200])
def test_numbers_are_whole_and_heads_stand_above_their_columns(columns: int) -> None:
    app = live_app(Scripted(profile()))

    async def body(pilot: Pilot[Any]) -> None:
        await shows(pilot, "net_read")
        lines = screen_lines(app)
        assert max(map(len, lines)) <= columns
        assert "in use" in lines[1]
        assert "…" not in lines[1]
        heads = next(line for line in lines if "own▼" in line)
        row = next(line for line in lines if line.endswith(("db_get", "db_get.so")))
        end = heads.index("own▼") + len("own▼")
        assert row[:end].split()[-1] in {"MiB", "KiB", "B"}
        assert row[end : end + 1] in {" ", ""}
        assert heads.index("function") == row.index("db_get")

    run(app, body, (columns, 24))


def test_verdicts_on_leaks_are_laid_out_anew_for_another_size() -> None:
    app = live_app(Scripted(profile()))
    asked: list[int] = []

    def leaks(width: int) -> None:
        asked.append(width)
        app.follower._deliver(Page("leaks so far", [f"{'for':<{width - 3}}you"]))

    async def body(pilot: Pilot[Any]) -> None:
        await shows(pilot, "net_read")
        app.follower.leaks = leaks  # type: ignore[method-assign]
        await pilot.press("l")
        await shows(pilot, f"{'for':<76}you")
        for columns in (79, 60, 200):
            await pilot.resize_terminal(columns, 24)
            await shows(pilot, f"{'for':<{columns - 4}}you")
        assert asked == [79, 78, 59, 199]

    run(app, body, (80, 24))


def many(_asked: Callable[[], bool]) -> Iterator[Candidate]:
    for k in range(MANY):
        yield Candidate(
            1000 + k, "somebody", ATTACHABLE, "7 MiB", "8 MiB", f"worker-{k:03} --serve"
        )


@pytest.mark.parametrize("columns", [40, 60, 79, 80, 200])
def test_the_list_shows_commands_at_any_width_and_scrolls_through_many(columns: int) -> None:
    app = ChooserApp(many)

    async def body(pilot: Pilot[Any]) -> None:
        await wait(pilot, lambda: app.complete, "all are found")
        await shows(pilot, f"{MANY} may be watched")
        await shows(pilot, "worker-000")
        assert ("somebody" in screen_text(app)) is (columns >= 79)
        [heads] = [line for line in screen_lines(app) if "COMMAND" in line]
        [first] = [line for line in screen_lines(app) if "worker-000" in line]
        assert heads.index("COMMAND") == first.index("worker-000")
        await pilot.press("end")
        await shows(pilot, "worker-499")
        await pilot.press("slash", *"worker-25")
        await shows(pilot, "10 may be watched")
        await pilot.press("enter")
        await wait(pilot, lambda: isinstance(app.focused, Lines), "the list has the keys again")
        await pilot.press("home", "down")
        await wait(pilot, lambda: app.query_one(Lines).cursor == 1, "the second line")
        await pilot.press("enter")
        await wait(pilot, lambda: app.return_value is not None, "a process is chosen")

    try:
        run(app, body, (columns, 24))
    finally:
        app.end()
    assert app.return_value == 1251


def test_a_key_that_comes_with_the_lines_is_followed() -> None:
    """Before the bar of scrolling is there."""

    class Many(App[None]):
        def compose(self) -> ComposeResult:
            yield Lines()

    app = Many()

    async def body(pilot: Pilot[Any]) -> None:
        lines = app.query_one(Lines)
        lines.show(MANY, lambda number, _width: [(f"line {number}", "")])
        lines.action_go(-1)
        await shows(pilot, f"line {MANY - 1}")

    run(app, body, (80, 24))


def test_the_keys_show_above_the_notes_and_the_same_key_goes_back() -> None:
    app = live_app(Scripted(profile()))

    async def body(pilot: Pilot[Any]) -> None:
        await shows(pilot, "net_read")
        await pilot.press("n")
        await shows(pilot, "nothing is missing")
        await pilot.press("question_mark")
        await shows(pilot, "the 95 % margin of error")
        await pilot.press("question_mark")
        await shows(pilot, "nothing is missing")
        await pilot.press("n")
        await shows(pilot, "net_read")

    run(app, body, (80, 50))
