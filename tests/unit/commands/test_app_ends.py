"""How the live view ends, and what it says of a process that has ended."""

from __future__ import annotations

import signal
from collections.abc import Sequence

import pytest

from live_views import FAILED, Scripted, profile, screen_text, shown, shows, sorts
from live_views import until as wait
from mem_cli.live.pages import StacksScreen
from mem_parser.live.totals import Order
from mem_profiler.live.watched import State


@pytest.mark.parametrize("key", ["q", "ctrl+c", "ctrl+q"])
async def test_keys_leave_also_from_another_screen(key: str) -> None:
    async with shown() as (app, pilot):
        if key != "q":
            await pilot.press("enter")
            await wait(pilot, lambda: isinstance(app.screen, StacksScreen), "stacks are open")
        await pilot.press(key)
        await pilot.pause()
        assert not app.is_running or app._exit
    assert app.return_value is None


async def test_a_program_of_this_command_gets_the_ctrl_c_and_shows_its_output() -> None:
    heard: list[int] = []
    lines: Sequence[str] = ["first line", "\x1b[31mred [bold]not bold"]
    async with shown(Scripted(profile()), forward=heard.append, output=lambda: lines) as (
        app,
        pilot,
    ):
        await pilot.press("p")
        await shows(pilot, "first line")
        assert "\\x1b[31mred [bold]not bold" in screen_text(app)
        await pilot.press("escape", "ctrl+c")
    assert heard == [signal.SIGINT]


async def test_the_end_of_the_process_is_said_and_its_last_state_stays() -> None:
    source = Scripted(profile())
    async with shown(source, plan={"successor": lambda: [99]}) as (app, pilot):
        source.why = "signal 9 SIGKILL"
        source.profiles = [profile({"last main": 8}, 4.0)]
        source.state = State.ENDED
        await shows(pilot, "last")
        await shows(pilot, "signal 9 SIGKILL; it runs again as pid 99: r follows it")
        assert "ended" in screen_text(app)
        await pilot.press("r")
    assert app.return_value == 99


async def test_another_program_of_the_same_process_is_followed_without_being_asked() -> None:
    source = Scripted(profile())
    async with shown(source, plan={"successor": lambda: [4711], "at_once": True}) as (app, pilot):
        source.state = State.ENDED
        await wait(pilot, lambda: app.return_value == 4711, "the view ends for the next one")


async def test_another_program_of_a_process_that_was_running_waits_for_r() -> None:
    source = Scripted(profile())
    async with shown(source, plan={"successor": lambda: [4711]}) as (app, pilot):
        source.why, source.state = "it started another program (exec)", State.ENDED
        await shows(pilot, "the process runs another program: r follows it")
        assert "net_read" in screen_text(app)
        await pilot.press("r")
    assert app.return_value == 4711


async def test_where_a_capture_has_ended_c_begins_one() -> None:
    source = Scripted(profile(), state=State.IDLE)
    async with shown(source, waits="no capture runs") as (app, pilot):
        await pilot.press("c")
        await shows(pilot, "a capture has begun; it ends with this view")
        await pilot.press("c", "w")
        await wait(pilot, lambda: len(app.written) == 1, "the file is written")
        assert source.begun == 1
    assert source.state is State.CAPTURED


async def test_an_error_of_the_process_is_a_line_and_the_view_goes_on() -> None:
    source = Scripted(profile())
    async with shown(source) as (app, pilot):
        source.problem = FAILED
        await shows(pilot, "it broke; mend it")
        await pilot.press("o")
        await sorts(pilot, Order.OWN)
    assert app.follower.failure is None


async def test_an_error_that_nobody_foresaw_ends_the_view_and_is_kept() -> None:
    source = Scripted(profile())
    async with shown(source) as (app, pilot):
        source.problem = ZeroDivisionError("division by zero")
        await wait(pilot, lambda: app._exit, "the view ends")
    assert isinstance(app.follower.failure, ZeroDivisionError)
