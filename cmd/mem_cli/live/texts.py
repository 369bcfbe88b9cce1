"""Format the live view's numbers: pure functions from a screen state to lines of text.

Each text that comes from the target passes `one_line` here, once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mem_cli.live.screen_state import Graph, Head, Part, ScreenState
from mem_parser import textwidth
from mem_parser.escape import one_line
from mem_parser.estimate import Estimate
from mem_parser.live.totals import Order, Row
from mem_parser.model import Unit
from mem_parser.programname import other_file
from mem_parser.reports.opening import Sentence
from mem_parser.units import (
    counted,
    format_bytes,
    format_change,
    format_estimate,
    format_margin,
    format_rate,
    format_value,
    percent,
)
from mem_parser.words import phrase, shown
from mem_profiler.live.watched import State

WIDE = 110
"""From so many columns on rows have their module, and both numbers their errors."""
LEAST_COLUMNS, LEAST_LINES = 40, 10
"""Of a terminal on which there is room for the view."""
_LEAST_NAME = 18
_HEADS = {
    "own": phrase("own"), "total": phrase("total"), "blocks": phrase("blocks"), "±": "±",
    "since mark": phrase("since mark"), "allocated/s": phrase("allocated/s"),
    "function": phrase("function"), "module": phrase("module"),
}  # fmt: skip
_STATES = {State.CAPTURED: "", State.IDLE: "no capture runs", State.ENDED: "ended"}


@dataclass(frozen=True)
class Column:
    """One column of the table. ``order``: the sort order after a click on its head."""

    head: str
    width: int
    order: Order | None = None
    right: bool = True


def columns(width: int, order: Order, *, marked: bool) -> list[Column]:
    """Return the columns that fit into ``width``; the last but the module takes what is left.

    On a narrow screen the name of a function comes before the less important numbers.
    """
    found = _columns(width, order, marked=marked)
    for head in ("allocated/s", "blocks", "±", "own" if order is Order.TOTAL else "total"):
        if found[-1].width < _LEAST_NAME and width < WIDE:
            gone = [c for c in found if c.head == head]
            name = found[-1].width + sum(c.width + 1 for c in gone)
            found = [c for c in found[:-1] if c not in gone]
            found.append(Column("function", name, right=False))
    return found


def _columns(width: int, order: Order, *, marked: bool) -> list[Column]:
    wide = width >= WIDE
    margin = Column("±", 11)
    found = [Column("own", 10, Order.OWN)]
    if wide or order is not Order.TOTAL:
        found.append(margin)
    found.append(Column("total", 10, Order.TOTAL))
    if wide or order is Order.TOTAL:
        found.append(margin)
    found += [Column("blocks", 8, Order.BLOCKS)]
    if marked:
        found.append(Column("since mark", 20, Order.GROWTH))
    if wide or not marked:
        found.append(Column("allocated/s", 12))
    rest = width - sum(c.width + 1 for c in found)
    module = min(rest // 3, 28) if wide else 0
    name = rest - (module + 1 if module else 0)
    found.append(Column("function", name, right=False))
    if module:
        found.append(Column("module", module, right=False))
    return found


def head_line(fitting: Sequence[Column], order: Order) -> list[tuple[str, bool]]:
    """Return the heads of the table, each with whether rows are sorted by it."""
    return [(_cell(c, f"{shown(_HEADS[c.head])}{'▼' if c.order is order else ''}"),
             c.order is order) for c in fitting]  # fmt: skip


def row_cells(row: Row, shown: Sequence[Column], order: Order) -> list[str]:
    """Return the cells of one row, as wide as their columns. What changed since the mark is what
    rows are sorted by: the total, else the own.
    """
    by_total = order is Order.TOTAL
    cells = []
    last = row.own
    for column in shown:
        text = ""
        if column.head == "own":
            last, text = row.own, format_bytes(row.own.value)
        elif column.head == "total":
            last, text = row.total, format_bytes(row.total.value)
        elif column.head == "±":
            text = _margin(last, column.width)
        elif column.head == "blocks":
            text = format_value(row.blocks, Unit.OBJECTS)
        elif column.head == "since mark":
            text = _growth(row.total_growth if by_total else row.growth)
        elif column.head == "allocated/s":
            text = "-" if row.rate is None else _per_s(row.rate.value)
        elif column.head == "function":
            text = one_line(row.name)
        else:
            text = one_line(row.module.rsplit("/", 1)[-1])
        cells.append(_cell(column, text))
    return cells


def _margin(estimate: Estimate, width: int) -> str:
    """Return the interval of a number; if both ends do not fit, the further one for both."""
    text = format_margin(estimate, Unit.SPACE)
    return text if len(text) <= width else f"± {format_bytes(estimate.margin95)}"


def _growth(growth: Estimate | None) -> str:
    if growth is None:
        return "-"
    if not growth.samples:
        return ""
    if abs(growth.value) < 0.5 and math.isfinite(growth.margin95):
        return f"0 ± {format_bytes(growth.margin95)}"
    return f"{format_change(growth.value, Unit.SPACE)} {format_margin(growth, Unit.SPACE)}".rstrip()


def _per_s(value: float) -> str:
    return f"{format_bytes(value)}/s" if value >= 0.5 else ""


def _cell(column: Column, text: str) -> str:
    from rich.cells import cell_len, set_cell_size

    width = column.width
    length = cell_len(text)
    if length > width:
        return f"{set_cell_size(text, width - 1)}…"
    blanks = " " * (width - length)
    return f"{blanks}{text}" if column.right else f"{text}{blanks}"


def title(head: Head, width: int) -> str:
    """Return the first line: the process, its sampling rate, and the time."""
    file = other_file(head.program, head.exe)
    facts = ", ".join(filter(None, (f"pid {head.pid}", file)))
    left = [f"{one_line(head.program) or '?'} ({facts})"]
    if head.allocator:
        left.append(one_line(head.allocator))
    left.append(f"1 sample / {format_rate(head.rate_bytes)}")
    text, right = "  ".join(left), f"captured {clock(head.t_s)}"
    if textwidth.width(text) + 1 + len(right) > width:
        right = clock(head.t_s)
    return _spread(text, right, width)


def clock(seconds: float) -> str:
    """Return a time such as `1:05:09`."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def totals_line(picture: ScreenState, width: int) -> str:
    """Return the second line: heap in use, its highest, samples and losses."""
    head = picture.head
    facts = [
        f"in use {format_estimate(head.live, Unit.SPACE)}",
        f"peak {format_estimate(head.highest, Unit.SPACE)}",
    ]
    if picture.allocated_per_s is not None:
        facts.append(f"{format_bytes(picture.allocated_per_s)}/s allocated")
    right = f"{counted(head.samples, 'sample')}, {head.lost:,} lost"
    # A truncated number is wrong, so the least important ones are dropped whole.
    while len(facts) > 1 and len("  ".join(facts)) + 1 + len(right) > width:
        facts.pop()
    text = "  ".join(facts)
    return _spread(text, right if len(text) + 1 + len(right) <= width else "", width)


def too_small(columns: int, lines: int) -> str:
    """Return the text for a screen without room for anything else."""
    need = f"{LEAST_COLUMNS} columns, {LEAST_LINES} lines"
    return f"too small: {columns} x {lines}\nneeded: {need}\nq leaves"


def choice_line(picture: ScreenState, *, paused: bool, width: int) -> str:
    """Return the line above the table: the kind of rows, and the comparison."""
    options = picture.options
    facts = [_threads(picture)]
    if len(picture.domains) > 1:
        names = {place.key: place.name for place in picture.domains}
        facts.insert(0, f"memory of {one_line(names[options.domain])}")
    mark = "" if picture.marked_s is None else f"  mark {clock(picture.marked_s)} ago"
    state = _STATES[picture.situation.state]
    notes = f"{counted(len(picture.notes), 'note')}: n" if picture.notes else ""
    right = "  ".join(filter(None, (state, "PAUSED" if paused else "", notes)))
    if picture.part is not None:
        facts.append(_part(picture, picture.part, wide=width >= WIDE))
        return _spread("  ".join(facts) + mark, right, width)
    facts.append(counted(len(picture.rows), "function"))
    text = ""
    for hidden in _callers(picture.callers):
        text = "  ".join(facts) + hidden + mark
        if textwidth.width(text) + 1 + len(right) <= width:
            break
    return _spread(text, right, width)


def _callers(count: int) -> Sequence[str]:
    """Return how many functions are left out, with the key that shows them, ever shorter."""
    if not count:
        return ("",)
    callers = counted(count, "caller")
    return f", {callers} without own memory hidden: t", f", {callers} hidden: t", ""


def verdict_lines(verdicts: Sequence[Sentence], width: int, most: int) -> list[tuple[str, str]]:
    """Return the first sentences, whole, in at most ``most`` lines, each with its kind; only the
    first one is cut where it alone takes more.
    """
    found: list[tuple[str, str]] = []
    for one in verdicts:
        lines = textwidth.wrapped(one_line(one.text), width, "  ") or [""]
        if found and len(found) + len(lines) > most:
            break
        if len(lines) > most:
            lines = [*lines[: most - 1], f"{textwidth.cut(lines[most - 1], width - 1)}…"]
        found += [(textwidth.shortened(line, width), one.kind) for line in lines]
    return found


def _part(picture: ScreenState, part: Part, *, wide: bool) -> str:
    """Return the filter of functions, and their share of the total."""
    options = picture.options
    text = f"{len(picture.rows)} of {counted(part.all_rows, 'function')}"
    if options.pattern:
        text += f" /{one_line(options.pattern)}/"
    if options.module:
        text += f" in {one_line(options.module.rsplit('/', 1)[-1])}"
    shares = []
    for name, what in (("own", part.own), ("total", part.total)):
        share = percent(what.value, part.whole.value)
        both = f"{format_estimate(what, Unit.SPACE)} ({share})"
        shares.append(f"{name} {both if wide else share}")
    return f"{text}: {', '.join(shares)}"


def _threads(picture: ScreenState) -> str:
    chosen = picture.options.thread
    for k, place in enumerate(picture.threads, 1):
        if place.key == chosen:
            return f"thread {k} of {len(picture.threads)}: {one_line(place.name)}"
    count = len(picture.threads)
    if count < 2:
        return "1 thread" if count else "all threads"
    return f"all {count} threads"


def graph_title(graph: Graph, width: int) -> str:
    """Return the line above a graph."""
    return _spread(one_line(graph.title), graph.now, width)


def as_many(words: Sequence[str], width: int) -> str:
    """Return as many of the words as fit into a line, two blanks apart."""
    line = ""
    for word in shown(words):
        longer = f"{line}  {word}" if line else word
        if textwidth.width(longer) > width:
            break
        line = longer
    return line


def _spread(left: str, right: str, width: int) -> str:
    """Return a line with ``right`` at its end, if there is room, and ``left`` cut."""
    free = width - textwidth.width(left) - textwidth.width(right)
    if free >= 1:
        return f"{left}{' ' * free}{right}"
    room = width - textwidth.width(right) - 2
    if right and room >= 8:
        return f"{textwidth.cut(left, room)}… {right}"
    return textwidth.cut(left, width)


def summary(picture: ScreenState) -> str:
    """Return the last lines, printed when the viewer leaves."""
    head = picture.head
    name = one_line(head.program) or "?"
    highest = format_estimate(head.highest, Unit.SPACE)
    return (
        f"watched {name} (pid {head.pid}) for {clock(head.t_s)}: peak {highest},"
        f" {counted(head.samples, 'sample')}, {head.lost:,} lost"
    )
