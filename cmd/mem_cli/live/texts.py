"""Format the live view's numbers: pure functions from a screen state to lines of text.

Each text that comes from the target passes `one_line` here, once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mem_cli.live.screen_state import HEAP, Graph, Head, Part, ScreenState
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
from mem_parser.words import phrase, plural, shown
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
_STATES = {State.CAPTURED: "", State.IDLE: phrase("no capture runs"), State.ENDED: phrase("ended")}


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
    margin = Column("±", 15)
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
    left.append(shown(phrase("1 sample / {size}", size=format_rate(head.rate_bytes))))
    text, right = "  ".join(left), shown(phrase("captured {time}", time=clock(head.t_s)))
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
        phrase("in use {size}", size=format_estimate(head.live, Unit.SPACE)),
        _peak(head),
    ]
    if picture.allocated_per_s is not None:
        facts.append(phrase("{size}/s allocated", size=format_bytes(picture.allocated_per_s)))
    facts, right = shown(facts), shown(_samples(head))

    # A truncated number is wrong, so the least important ones are dropped whole.
    def fits() -> bool:
        return textwidth.width("  ".join([*facts, right])) < width

    while len(facts) > 1 and not fits():
        facts.pop()
    return _spread("  ".join(facts), right if fits() else "", width)


def _peak(head: Head) -> str:
    return phrase("peak {size}", size=format_estimate(head.highest, Unit.SPACE))


def _samples(head: Head) -> str:
    samples = counted(head.samples, "sample")
    return phrase("{samples}, {number} lost", samples=samples, number=f"{head.lost:,}")


def too_small(columns: int, lines: int) -> str:
    """Return the text for a screen without room for anything else."""
    said = phrase(
        "too small: {columns} x {lines}\nneeded: {least} columns, {few} lines\nq leaves",
        columns=columns, lines=lines, least=LEAST_COLUMNS, few=LEAST_LINES,
    )  # fmt: skip
    return str(shown(said))


def choice_line(picture: ScreenState, *, paused: bool, width: int) -> str:
    """Return the line above the table: the kind of rows, and the comparison."""
    options = picture.options
    facts = [_threads(picture)]
    if len(picture.domains) > 1:
        names = {place.key: place.name for place in picture.domains}
        facts.insert(0, phrase("memory of {name}", name=one_line(names[options.domain])))
    marked_s = picture.marked_s
    mark = [] if marked_s is None else [phrase("mark {time} ago", time=clock(marked_s))]
    notes = phrase("{notes}: n", notes=counted(len(picture.notes), "note"))
    said = (
        _STATES[picture.situation.state],
        phrase("PAUSED") if paused else "",
        notes if picture.notes else "",
    )
    right = "  ".join(filter(None, shown(said)))
    if picture.part is not None:
        facts.append(_part(picture, picture.part, wide=width >= WIDE))
        return _spread("  ".join(shown([*facts, *mark])), right, width)
    text = ""
    for functions in _functions(len(picture.rows), picture.callers):
        text = "  ".join(shown([*facts, functions, *mark]))
        if textwidth.width(text) + 1 + len(right) <= width:
            break
    return _spread(text, right, width)


def _functions(rows: int, left_out: int) -> Iterator[str]:
    """Yield how many functions there are and how many are left out, with the key that shows these,
    ever shorter.
    """
    functions, callers = counted(rows, "function"), counted(left_out, "caller")
    if left_out:
        told = {"functions": functions, "callers": callers}
        yield phrase("{functions}, {callers} without own memory hidden: t", **told)
        yield phrase("{functions}, {callers} hidden: t", **told)
    yield functions


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
    pattern = f" /{one_line(options.pattern)}/" if options.pattern else ""
    module = one_line(options.module.rsplit("/", 1)[-1]) if options.module else ""
    shares = {}
    for name, what in (("own", part.own), ("total", part.total)):
        share = percent(what.value, part.whole.value)
        shares[name] = f"{format_estimate(what, Unit.SPACE)} ({share})" if wide else share
    return phrase(
        "{number} of {functions}{pattern}{module}: own {own}, total {total}",
        number=len(picture.rows),
        functions=counted(part.all_rows, "function"),
        pattern=pattern,
        module=phrase(" in {module}", module=module) if module else "",
        **shares,
    )


def _threads(picture: ScreenState) -> str:
    chosen, count = picture.options.thread, len(picture.threads)
    for k, place in enumerate(picture.threads, 1):
        if place.key == chosen:
            told = {"thread": k, "number": count, "name": one_line(place.name)}
            return phrase("thread {thread} of {number}: {name}", **told)
    return plural("1 thread", "all {number} threads", count) if count else phrase("all threads")


def graph_title(graph: Graph, width: int) -> str:
    """Return the line above a graph."""
    named = shown(phrase("heap")) if graph.title == HEAP else one_line(graph.title)
    return _spread(named, graph.now, width)


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
    said = phrase(
        "watched {name} (pid {pid}) for {time}: {peak}, {samples}",
        name=name, pid=head.pid, time=clock(head.t_s), peak=_peak(head), samples=_samples(head),
    )  # fmt: skip
    return str(shown(said))
