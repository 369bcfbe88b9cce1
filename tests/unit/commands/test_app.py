"""The live view on a terminal that is not there: each key, with a process that never was."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from textual.geometry import Offset
from textual.widgets import Input

from live_views import (
    STACKS,
    Scripted,
    profile,
    screen_lines,
    screen_text,
    shown,
    shows,
    sorts,
    type_at_once,
)
from live_views import until as wait
from mem_cli.live.pages import StacksScreen
from mem_cli.live.screen_state import Restarted
from mem_cli.live.widgets import Lines
from mem_parser.live.totals import Order
from mem_profiler.live.watched import State
from web_profiles import blocks_of

SMALL = (80, 24)


def names(app: Any) -> list[str]:
    """The functions of the table, in their order."""
    lines = screen_lines(app)
    first = next(k for k, line in enumerate(lines) if line.endswith(" function")) + 1
    return [line.split()[-1] for line in lines[first:-1] if line]


def has_base(columns: Any) -> bool:
    """Whether the tree of a page compares with an earlier moment."""
    return any("base" in str(name) for name in columns)


def chosen(app: Any) -> str:
    lines = app.screen_stack[0].query_one("#rows", Lines)
    return str(app.picture.rows.names[lines.cursor])


async def test_the_first_screen_says_what_is_watched_and_who_holds_its_memory() -> None:
    async with shown(Scripted(profile(threads=2))) as (app, _pilot):
        lines = screen_lines(app)
        assert lines[0].startswith("server (pid 4711)  libc.so.6  1 sample / 1 KiB")
        assert lines[0].endswith("0:00:01")
        assert lines[1].startswith("in use 5.245 MiB  peak 5.245 MiB ")
        assert lines[1].endswith("55 samples, 0 lost")
        assert lines[2] == "in use 5.245 MiB, 55 % of it net_read"
        assert lines[4].startswith("heap ")
        assert " RSS " in lines[4]
        hidden = "2 callers without own memory hidden: t"
        assert f"all 2 threads  3 functions, {hidden}" in screen_text(app)
        assert names(app) == ["net_read", "db_get", "parse"]
        assert all(len(line) <= 80 for line in lines)
        assert len(lines) == 24


@pytest.mark.parametrize(("key", "first", "order"), [
    ("o", "net_read", Order.OWN), ("a", "net_read", Order.BLOCKS), ("t", "main", Order.TOTAL),
])  # fmt: skip
async def test_letters_sort(key: str, first: str, order: Order) -> None:
    async with shown() as (app, pilot):
        await pilot.press("o" if key == "t" else "t")
        await pilot.press(key)
        await sorts(pilot, order)
        assert names(app)[0] == first
        assert "▼" in screen_text(app)
        assert ("callers" in screen_text(app)) is (key == "o")
        assert len(names(app)) == (3 if key == "o" else 5)


async def test_a_mark_shows_what_changes_and_g_sorts_by_it() -> None:
    source = Scripted(profile())
    async with shown(source) as (app, pilot):
        await pilot.press("g")
        await shows(pilot, "growth is since a mark: b sets one")
        await pilot.press("escape")
        await wait(pilot, lambda: "b sets one" not in screen_text(app), "the line is gone")
        await pilot.press("b")
        await shows(pilot, "since mark")
        source.profiles = [profile({"parse main": 45, "net_read serve main": 30}, 3.0)]
        await shows(pilot, "mark 0:00:02 ago")
        assert names(app)[0] == "parse"
        assert "+3.815 MiB" in next(x for x in reversed(screen_lines(app)) if x.endswith(" parse"))
        await pilot.press("B")
        await wait(pilot, lambda: "since mark" not in screen_text(app), "the mark is gone")


async def test_growth_is_of_the_number_that_rows_are_sorted_by() -> None:
    stacks = {**STACKS, "serve main": 5}
    source = Scripted(profile(stacks))

    def cell(name: str) -> tuple[str, str]:
        """What a row says of its growth, and how."""
        assert app.picture is not None
        row = app._drawn(app.picture.rows.names.index(name), 80)
        return next((text.strip(), style) for text, style in row if len(text) == 21)

    async with shown(source) as (app, pilot):
        await pilot.press("b", "t")
        await shows(pilot, "since mark")
        source.profiles = [profile({**stacks, "net_read serve main": 70}, 3.0)]
        await shows(pilot, "mark 0:00:02 ago")
        assert cell("serve")[0].startswith("+3.815 MiB")
        assert cell("serve")[1] == "bold"
        assert cell("parse")[0].startswith("0 ±")
        assert cell("parse")[1] == ""
        await pilot.press("o")
        await sorts(pilot, Order.OWN)
        assert cell("serve")[0].startswith("0 ±")
        assert cell("serve")[1] == ""
        assert cell("net_read")[1] == "bold"


async def test_growth_of_a_thread_is_since_its_own_blocks_at_the_mark() -> None:
    async with shown(Scripted(profile(threads=3)), waits="all 3 threads") as (app, pilot):
        await pilot.press("b", "t")
        await shows(pilot, "since mark")
        await pilot.press("right")
        await shows(pilot, "thread 1 of 3")
        assert app.picture is not None
        row = next(row for row in app.picture.rows if row.name == "main")
        assert row.total_growth is not None
        assert row.total_growth.value == 0


async def test_keys_of_the_table_do_nothing_while_another_screen_covers_it() -> None:
    source = Scripted(profile())
    async with shown(source) as (app, pilot):
        await pilot.press("down", "enter")
        await wait(pilot, lambda: isinstance(app.screen, StacksScreen), "stacks are open")
        await pilot.press("t", "b", "slash", "i", "question_mark", "w")
        await wait(pilot, lambda: len(app.written) == 1, "a file is written from here too")
        assert isinstance(app.screen, StacksScreen)
        assert app.options.order is Order.OWN
        assert not app.options.narrows
        assert app.picture.marked_s is None
        await pilot.press("escape", "space")
        await shows(pilot, "PAUSED")


async def test_a_new_capture_ends_the_mark() -> None:
    source = Scripted(profile())
    async with shown(source) as (app, pilot):
        await pilot.press("b")
        await shows(pilot, "since mark")
        source.profiles = [profile(t_s=0.5, number=2)]
        await wait(pilot, lambda: "since mark" not in screen_text(app), "the mark is gone")


async def test_arrows_go_from_thread_to_thread_and_m_merges_them() -> None:
    async with shown(Scripted(profile(threads=3)), waits="all 3 threads") as (app, pilot):
        await pilot.press("right")
        await shows(pilot, "thread 1 of 3: worker-0 (100)")
        assert names(app) == ["net_read"]
        await pilot.press("left")
        await shows(pilot, "thread 3 of 3: worker-2 (102)")
        assert names(app) == ["parse"]
        await pilot.press("right")
        await shows(pilot, "thread 1 of 3")
        await pilot.press("greater_than_sign")
        await shows(pilot, "thread 2 of 3")
        await pilot.press("m")
        await shows(pilot, "all 3 threads")
        assert len(names(app)) == 3


async def test_stacks_are_those_of_the_thread_that_is_shown() -> None:
    async with shown(Scripted(profile(threads=3)), waits="all 3 threads") as (app, pilot):
        await pilot.press("right", "t")
        await shows(pilot, "total▼")
        await shows(pilot, "thread 1 of 3")
        await pilot.press("home", "down")
        await wait(pilot, lambda: chosen(app) == "main", "main is chosen")
        await pilot.press("enter")
        await shows(pilot, "main: who called it")
        await pilot.press("c")
        await shows(pilot, "main: what it calls")
        assert "net_read" in screen_text(app)
        assert "parse" not in screen_text(app)
        assert "db_get" not in screen_text(app)


async def test_without_threads_arrows_say_so() -> None:
    async with shown() as (_app, pilot):
        await pilot.press("right")
        await shows(pilot, "tells no threads apart")


async def test_enter_opens_the_stacks_of_a_row_with_lines_and_callers() -> None:
    async with shown() as (app, pilot):
        await pilot.press("t")
        await shows(pilot, "total▼")
        await pilot.press("down", "enter")
        await shows(pilot, "serve: who called it")
        assert "serve serve.c:5" in screen_text(app)
        assert "main main.c:2" in screen_text(app)
        assert "net_read" not in screen_text(app)
        await pilot.press("c")
        await shows(pilot, "serve: what it calls")
        text = screen_text(app)
        assert "├ net_read net_read.c:3" in text
        assert "└ db_get db_get.c:1" in text
        await pilot.press("enter")
        await wait(pilot, lambda: "net_read" not in screen_text(app), "the branches are folded")
        assert "+ serve" in screen_text(app)
        await pilot.press("w")
        await wait(pilot, lambda: len(app.written) == 1, "a file is written from here too")
        await pilot.press("enter", "o", "slash", "escape")
        await shows(pilot, "all threads")
        assert app.options.order is Order.TOTAL
        assert app.picture is not None


async def test_keys_that_come_at_once_go_to_the_filter() -> None:
    async with shown() as (app, pilot):
        type_at_once(app, "/to/q")
        await wait(pilot, lambda: app.query_one("#filter", Input).value == "to/q", "the text")
        await pilot.press("escape")
        type_at_once(app, "/parse\n")
        await wait(pilot, lambda: app.options.pattern == "parse", "the pattern")
        assert app.options.order is Order.OWN
        assert len(app.screen_stack) == 1


async def test_slash_filters_by_function_file_or_module() -> None:
    async with shown() as (app, pilot):
        await pilot.press("slash", *"^(net|db)_", "enter")
        await shows(pilot, "2 of 5 functions /^(net|db)_/: own 90.9 %, total 90.9 %")
        assert names(app) == ["net_read", "db_get"]
        await pilot.press("slash", *"parse.c", "enter")
        await shows(pilot, "1 of 5 functions /parse.c/")
        await pilot.press("slash", *["backspace"] * 7, *"main", "enter")
        await shows(pilot, "1 of 5 functions /main/")
        assert names(app) == ["main"]
        await pilot.press("slash", "left_parenthesis", "enter")
        await shows(pilot, "not a regular expression")
        await pilot.press("escape")
        await pilot.press("slash", "backspace", "enter")
        await wait(pilot, lambda: len(names(app)) == 3, "all rows are back")


async def test_i_shows_the_module_of_the_chosen_function_alone() -> None:
    async with shown() as (app, pilot):
        await pilot.press("t")
        await shows(pilot, "total▼")
        await pilot.press("down", "i")
        await shows(pilot, "1 of 5 functions in serve.so: own 0.0 %, total 90.9 %")
        await pilot.press("i")
        await wait(pilot, lambda: len(names(app)) == 5, "all rows are back")


async def test_d_shows_the_memory_of_a_device_and_its_graph_stands_beside() -> None:
    device = profile({"upload main": 40}, domain="cuda-0")
    async with shown(Scripted(profile(), device), waits="memory of host") as (app, pilot):
        assert "cuda-0 " in screen_lines(app)[4]
        await pilot.press("d")
        await shows(pilot, "memory of cuda-0")
        assert names(app) == ["upload"]
        assert "% of it upload" in screen_lines(app)[2]
        await pilot.press("d")
        await shows(pilot, "memory of host")


async def test_another_memory_begins_with_all_threads() -> None:
    device = profile({"upload main": 40, "move main": 7}, domain="cuda-0", threads=2)
    async with shown(Scripted(profile(threads=3), device), waits="all 3 threads") as (_app, pilot):
        await pilot.press("right")
        await shows(pilot, "thread 1 of 3")
        await pilot.press("d")
        await shows(pilot, "memory of cuda-0  all 2 threads")


async def test_space_keeps_what_is_shown_and_the_readings_go_on() -> None:
    source = Scripted(profile())
    async with shown(source) as (app, pilot):
        await pilot.press("space")
        await shows(pilot, "PAUSED")
        source.profiles = [profile({"late main": 3}, 9.0)]
        before, ticks = source.moments, source.ticks
        # Far more than between two refreshes.
        await wait(pilot, lambda: source.ticks >= ticks + 50, "readings go on")
        await pilot.press("o")
        await sorts(pilot, Order.OWN)
        assert source.moments == before
        assert "late" not in screen_text(app)
        await pilot.press("space")
        await shows(pilot, "late")


async def test_l_shows_verdicts_on_leaks() -> None:
    source = Scripted(profile())
    async with shown(source) as (_app, pilot):
        await pilot.press("l")
        await shows(pilot, "leaks so far")
        source.state, source.why = State.ENDED, "signal 9 SIGKILL"
        await shows(pilot, "leaks at the end of the process")
        await pilot.press("q")
        await shows(pilot, "3 functions")


async def test_where_nobody_knows_which_process_took_the_place_several_are_named() -> None:
    async with shown() as (app, pilot):
        app._offer(Restarted(12, others=(13,)))
        await shows(pilot, "2 processes of it run: q, then mem_profiler live PID: 12, 13")
        await pilot.press("r")
        assert app.successor is None


async def test_what_the_profile_lacks_is_said_and_n_shows_it() -> None:
    made = profile()
    source = Scripted(made)
    async with shown(source) as (app, pilot):
        [choices] = [line for line in screen_lines(app) if "3 functions" in line]
        assert "note" not in choices
        await pilot.press("n")
        await shows(pilot, "nothing is missing")
        await pilot.press("n")
        made.capture.notes.append("small [b]objects\x1b are missing")
        await shows(pilot, "1 note: n")
        await pilot.press("n")
        await shows(pilot, "small [b]objects\\x1b are missing")


async def test_w_writes_a_file_and_f_a_page_each_under_a_new_name(tmp_path: Path) -> None:
    source = Scripted(profile())
    async with shown(source, str(tmp_path / "x")) as (app, pilot):
        await pilot.press("w")
        await wait(pilot, lambda: len(app.written) == 1, "the file is written")
        await pilot.press("f")
        await wait(pilot, lambda: len(app.written) == 2, "the page is written")
        await pilot.press("b", "f")
        await wait(pilot, lambda: len(app.written) == 3, "another page is written")
        await pilot.press("W")
        await wait(pilot, lambda: len(app.written) == 4, "what is resident is written")
    assert source.written == [f"{tmp_path}/x.4711.1.{end}heap" for end in ("", "resident.")]
    pages = {name: (tmp_path / name).read_text()[:15] for name in os.listdir(tmp_path)}
    assert pages == {f"x.4711.{k}.flamegraph.html": "<!DOCTYPE html>" for k in (1, 2)}


async def test_a_page_is_of_the_memory_that_is_shown_and_of_what_changed(tmp_path: Path) -> None:
    device = profile({"upload main": 40}, domain="cuda-0")
    source = Scripted(profile(), device)
    async with shown(source, str(tmp_path / "x")) as (app, pilot):
        await pilot.press("f")
        await wait(pilot, lambda: len(app.written) == 1, "the page is written")
        await pilot.press("d")
        await shows(pilot, "memory of cuda-0")
        await pilot.press("f")
        await wait(pilot, lambda: len(app.written) == 2, "the page is written")
        await pilot.press("l")
        await shows(pilot, "leaks so far")
        assert "main → upload" in screen_text(app)
        await pilot.press("l", "escape", "b")
        await shows(pilot, "since mark")
        await pilot.press("f")
        await wait(pilot, lambda: len(app.written) == 3, "the page is written")
    trees = [
        blocks_of((tmp_path / f"x.4711.{k}.flamegraph.html").read_text())["tree"] for k in (1, 2, 3)
    ]
    assert ["upload" in head["functions"] for head, _ in trees] == [False, True, True]
    assert [has_base(columns) for _, columns in trees] == [False, False, True]


async def test_help_names_every_key_that_is_bound() -> None:
    async with shown(waits="") as (app, pilot):
        await pilot.press("question_mark")
        await shows(pilot, "sort by total")
        text = screen_text(app)
        letters = [b.key for b in app.BINDINGS if len(getattr(b, "key", "xx")) == 1]  # type: ignore[union-attr]
        assert len(letters) > 12
        assert [k for k in letters if f"{k} " not in text and f"{k}:" not in text] == []
        await pilot.press("escape")
        await shows(pilot, "3 functions")


async def test_names_of_the_target_are_shown_and_never_obeyed() -> None:
    evil = "[red]\x1b]0;x\x07\u202e[/red]"
    stacks = {f"{evil} main": 30, "parse main": 5}
    async with shown(
        Scripted(profile(stacks, threads=1, comm="\x1b[2J[bold]")),
        waits="\\x1b[2J[bold] (pid 4711)",
        size=(120, 30),
    ) as (app, pilot):
        text = screen_text(app)
        assert "[red]\\x1b]0;x\\x07\\u202e[/red]" in text
        assert "\x1b" not in text
        await pilot.press("down", "enter")
        await shows(pilot, "who called it")
        assert "\x1b" not in screen_text(app)


async def test_the_mouse_sorts_chooses_and_opens() -> None:
    async with shown() as (app, pilot):
        heads = next(k for k, line in enumerate(screen_lines(app)) if "function" in line[40:])
        await pilot.click(offset=Offset(6, heads))
        await sorts(pilot, Order.OWN)
        await pilot.click("#rows", offset=Offset(5, 1))
        await wait(pilot, lambda: chosen(app) == "db_get", "the row is chosen")
        await pilot.click("#rows", offset=Offset(5, 1))
        await shows(pilot, "db_get: who called it")


async def test_the_chosen_function_stays_chosen_where_rows_change_their_places() -> None:
    source = Scripted(profile())
    async with shown(source) as (app, pilot):
        await pilot.press("o", "down")
        await wait(pilot, lambda: names(app)[0] == "net_read", "it is sorted")
        await wait(pilot, lambda: chosen(app) == "db_get", "the second is chosen")
        source.profiles = [profile({"db_get serve main": 90, "net_read serve main": 30}, 2.0)]
        await wait(pilot, lambda: names(app)[0] == "db_get", "the rows have moved")
        assert chosen(app) == "db_get"
        await pilot.press("end", "home", "pagedown", "pageup", "k", "j")
        assert chosen(app) == "net_read"


@pytest.mark.parametrize("size", [(80, 24), (200, 60), (60, 15), (40, 10)])
async def test_every_size_has_its_rows_and_no_line_is_too_long(size: tuple[int, int]) -> None:
    many = {f"function_{k:03} main": 5 + k for k in range(300)}
    async with shown(Scripted(profile(many)), waits="function_299", size=size) as (app, pilot):
        assert max(map(len, screen_lines(app))) <= size[0]
        lines = app.screen_stack[0].query_one("#rows", Lines)
        await pilot.press("home", "pagedown")
        assert 0 < lines.cursor <= lines.size.height
        await pilot.press("o", "end")
        await shows(pilot, "function_000" if size[0] > 60 else "function")
        if size[0] >= 110:
            assert "module" in screen_text(app)


async def test_a_screen_that_changes_its_size_is_drawn_anew() -> None:
    async with shown() as (app, pilot):
        assert "module" not in screen_text(app)
        await pilot.resize_terminal(160, 50)
        await shows(pilot, "module")
        assert len(screen_lines(app)) == 50
        await pilot.resize_terminal(80, 24)
        await wait(pilot, lambda: "module" not in screen_text(app), "the module is gone")
