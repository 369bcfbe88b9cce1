"""Mappings, locations and functions of a profile.proto, as modules, addresses and embedded names.

A location gets its address in the file. Where there is none (formats made from names), or two
locations of one address have different names or mappings (files of several processes), it gets a
made-up one for its names.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mem_parser.maps import clean_path
from mem_parser.model import ExecRange, Module
from mem_parser.readers.wire import Fields
from mem_parser.symbols.demangle import (
    demangled,
    is_go_file,
    is_mangled,
    printable,
    without_tail,
)
from mem_parser.symbols.embedded import (
    FIRST_INVENTED,
    NO_MODULE,
    EmbeddedFrame,
    EmbeddedNames,
    Frames,
)
from mem_parser.symbols.modulelabels import module_labels

_BUILD_ID = re.compile(r"(?:[0-9a-f]{2}){1,64}$")


Scanned = tuple[Fields, npt.NDArray[np.int64], Fields]
"""Messages in columns, then the messages within them with the message that each is in."""


class _Place(NamedTuple):
    """One location: the facts of its message."""

    number: int
    address: int
    mapping: int
    lines: tuple[tuple[int, int], ...]


class LocationTable:
    """Collects messages; `build` then makes ``address_of``, ``modules`` and ``names``."""

    def __init__(self, text: Callable[[int], str]) -> None:
        self._text = text
        self._mappings: list[tuple[int, int, int, int, int, int]] = []
        self._module_of_mapping: dict[int, tuple[int, ExecRange]] = {}
        self._places: list[_Place] = []
        self._functions: dict[int, tuple[int, int, int]] = {}
        self.address_of: dict[int, int] = {}
        """The address that is looked up for each location's number."""
        self.modules: list[Module] = []
        self.names = EmbeddedNames()
        self._numbers = self._addresses = np.zeros(0, dtype=np.uint64)
        self._position = np.zeros(0, dtype=np.int64)

    def add_mapping(self, message: Any) -> None:
        """Add one `Mapping`."""
        limits = message.memory_start, message.memory_limit, message.file_offset
        self._mappings.append((*limits, message.filename, message.build_id, message.id))

    def add_functions(self, found: Scanned) -> None:
        """Add messages `Function`."""
        fields = found[0]
        name, system_name, file = (fields.integers(k).view(np.int64).tolist() for k in (2, 3, 4))
        numbers = fields.integers(1).tolist()
        self._functions.update(zip(numbers, zip(name, system_name, file, strict=True), strict=True))

    def add_locations(self, found: Scanned) -> None:
        """Add messages `Location` with their lines."""
        fields, owner, lines = found
        named: list[list[tuple[int, int]]] = [[] for _ in range(fields.messages)]
        columns = owner.tolist(), lines.integers(1).tolist(), lines.integers(2).view(np.int64)
        for k, function, line in zip(*columns[:2], columns[2].tolist(), strict=True):
            named[k].append((function, line))
        own = (fields.integers(k).tolist() for k in (1, 3, 2))
        self._places += [_Place(n, a, m, tuple(x)) for n, a, m, x in zip(*own, named, strict=True)]

    def addresses_of(
        self, locations: npt.NDArray[np.uint64]
    ) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_]]:
        """Return the look-up address of each location, and whether the location exists."""
        if not len(self._numbers):
            return np.zeros(len(locations), np.uint64), np.zeros(len(locations), np.bool_)
        if int(self._numbers[-1]) < 4 * len(self._numbers):  # numbered from 1 on, as usual
            at = self._position[np.minimum(locations, len(self._position) - 1).astype(np.int64)]
        else:
            at = np.minimum(np.searchsorted(self._numbers, locations), len(self._numbers) - 1)
        return self._addresses[at], self._numbers[at] == locations

    def build(self) -> None:
        """Make the tables, once all strings are known."""
        self._build_modules()
        ranges = sorted((r.start, r.end, k) for k, m in enumerate(self.modules) for r in m.ranges)
        starts = [r[0] for r in ranges]
        known = self._demangle()
        frames = {n: self._frame(known, *f) for n, f in self._functions.items()}
        labels = module_labels(self.modules)
        taken: dict[int, tuple[int, Frames]] = {}
        for k, place in enumerate(self._places):
            named: Frames = tuple(
                EmbeddedFrame(f.name, f.full_name, f.file, line if 0 <= line < 1 << 31 else 0)
                for function, line in place.lines
                if (f := frames.get(function)) is not None and f.name
            )
            address = place.address
            at = bisect.bisect_right(starts, address) - 1
            found = ranges[at][2] if at >= 0 and address < ranges[at][1] else NO_MODULE
            module, mapped = self._module_of_mapping.get(place.mapping, (found, None))
            same = taken.get(address, (module, named)) == (module, named) and module == found
            if not 0 < address < FIRST_INVENTED or not same:
                if not named and mapped is not None:
                    named = _nameless(labels[module], address - mapped.start + mapped.file_offset)
                address, found = FIRST_INVENTED + 2 * k, NO_MODULE
            taken[address] = module, named
            self.address_of[place.number] = address
            if named:
                self.names.frames[found, address] = named
        self._sort()

    def _sort(self) -> None:
        """Make the columns for `addresses_of`."""
        found = sorted(self.address_of.items())
        self._numbers = np.array([n for n, _ in found], dtype=np.uint64)
        self._addresses = np.array([a for _, a in found], dtype=np.uint64)
        if found and found[-1][0] < 4 * len(found):
            self._position = np.zeros(found[-1][0] + 1, dtype=np.int64)
            self._position[self._numbers.astype(np.int64)] = np.arange(len(found))

    def _demangle(self) -> dict[str, tuple[str, str]]:
        texts = (self._text(k) for f in self._functions.values() for k in f[:2])
        return demangled(text for text in texts if is_mangled(text))

    def _frame(
        self, known: dict[str, tuple[str, str]], name: int, system_name: int, file: int
    ) -> EmbeddedFrame:
        system = self._text(system_name)
        shown = self._text(name) or system
        place = printable(self._text(file))
        if shown in known:
            return EmbeddedFrame(*known[shown], place)
        full = known[system][1] if system in known else printable(system or shown)
        short = shown if is_go_file(place) else without_tail(shown)
        return EmbeddedFrame(printable(short), full, place)

    def _build_modules(self) -> None:
        known: dict[tuple[str, str], tuple[int, set[int]]] = {}
        for start, end, offset, filename, build_id, number in self._mappings:
            if not 0 <= start < end:
                continue
            path, deleted = clean_path(self._text(filename))
            identity = self._text(build_id).lower()
            identity = identity if _BUILD_ID.match(identity) else ""
            new = ExecRange(start, end, offset)
            index, offsets = known.get((path, identity), (-1, set()))
            # Mappings without a name have nothing in common.
            if index >= 0 and offset not in offsets and (path or identity):
                self.modules[index].ranges.append(new)
                offsets.add(offset)
            else:
                index = len(self.modules)
                self.modules.append(Module(path, [new], build_id=identity, deleted=deleted))
                known[path, identity] = index, {offset}
            self._module_of_mapping[number] = index, new


def _nameless(label: str, offset: int) -> Frames:
    """Return the frame of a location that has nothing but a mapping."""
    name = printable(f"{label}+0x{max(offset, 0):x}")
    return (EmbeddedFrame(name, name),)
