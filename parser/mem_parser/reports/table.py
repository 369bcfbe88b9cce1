"""The table: one row per function (or line), flat and cum.

flat    allocations of the function itself
cum     it and all it calls; recursion counts once
sum%    the flat percentages added up to this row
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np

from mem_parser.escape import one_line, shell_word
from mem_parser.folds import Folds
from mem_parser.interning import distinct
from mem_parser.libraries.rules import guessed
from mem_parser.model import Count, Profile, Unit
from mem_parser.names import FrameRule
from mem_parser.reports.aggregate import Row, StackSums, rows_of
from mem_parser.reports.device import refusal_lines, remainder
from mem_parser.reports.header import header_lines, nothing_line
from mem_parser.symbols.reasons import why_nameless, why_without_lines
from mem_parser.symbols.table import Role, Symbols
from mem_parser.textwidth import shortened
from mem_parser.units import counted, format_value, percent
from mem_parser.words import joined, phrase

SMALL_SHARE = 0.005
"""Rows below this share of the total, in flat and in cum, are left out unless a number of rows is
asked for.
"""
MAX_NAMELESS_LINES = 5
_NEARLY_ALL = 0.8
_SEVERAL = 3
PACKED_LINE = (
    "the file is packed with gzip; mem_parser convert FILE -o plain.heap converts it for jeprof "
    "and google-pprof"
)


@dataclass(frozen=True, slots=True)
class TableOptions:
    """How the table is made. ``rows`` None: those above `SMALL_SHARE`; 0: all. ``lines``: rows are
    source lines. ``width``: the most columns of a row, whose name is cut; None: it is not.
    ``folds``: as of `mem_parser.reports.aggregate.without_frames`. ``at_length``: notes say all.
    """

    count: Count = Count.INUSE
    unit: Unit = Unit.SPACE
    by_cum: bool = False
    rows: int | None = None
    plain_bytes: bool = False
    rule: FrameRule = FrameRule.PROGRAM
    lines: bool = False
    width: int | None = None
    folds: Folds = Folds.NONE
    at_length: bool = False

    def cut(self, row: str) -> str:
        """Return a row that is no wider than it may be."""
        return row if self.width is None else shortened(row, self.width)


def format_table(
    profile: Profile, symbols: Symbols, sums: StackSums, options: TableOptions
) -> Iterator[str]:
    """Yield the lines of the table, without line ends."""
    total = sums.total
    lines = header_lines(profile, total, options.count, options.unit, plain=options.plain_bytes)
    yield from lines
    if profile.packed:
        yield PACKED_LINE
    if total.samples:
        shown, left_out = ranked(sums, by_cum=options.by_cum, limit=options.rows)
        yield from _format_rows(shown, total.value, options)
        yield from _remainder(profile, options, with_taken=sums.taken is not None)
    else:
        left_out = []
        yield nothing_line(profile, options.count)
        yield from _remainder(profile, options, with_taken=False)
    yield from refusal_lines(profile, symbols, options.rule)
    if total.samples:
        yield from folded_lines(symbols, options.rule)
        yield from nameless_lines(symbols, at_length=options.at_length)
        if options.lines:
            yield from lineless_lines(symbols)
    yield from filter(None, [left_out_line(left_out, options.unit)])


def ranked(
    sums: StackSums, *, by_cum: bool, limit: int | None, owners: bool = False
) -> tuple[list[Row], list[Row]]:
    """Return the rows to show, the largest first, and the hidden ones.

    ``limit`` is the most rows, 0: all; None: those above `SMALL_SHARE` of the total. ``owners``:
    with a limit only functions that have blocks of their own are shown.
    """

    def order(row: Row) -> tuple[float, float, str]:
        first, second = (row.cum, row.flat) if by_cum else (row.flat, row.cum)
        return -first.value, -second.value, row.name

    rows = sorted(rows_of(sums), key=order)
    if limit == 0:
        return rows, []
    least = 0.0 if limit else SMALL_SHARE * sums.total.value
    large = [
        max(row.flat.value, row.cum.value) >= least and (not owners or row.flat.samples > 0)
        for row in rows
    ]
    shown, hidden = list(compress(rows, large)), list(compress(rows, (not x for x in large)))
    number = limit or len(shown)
    return shown[:number], shown[number:] + hidden


def left_out_line(rows: list[Row], unit: Unit) -> str:
    """Return the text about the ``rows`` that `ranked` left out; empty without any."""
    callers = sum(not r.flat.samples for r in rows)
    flat = format_value(sum(r.flat.value for r in rows), unit)
    return hidden_line(len(rows) - callers, callers, flat)


def hidden_line(smaller: int, callers: int, own: str = "") -> str:
    """Return the text about so many hidden rows: ``smaller`` ones, which ``own`` so much, and
    ``callers`` of functions that own something; empty without any.
    """
    worth = f" ({own})" if own else ""
    rows = counted(smaller, "smaller row")
    if not callers:
        text = phrase("{rows} hidden{worth}. Use -n 0 to show all.", rows=rows, worth=worth)
        return text if smaller else ""
    return phrase(
        "{rows}{callers} without own memory hidden. Use -n 0 to show all.",
        rows=phrase("{rows}{worth} and ", rows=rows, worth=worth) if smaller else "",
        callers=counted(callers, "caller"),
    )


def _format_rows(rows: list[Row], total: float, options: TableOptions) -> Iterator[str]:
    def text(value: float) -> str:
        if options.plain_bytes:
            return f"{value:.0f}"
        return format_value(value, options.unit)

    def share(value: float) -> str:
        # One word for scripts, as jeprof prints it.
        return percent(value, total).replace(" ", "")

    with_taken = options.unit is Unit.SPACE and any(row.flat_taken is not None for row in rows)
    head = f" {'taken':>10}" if with_taken else ""
    yield f"{'flat':>10} {'flat%':>7} {'sum%':>7} {'cum':>10} {'cum%':>7}{head}  name"
    running = 0.0
    for row in rows:
        running += row.flat.value
        flat, cum = row.flat.value, row.cum.value
        taken = f" {text(row.flat_taken or 0.0):>10}" if with_taken else ""
        yield options.cut(
            f"{text(flat):>10} {share(flat):>7} {share(running):>7} "
            f"{text(cum):>10} {share(cum):>7}{taken}  {row.name}"
        )


def _remainder(profile: Profile, options: TableOptions, *, with_taken: bool) -> Iterator[str]:
    """Yield the row of the device's memory beyond the rows; it is not part of their total."""
    rest = remainder(profile) if options.count is Count.INUSE else None
    if rest is None or options.unit is not Unit.SPACE:
        return
    value = f"{rest.bytes:.0f}" if options.plain_bytes else format_value(rest.bytes, options.unit)
    filler = f"{'-':>7} {'-':>7} {'-':>10} {'-':>7}" + (f" {'-':>10}" if with_taken else "")
    yield f"{value:>10} {filler}  {rest.name}"


def folded_lines(symbols: Symbols, rule: FrameRule) -> Iterator[str]:
    """Yield which functions are wrappers by their stacks alone, or by a name that says no more than
    that, so that nobody looks for them in vain.
    """
    if rule is not FrameRule.PROGRAM:
        return
    if symbols.passing:
        yield phrase(
            "counted for their callers, to whom they pass all they allocate: {names}{more}",
            **_listed(symbols.passing),
        )
    shapes = set(symbols.passing)
    names = list(dict.fromkeys(f.name for f in guessed(symbols.functions) if f.name not in shapes))
    if names:
        yield phrase(
            "named like malloc, so counted for their callers: {names}{more};"
            " program = {pattern} in .mem_parser.toml keeps one",
            **_listed(names),
            pattern=f'["^{one_line(re.escape(names[0]))}$"]',
        )


def _listed(names: Sequence[str]) -> dict[str, str]:
    """Return the first of ``names``, and how many more there are."""
    more = len(names) - MAX_NAMELESS_LINES
    return {
        "names": ", ".join(one_line(name) for name in names[:MAX_NAMELESS_LINES]),
        "more": phrase(" and {number} more", number=more) if more > 0 else "",
    }


def wrapper_line(symbols: Symbols, sums: StackSums) -> str:
    """Return how to see the callers of the function that owns nearly all by one call of malloc;
    empty where there is none, or where its callers are few. ``symbols`` have the stacks of
    ``sums`` (by function), innermost first.
    """
    begin, end = sums.offsets[:-1], sums.offsets[1:]
    first = sums.keys[begin]
    own = np.bincount(first, weights=sums.values, minlength=len(sums.names))
    most = int(own.argmax())
    if own[most] <= _NEARLY_ALL * sums.total.value:
        return ""
    stack = np.flatnonzero((first == most) & (sums.samples > 0))
    places = [symbols.locations[k] for k in distinct(symbols.locations_of_stack[begin[stack]])]
    inner = symbols.functions[places[0].function]
    called = stack[end[stack] - begin[stack] > 1]
    outer = distinct(symbols.function_of_location[symbols.locations_of_stack[begin[called] + 1]])
    callers = [f for f in map(symbols.functions.__getitem__, outer) if f.role is Role.PROGRAM]
    names = {f.name for f in callers} - {inner.name}
    lines = {(place.file, place.line, place.offset) for place in places}
    if len(names) < _SEVERAL or len(lines) > 1 or not inner.known or inner.python:
        return ""
    option = shell_word(f"^{re.escape(inner.name)}$")
    return phrase(
        "{function} may be a wrapper: --library {pattern} charges its callers",
        function=one_line(inner.name),
        pattern=option,
    )


def nameless_lines(symbols: Symbols, *, at_length: bool = False) -> Iterator[str]:
    """Yield which modules have addresses without names, and the cure where it is known;
    ``at_length`` why, and every cure.
    """
    counts = sorted(symbols.modules_without_names.items(), key=lambda item: (-item[1], item[0]))
    broken = {p.module for p in symbols.problems if p.names_missing}
    shown = [(m, n) for m, n in counts if m not in broken]
    module, program = symbols.program
    found = [(program if m == module else m.rsplit("/", 1)[-1], n) for m, n in shown]
    if found:
        named = ", ".join(f"{name} ({n})" for name, n in found[:MAX_NAMELESS_LINES])
        more = len(found) - MAX_NAMELESS_LINES
        yield phrase(
            "Functions without a name: {names}{more}. --start-frames shows each by its address.",
            names=named,
            more=phrase(" and {number} more", number=more) if more > 0 else "",
        )
        paths = [m for m, _ in shown[:MAX_NAMELESS_LINES]]
        reasons = why_nameless(paths, at_length=at_length, program=symbols.program)
        yield from (joined("", ["  ", w]) for w in reasons)


def lineless_lines(symbols: Symbols) -> Iterator[str]:
    """Yield why functions that have names have no source lines, where that is known."""
    counts: Counter[str] = Counter()
    shown = np.bincount(symbols.locations_of_stack, minlength=len(symbols.locations))
    for k in np.flatnonzero(shown).tolist():
        location = symbols.locations[k]
        function = symbols.functions[location.function]
        if function.known and function.module and not (location.line or function.python):
            counts[function.module] += 1
    paths = [path for path, _ in counts.most_common(MAX_NAMELESS_LINES)]
    yield from why_without_lines(paths)
