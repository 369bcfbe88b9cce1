"""Mappings, locations and functions of a profile.proto, as modules, addresses and embedded names.

A location gets the address the file gives it. Where there is none (formats made from names), or two
locations of one address are named differently, it gets an invented one that stands for its names.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from mem_parser.maps import clean_path
from mem_parser.model import ExecRange, Module
from mem_parser.symbols.demangle import full_name, printable, short_name
from mem_parser.symbols.embedded import (
    FIRST_INVENTED,
    NO_MODULE,
    EmbeddedFrame,
    EmbeddedNames,
    Frames,
)

_MAPPING, _LOCATION, _FUNCTION = 3, 4, 5
_BUILD_ID = re.compile(r"(?:[0-9a-f]{2}){1,64}$")


class _Place(NamedTuple):
    """One location: what it needs of its message."""

    number: int
    address: int
    lines: tuple[tuple[int, int], ...]


class LocationTable:
    """Filled message by message, then `build` makes ``address_of``, ``modules`` and ``names``."""

    def __init__(self, text: Callable[[int], str]) -> None:
        self._text = text
        self._mappings: list[tuple[int, int, int, int, int]] = []
        self._places: list[_Place] = []
        self._functions: dict[int, tuple[int, int, int]] = {}
        self.address_of: dict[int, int] = {}
        """The address that is looked up for each location's number."""
        self.modules: list[Module] = []
        self.names = EmbeddedNames()

    def add(self, message: Any, field: int) -> None:
        """Take one message of the profile's field number ``field``."""
        if field == _FUNCTION:
            self._functions[message.id] = (message.name, message.system_name, message.filename)
        elif field == _LOCATION:
            lines = tuple((x.function_id, x.line) for x in message.line)
            self._places.append(_Place(message.id, message.address, lines))
        else:
            self._mappings.append(
                (
                    message.memory_start,
                    message.memory_limit,
                    message.file_offset,
                    message.filename,
                    message.build_id,
                )
            )

    def build(self) -> None:
        """Make the tables, once all strings are known."""
        self._build_modules()
        ranges = sorted((r.start, r.end, k) for k, m in enumerate(self.modules) for r in m.ranges)
        starts = [r[0] for r in ranges]
        frames = {n: self._frame(*f) for n, f in self._functions.items()}
        taken: dict[int, Frames] = {}
        for k, place in enumerate(self._places):
            named = tuple(
                EmbeddedFrame(f.name, f.full_name, f.file, line if 0 <= line < 1 << 31 else 0)
                for function, line in place.lines
                if (f := frames.get(function)) is not None and f.name
            )
            address = place.address
            if not 0 < address < FIRST_INVENTED or taken.get(address, named) != named:
                address = FIRST_INVENTED + 2 * k
            taken[address] = named
            self.address_of[place.number] = address
            if named:
                at = bisect.bisect_right(starts, address) - 1
                inside = at >= 0 and address < ranges[at][1]
                self.names.frames[ranges[at][2] if inside else NO_MODULE, address] = named

    def _frame(self, name: int, system_name: int, file: int) -> EmbeddedFrame:
        shown, system = self._text(name), self._text(system_name)
        shown = shown or system
        if shown.startswith(("_Z", "_R")):
            return EmbeddedFrame(short_name(shown), full_name(shown), printable(self._text(file)))
        full = full_name(system) if system else shown
        return EmbeddedFrame(printable(shown), printable(full), printable(self._text(file)))

    def _build_modules(self) -> None:
        known: dict[tuple[str, str], Module] = {}
        for start, end, offset, filename, build_id in self._mappings:
            if not 0 <= start < end:
                continue
            path, deleted = clean_path(self._text(filename))
            identity = self._text(build_id).lower()
            identity = identity if _BUILD_ID.match(identity) else ""
            new = ExecRange(start, end, offset)
            module = known.get((path, identity))
            if module is not None and all(r.file_offset != offset for r in module.ranges):
                module.ranges.append(new)
                continue
            module = Module(path, [new], build_id=identity, deleted=deleted)
            known[path, identity] = module
            self.modules.append(module)
