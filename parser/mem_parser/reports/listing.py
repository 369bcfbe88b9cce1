"""`list`: source lines of one function with their allocations.

Lines come from the debug information of the modules, those of Python's functions from the profile;
their text from `mem_parser.reports.sourcefiles`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mem_parser.escape import one_line
from mem_parser.estimate import Estimate
from mem_parser.interning import distinct
from mem_parser.model import IntArray
from mem_parser.reports.aggregate import StackSums, add_up, estimate
from mem_parser.reports.grid import Block, Column, Grid, Record, amounts, numbers
from mem_parser.reports.peek import chosen_rows
from mem_parser.reports.sourcefiles import SourceFiles, Sources
from mem_parser.reports.view import View
from mem_parser.symbols.table import Symbols
from mem_parser.units import format_value

CONTEXT = 2
"""Lines shown around each line that allocated."""
MOST_FUNCTIONS = 5


@dataclass(frozen=True, slots=True)
class Line:
    """One source line; ``flat`` are its own allocations, ``cum`` includes those of its callees."""

    number: int
    flat: Estimate
    cum: Estimate


@dataclass(frozen=True, slots=True)
class Listing:
    """One function in one file. ``file`` is empty and the only line 0 if they are unknown.

    ``text`` has the lines of the source, or None; ``problem`` says why.
    """

    function: str
    file: str
    module: str
    flat: Estimate
    cum: Estimate
    lines: list[Line]
    text: list[str] | None
    problem: str


def listing(view: View, function: str, sources: Sources) -> list[Listing]:
    """Return the functions called ``function``, or that it matches, the heaviest first.

    Raises `UsageProblem` if there is none.
    """
    chosen = {r.name: r for r in chosen_rows(view.sums(), function)}
    symbols = view.symbols
    wanted: dict[tuple[str, str], list[int]] = {}
    for k, location in enumerate(symbols.locations):
        name = symbols.functions[location.function].name
        if name in chosen:
            wanted.setdefault((name, location.file if location.line else ""), []).append(k)
    files = SourceFiles(sources, view.profile.modules)
    found = [_list(view, name, file, members, files) for (name, file), members in wanted.items()]
    kept = [x for x in found if x.cum.samples]
    return sorted(kept, key=lambda x: (-x.cum.value, x.function, x.file))


def _list(view: View, name: str, file: str, members: list[int], files: SourceFiles) -> Listing:
    symbols = view.symbols
    line_of = np.full(len(symbols.locations), -1, dtype=np.int64)
    line_of[members] = [symbols.locations[k].line if file else 0 for k in members]
    sums = view.sums()
    lines = add_up_lines(symbols, sums, line_of)
    whole = add_up_lines(symbols, sums, np.where(line_of >= 0, 0, -1))
    function = symbols.functions[symbols.locations[members[0]].function]
    missing = "the debug information of its module holds no lines"
    text, problem = None, "the profile holds no lines of it" if function.python else missing
    if file:
        text, problem = files.read(function, file)
    nothing = Estimate(0.0)
    return Listing(
        name,
        file,
        function.module,
        whole[0].flat if whole else nothing,
        whole[0].cum if whole else nothing,
        lines,
        text,
        problem,
    )


def add_up_lines(symbols: Symbols, sums: StackSums, line_of: IntArray) -> list[Line]:
    """Add up stacks by the lines on them; ``line_of`` a location is the number of its line, or -1
    if it does not count.
    """
    line = line_of[symbols.locations_of_stack]
    place = np.flatnonzero(line >= 0)
    if not len(place):
        return []
    stack = (np.searchsorted(symbols.offsets, place, side="right") - 1).astype(np.int64)
    width = int(line.max()) + 1
    pairs = distinct(stack * width + line[place])
    leaf = symbols.offsets[stack] == place
    cum = add_up(sums, pairs // width, pairs % width)
    flat = add_up(sums, stack[leaf], line[place[leaf]])
    nothing = estimate(0.0, 0.0, 0.0, sums)
    return [Line(k, flat.get(k, nothing), total) for k, total in cum.items() if total.samples]


def blocks(view: View, found: list[Listing]) -> Iterator[Block]:
    """Yield the report for people."""
    yield from view.header
    unit = view.filters.unit
    for one in found[:MOST_FUNCTIONS]:
        title = f"{one.function}   {one_line(one.file)}".rstrip()
        columns = (
            Column("own"),
            Column("total"),
            Column("line"),
            Column("source", right=False, flexible=True),
        )
        shown = _shown_numbers(one)
        known = {x.number: x for x in one.lines}
        flat = amounts((x.flat for x in one.lines), unit)
        cum = amounts((x.cum for x in one.lines), unit)
        position = {x.number: k for k, x in enumerate(one.lines)}
        rows: list[tuple[str, ...]] = []
        before = None
        for number in shown:
            if before is not None and number != before + 1:
                rows.append(("", "", "⋮", ""))
            before = number
            k = position.get(number)
            text = _source_line(one, number)
            value = ("", "") if k is None else (flat[k] if known[number].flat.value else "", cum[k])
            rows.append((*value, str(number) if number else "?", text))
        yield Grid(columns, list(rows), title)
        if one.problem:
            yield one.problem
        yield (
            f"{format_value(one.flat.value, unit)} own, {format_value(one.cum.value, unit)} total "
            f"in this function"
        )
    if len(found) > MOST_FUNCTIONS:
        yield f"{len(found) - MOST_FUNCTIONS} more functions match: give a narrower FUNCTION"


def _shown_numbers(one: Listing) -> list[int]:
    if one.text is None:
        return [x.number for x in one.lines]
    last = max(len(one.text), *(x.number for x in one.lines))
    near = {
        n
        for x in one.lines
        for n in range(max(x.number - CONTEXT, 1), min(x.number + CONTEXT, last) + 1)
    }
    return sorted(near)


def _source_line(one: Listing, number: int) -> str:
    if one.text is None or not 0 < number <= len(one.text):
        return ""
    return one.text[number - 1]


def records(found: list[Listing]) -> list[Record]:
    """Return the functions for programs, with the lines that allocated."""
    return [
        {"function": one.function, "file": one.file, "module": one.module}
        | numbers("flat", one.flat)
        | numbers("cum", one.cum)
        | {
            "lines": [
                {"line": x.number or None, "text": _source_line(one, x.number) or None}
                | numbers("flat", x.flat)
                | numbers("cum", x.cum)
                | {"samples": x.cum.samples}
                for x in one.lines
            ],
            "problem": one.problem or None,
        }
        for one in found
    ]
