"""`list`: the source lines of one function with what they allocated.

Lines come from the debug information of the modules, those of Python's functions from the profile.
The text of a source file is shown where the file is found: where the debug information or the
profile says, or below a given folder under the last parts of that path. A profile comes from
anywhere, and could so name any file: where it says is looked only for a profile that is our own, or
if the user says so, and Python's functions have `.py` files. Only plain text files of a bounded
size are read, and what a terminal would act on is made visible.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mem_parser.escape import one_line
from mem_parser.estimate import Estimate
from mem_parser.model import IntArray, Profile
from mem_parser.plainfile import open_plain
from mem_parser.reports.aggregate import StackSums, add_up, estimate
from mem_parser.reports.grid import Block, Column, Grid, Record, amounts, numbers
from mem_parser.reports.peek import chosen_rows
from mem_parser.reports.view import View
from mem_parser.symbols.table import Symbols
from mem_parser.units import format_value

CONTEXT = 2
"""Lines shown around each line that allocated."""
MOST_FUNCTIONS = 5
_LANGUAGES = (
    "c cc cpp cxx c++ cp h hh hpp hxx h++ inc inl ipp tcc tpp txx def m mm cu cuh cl s asm "
    "rs go py pyx pxd pxi d di swift zig nim f f77 f90 f95 f03 f08 for adb ads pas pp vala v "
    "java kt scala cs fs js mjs ts jsx tsx php rb pl pm lua jl hs ml mli erl ex l lex y yy rl"
)
SUFFIXES = frozenset(f".{suffix}" for suffix in _LANGUAGES.split())
"""Of files whose text is shown since a profile names them: its author may name any file."""
PYTHON_SUFFIXES = frozenset((".py", ".pyw"))
"""Of files that are read because a Python function of a profile names them."""
_LARGEST_SOURCE = 16 << 20
_TAB = 4


@dataclass(frozen=True, slots=True)
class Line:
    """One source line; ``flat`` is what it allocated itself, ``cum`` with what it calls."""

    number: int
    flat: Estimate
    cum: Estimate


@dataclass(frozen=True, slots=True)
class Listing:
    """One function in one file. ``file`` is empty and the only line 0 where nothing is known.

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


@dataclass(frozen=True, slots=True)
class Sources:
    """Where sources are looked for: below ``folders``, and where the profile says unless that is
    ``distrusted``, which says why. Only files are read whose name ends in one of ``suffixes``, a
    link's target included.
    """

    folders: Sequence[str] = ()
    distrusted: str = ""
    suffixes: frozenset[str] = SUFFIXES


def distrust(profile: Profile) -> str:
    """Return why files that a profile names are not shown unasked; empty: it is our own.

    Our own is what we captured of a process of ours on this host, in a file of ours.
    """
    capture, me = profile.capture, os.geteuid()
    if not capture.host or capture.uid is None:
        return "the profile does not name its host and user"
    if capture.host != os.uname().nodename:
        return "the profile came from another host"
    if capture.uid != me:
        return "the profile is of another user's process"
    if profile.file_uid != me:
        return "its file belongs to another user, or others can write it"
    stored = profile.embedded is not None and profile.embedded.name_files
    return "names stored in the profile say where it is" if stored else ""


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
    found = [_list(view, name, file, members, sources) for (name, file), members in wanted.items()]
    kept = [x for x in found if x.cum.samples]
    return sorted(kept, key=lambda x: (-x.cum.value, x.function, x.file))


def _list(view: View, name: str, file: str, members: list[int], sources: Sources) -> Listing:
    symbols = view.symbols
    line_of = np.full(len(symbols.locations), -1, dtype=np.int64)
    line_of[members] = [symbols.locations[k].line if file else 0 for k in members]
    sums = view.sums()
    lines = add_up_lines(symbols, sums, line_of)
    whole = add_up_lines(symbols, sums, np.where(line_of >= 0, 0, -1))
    function = symbols.functions[symbols.locations[members[0]].function]
    text, problem = None, "the debug information of its module holds no lines"
    if function.python:
        text, problem = _python_source(file, sources)
    elif file:
        text, problem = read_source(file, sources)
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
    where it does not count.
    """
    line = line_of[symbols.locations_of_stack]
    place = np.flatnonzero(line >= 0)
    if not len(place):
        return []
    stack = (np.searchsorted(symbols.offsets, place, side="right") - 1).astype(np.int64)
    width = int(line.max()) + 1
    pairs = np.unique(stack * width + line[place])
    leaf = symbols.offsets[stack] == place
    cum = add_up(sums, pairs // width, pairs % width)
    flat = add_up(sums, stack[leaf], line[place[leaf]])
    nothing = estimate(0.0, 0.0, 0.0, sums)
    return [Line(k, flat.get(k, nothing), total) for k, total in cum.items() if total.samples]


def _python_source(file: str, sources: Sources) -> tuple[list[str] | None, str]:
    """Return the same of a Python function's file, whose name is from the profile alone."""
    if not file:
        return None, "the profile holds no lines of it"
    if os.path.splitext(file)[1] not in PYTHON_SUFFIXES:
        known = " or ".join(sorted(PYTHON_SUFFIXES))
        return None, f"source not shown: {one_line(file)} does not end in {known}"
    return read_source(file, dataclasses.replace(sources, suffixes=PYTHON_SUFFIXES))


def read_source(file: str, sources: Sources) -> tuple[list[str] | None, str]:
    """Return the lines of a source file, or None and the reason."""
    parts = [p for p in file.split("/") if p not in ("", ".", "..")]
    whole = file.startswith("/")
    candidates = [file] if whole and not sources.distrusted else []
    for folder in sources.folders:
        candidates += [os.path.join(folder, *parts[k:]) for k in range(len(parts))]
    for path in candidates:
        with contextlib.suppress(OSError, ValueError):
            return _read(path, sources.suffixes), ""
    if os.path.splitext(file)[1].lower() not in sources.suffixes:
        return None, f"source not shown: {one_line(file)} has no suffix of a programming language"
    if whole and sources.distrusted:
        return None, f"source not shown: {sources.distrusted}; --trust-sources shows it"
    return None, f"source not found: {one_line(file)}; --source-dir DIR adds a folder to search"


def _read(path: str, suffixes: frozenset[str]) -> list[str]:
    with os.fdopen(open_plain(path), "rb") as source:
        real = os.readlink(f"/proc/self/fd/{source.fileno()}")
        if not suffixes >= {os.path.splitext(name)[1].lower() for name in (path, real)}:
            raise ValueError
        data = source.read(_LARGEST_SOURCE + 1)
    if len(data) > _LARGEST_SOURCE or b"\0" in data:
        raise ValueError
    text = data.decode("utf-8", "replace")
    return [one_line(line.rstrip().expandtabs(_TAB)) for line in text.split("\n")]


def blocks(view: View, found: list[Listing]) -> Iterator[Block]:
    """Yield the report for people."""
    yield from view.header
    unit = view.filters.unit
    for one in found[:MOST_FUNCTIONS]:
        title = f"{one.function}   {one_line(one.file)}".rstrip()
        columns = (
            Column("flat"),
            Column("cum"),
            Column("line"),
            Column("", right=False, flexible=True),
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
            f"{format_value(one.flat.value, unit)} flat, {format_value(one.cum.value, unit)} cum "
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
