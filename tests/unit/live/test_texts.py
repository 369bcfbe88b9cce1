"""How the live view spells numbers and lines, at each width."""

from __future__ import annotations

import dataclasses
import re

import pytest

from live_views import profile, view_model
from mem_cli.live import texts
from mem_cli.live.app import HINTS
from mem_cli.live.braille import Series
from mem_cli.live.pages import key_lines
from mem_cli.live.screen_state import HEAP, Graph, Part, ScreenState, Situation
from mem_cli.live.view_options import ViewOptions
from mem_parser import textwidth
from mem_parser.estimate import Estimate, Unseen
from mem_parser.live.totals import Order, Row
from mem_parser.model import Unit
from mem_parser.reports.opening import Sentence
from mem_parser.units import format_bytes, format_margin
from mem_profiler.live.watched import Moment, State

FEW = Estimate(80_000.0, 400.0, 3, Unseen(1024.0))


def picture(pid: int = 0, threads: int = 0) -> ScreenState:
    made = profile(threads=threads)
    view = view_model()
    view.take(Moment(1, 1.0, State.CAPTURED, [made], pid))
    found = view.picture(ViewOptions(), Situation(State.CAPTURED))
    assert found is not None
    return found


def test_an_interval_of_two_ends_that_has_no_room_is_the_further_one_on_both_sides() -> None:
    whole = format_margin(FEW, Unit.SPACE)
    assert whole.startswith("(")
    row = Row("f", "m", "f.c", FEW, FEW, 3.0)
    narrow = [texts.Column("total", 10), texts.Column("±", 11)]
    wide = [texts.Column("total", 10), texts.Column("±", 20)]
    further = format_bytes(FEW.margin95)
    assert texts.row_cells(row, narrow, Order.TOTAL)[1].strip() == f"± {further}"
    assert texts.row_cells(row, wide, Order.TOTAL)[1].strip() == whole


@pytest.mark.parametrize("width", [40, 60, 80, 120, 400])
def test_hints_are_whole_and_the_way_out_is_among_them(width: int) -> None:
    line = texts.as_many(HINTS, width)
    assert len(line) <= width
    assert line.startswith("? keys  q leave")
    assert set(line.split("  ")) <= set(HINTS)


def test_heads_and_hints_are_in_the_users_language(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    monkeypatch.setenv("LANGUAGE", "")
    for marked in (True, False):
        shown = texts.columns(160, Order.OWN, marked=marked)
        heads = [head.strip() for head, _ in texts.head_line(shown, Order.OWN)]
        assert not any(head.isascii() for head in heads), heads
    hints = texts.as_many(HINTS, 400).split("  ")
    assert len(hints) == len(HINTS)
    assert not any(hint.isascii() for hint in hints), hints
    assert not any(line.isascii() for line in key_lines() if line)
    whole = Estimate(8e4, 400.0, 3, Unseen(1024.0))
    options = ViewOptions(pattern="f", module="/lib/m.so", thread=picture(threads=2).threads[1].key)
    part = dataclasses.replace(
        picture(threads=2), marked_s=7.0, allocated_per_s=2.0, options=options,
        part=Part(3, whole, whole, whole), situation=Situation(State.ENDED), notes=["note"],
    )  # fmt: skip
    lines = [texts.title(part.head, 200), texts.totals_line(part, 200), texts.summary(part)]
    lines += [texts.choice_line(one, paused=True, width=200) for one in (part, picture())]
    lines += [texts.too_small(3, 3), texts.graph_title(Graph(HEAP, "1 B", Series([], [])), 20)]
    names = f"KiB MiB pid m.so {part.head.program} {part.head.allocator} {part.threads[1].name}"
    for line in lines:
        assert {*re.findall("[A-Za-z]{2,}", line)} <= {*re.findall("[A-Za-z]{2,}", names)}, line


def test_a_process_has_the_number_that_it_has_here() -> None:
    assert "(pid 777)" in texts.title(picture(777).head, 80)
    assert "(pid 4711)" in texts.title(picture().head, 80)


def test_the_first_line_keeps_its_clock_at_each_width() -> None:
    head = picture().head
    assert texts.title(head, 80).endswith("  captured 0:00:01")
    assert len(texts.title(head, 80)) == 80
    assert texts.title(head, 40).endswith("… 0:00:01")


@pytest.mark.parametrize("width", [40, 60, 80])
@pytest.mark.parametrize("most", [1, 2, 3])
def test_verdicts_are_whole_and_have_no_more_lines_than_there_are(width: int, most: int) -> None:
    long = Sentence("leak", f"1 leak, 2.6 GiB/h ± 0.1, in {'Session' * 4}::open, registry.cc:18")
    short = Sentence("in use", "in use 5.245 MiB +0.0036")
    found = texts.verdict_lines([long, short, short], width, most)
    lines = [line for line, _ in found]
    assert 0 < len(lines) <= most
    assert max(map(len, lines)) <= width
    fits = {40: 3, 60: 2, 80: 1}[width]
    assert lines[-1].endswith("…") is (fits > most)
    assert lines.count(short.text) == min(max(most - fits, 0), 2)
    assert [kind for _, kind in found][:fits] == ["leak"] * min(fits, most)


@pytest.mark.parametrize("width", [40, 60, 80])
def test_wide_names_take_two_columns_of_a_line(width: int) -> None:
    """A terminal would wrap a longer line, and push the last one off the screen."""
    wide = "读取配置文件并且分配内存" * 2
    head = dataclasses.replace(picture().head, program=wide)
    long = Sentence("leak", f"3 leaks, 528.3 MiB/h ± 12 MiB/h, in {wide}, x.cc:21; and 1 more")
    lines = [line for line, _ in texts.verdict_lines([long], width, 2)]
    for line in [texts.title(head, width), *lines]:
        assert textwidth.width(line) <= width
    assert lines[-1].endswith("…") is (width == 40)


def test_functions_that_are_left_out_are_said_as_far_as_there_is_room() -> None:
    def line(width: int) -> str:
        marked = dataclasses.replace(picture(), marked_s=7.0)
        return texts.choice_line(marked, paused=True, width=width)

    assert ", 2 callers without own memory hidden: t  mark" in line(110)
    assert ", 2 callers hidden: t  mark 0:00:07 ago" in line(80)
    assert line(50).startswith("all threads  3 functions  mark 0:00:07 ago")
    assert all(line(width).endswith("PAUSED") for width in (110, 80, 50))


def test_one_thread_is_not_called_all() -> None:
    def line(of: ScreenState) -> str:
        return texts.choice_line(of, paused=False, width=80)

    assert line(picture(threads=1)).startswith("1 thread  3 functions")
    assert line(picture(threads=2)).startswith("all 2 threads")
    assert line(picture()).startswith("all threads")
    ended = dataclasses.replace(picture(), situation=Situation(State.ENDED))
    assert line(ended).endswith("ended")
