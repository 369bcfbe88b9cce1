"""`list --sarif`: allocations by source line, as notes for editors.

Lines are those of the program's own functions: a library's allocations are charged to the line that
calls it, as in every report. A line in several functions (inlined, or a template's) counts as one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mem_parser import sarif
from mem_parser.escape import sarif_text
from mem_parser.frames import Frame
from mem_parser.reports.grid import numbers
from mem_parser.reports.header import WHICH
from mem_parser.reports.listing import Line, add_up_lines
from mem_parser.reports.peek import chosen_rows
from mem_parser.reports.table import SMALL_SHARE
from mem_parser.reports.view import View
from mem_parser.symbols.table import Role
from mem_parser.units import format_estimate, percent

MOST_LINES = 5000
"""Lines of one file, the heaviest: an editor shows them all at once."""
_RULES = {
    "memory/line": "What a line of source allocated",
    "memory/call": "What the functions allocated that a line of source calls",
}


@dataclass(frozen=True, slots=True)
class Annotation:
    """One line of a source file; ``function`` is the heaviest on it."""

    file: str
    function: str
    line: Line


def annotated(view: View, function: str | None = None) -> tuple[list[Annotation], int]:
    """Return the lines of the program, or of the functions called ``function``, or that it matches,
    the heaviest first, and how many are left out: without ``function`` those below 0.5 % of the
    total. Raises `UsageProblem` where ``function`` matches none.
    """
    sums = view.sums()
    symbols = view.symbols
    wanted = None if function is None else {r.name for r in chosen_rows(sums, function)}
    places: dict[tuple[str, int], int] = {}
    functions: list[str] = []
    line_of = np.full(len(symbols.locations), -1, dtype=np.int64)
    for k, location in enumerate(symbols.locations):
        of = symbols.functions[location.function]
        chosen = of.role is Role.PROGRAM if wanted is None else of.name in wanted
        if not chosen or not location.line or not location.file:
            continue
        number = places.setdefault((location.file, location.line), len(places))
        if number == len(functions):
            functions.append(of.name)
        line_of[k] = number
    if not places:
        return [], 0
    found = add_up_lines(symbols, sums, line_of)
    found.sort(key=lambda line: (-line.cum.value, line.number))
    least = 0.0 if wanted is not None else SMALL_SHARE * view.total.value
    kept = [line for line in found[:MOST_LINES] if line.cum.value >= least]
    at = list(places)
    made = [
        Annotation(at[k.number][0], functions[k.number], _numbered(k, at[k.number][1]))
        for k in kept
    ]
    return made, len(found) - len(kept)


def render(view: View, found: Sequence[Annotation]) -> str:
    """Return the text of a SARIF file: a note for each line."""
    return sarif.document("mem_parser list", _RULES, [_result(view, one) for one in found])


def _numbered(line: Line, number: int) -> Line:
    return dataclasses.replace(line, number=number)


def _result(view: View, one: Annotation) -> dict[str, Any]:
    flat, cum = one.line.flat, one.line.cum
    rule = "memory/line" if flat.samples else "memory/call"
    frame = Frame(one.function, one.file, one.line.number, "")
    return {
        "ruleId": rule,
        "ruleIndex": list(_RULES).index(rule),
        "level": "note",
        "message": {"text": sarif_text(f"{_sentence(view, one.line)}, in {one.function}")},
        "locations": [sarif.location(frame)],
        "properties": numbers("flat", flat) | numbers("cum", cum) | {"samples": cum.samples},
    }


def _sentence(view: View, line: Line) -> str:
    which, unit = WHICH[view.filters.count], view.filters.unit
    total = view.total.value
    share = f" ({percent(line.cum.value, total)} of all)" if total else ""
    cum = format_estimate(line.cum, unit)
    if not line.flat.samples:
        return f"{cum} {which}{share}, allocated by what this line calls"
    if line.flat.value == line.cum.value:
        return f"{cum} {which}{share}, allocated here"
    return f"{format_estimate(line.flat, unit)} {which}, allocated here; {cum}{share} with calls"
