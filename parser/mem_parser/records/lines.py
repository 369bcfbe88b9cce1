"""Bytes by line of the program: each block counts for one line of one source file.

That line is of the innermost Python frame where the block's stack has one; else of the function
that reports charge it to (`mem_parser.charge`), or of that function's name and module where there
is no debug information.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from mem_parser.charge import charged_from
from mem_parser.libraries.mark import mark_libraries
from mem_parser.libraries.rules import Libraries
from mem_parser.model import BoolArray, IntArray, Profile
from mem_parser.names import FrameRule
from mem_parser.python.stacks import PythonStacks
from mem_parser.records.own_frames import own_stacks
from mem_parser.symbols.symbolizer import symbolize

Place = tuple[str, int]
"""File and line; without a line (0) what is known of the function instead of the file."""


@dataclass(frozen=True, slots=True)
class LineBytes:
    """A line, and the bytes of its blocks."""

    file: str
    line: int
    size_bytes: int


def lines_in_use(profile: Profile) -> list[LineBytes]:
    """Return each line that allocated in the capture, with what of that is in use; the largest
    first. Lines whose blocks are all freed have 0 bytes.

    The bytes are those of the sampled blocks: right where every block is one. Blocks that a
    program's capture of itself took are left out. Raises InputFileError.
    """
    sites = profile.sites
    return by_line(places_of(profile), sites.stack, sites.inuse_bytes)


def by_line(place: list[Place | None], stack: IntArray, size_bytes: IntArray) -> list[LineBytes]:
    """Add up columns of stacks and bytes by the ``place`` of each stack (None: left out)."""
    held = np.zeros(len(place), dtype=np.int64)
    np.add.at(held, stack, size_bytes)
    met = np.zeros(len(place), dtype=np.bool_)
    met[stack] = True
    total: dict[Place, int] = {}
    for k in np.flatnonzero(met).tolist():
        at = place[k]
        if at is not None:
            total[at] = total.get(at, 0) + int(held[k])
    lines = [LineBytes(file, line, size) for (file, line), size in total.items()]
    return sorted(lines, key=lambda one: (-one.size_bytes, one.file, one.line))


def places_of(profile: Profile) -> list[Place | None]:
    """Return the place of each stack; None for one of our own. Raises InputFileError."""
    number = profile.stacks.interpreters.astype(np.int64)
    python = profile.python
    places: list[Place | None] = [None] * len(number)
    native = np.ones(len(number), dtype=np.bool_)
    if python is not None and len(python):
        number = np.where(number <= len(python), number, 0)
        own, native = own_stacks(python)[number], number == 0
        for k in np.flatnonzero(~native).tolist():
            if not own[k]:
                places[k] = _innermost(python, int(number[k]))
    _put_native(profile, native, places)
    return places


def _innermost(python: PythonStacks, number: int) -> Place | None:
    """Return the line of the innermost frame that is not ours."""
    for node in python.outwards(number):
        code = python.codes[int(python.code[node])]
        if not code.own:
            return code.file, int(python.line[node])
    return None


def _put_native(profile: Profile, native: BoolArray, places: list[Place | None]) -> None:
    """Fill in the places of the stacks without Python frames."""
    if not native.any():
        return
    new_number = np.cumsum(native) - 1
    kept = native[profile.sites.stack]
    sites = profile.sites.take(kept)
    sites.stack = new_number[sites.stack]
    part = dataclasses.replace(
        profile,
        stacks=profile.stacks.take(native),
        sites=sites,
        thread_blocks=None,
        python=None,
    )
    symbols = mark_libraries(part, symbolize(part), Libraries())
    charged = symbols.locations_of_stack[charged_from(symbols, FrameRule.PROGRAM)]
    for stack, location in zip(np.flatnonzero(native).tolist(), charged.tolist(), strict=True):
        at = symbols.locations[location]
        function = symbols.functions[at.function]
        file = at.file or function.file
        if file and at.line:
            places[stack] = (file, at.line)
        else:
            module = function.module.rsplit("/", 1)[-1]
            known = function.known and module
            places[stack] = (f"{module}: {function.name}" if known else function.name, 0)
