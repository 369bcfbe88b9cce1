"""The tables of names: stacks, and the frames of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mem_parser.charge import charged_from
from mem_parser.interning import distinct
from mem_parser.model import BoolArray, IntArray, Profile
from mem_parser.names import FrameRule
from mem_parser.reports.aggregate import stack_parts
from mem_parser.symbols.symbolizer import AddressNames, lost_stacks
from mem_parser.symbols.table import CUT_NAME, Symbols
from mem_parser.tables.columns import NO_TEXT, Codes, Columns, Maybe, Texts, Words, same
from mem_parser.writers.collapsed import frame_text


class Named(NamedTuple):
    """A profile with the names of all its stacks: those of its addresses, and those that reports
    show, with the roles of functions.
    """

    profile: Profile
    names: AddressNames
    symbols: Symbols


@dataclass(frozen=True, slots=True)
class _Places:
    """For each location its texts, as codes of distinct ones, and its numbers; ``shown`` is the
    text of its function in a stack.
    """

    function: Words
    full_name: Words
    source: Words
    module: Words
    line: IntArray
    inlined: BoolArray
    python: BoolArray
    is_name: BoolArray
    shown: list[str]


def _coded(texts: Sequence[str]) -> Words:
    index: dict[str, int] = {}
    codes = np.array([index.setdefault(t, len(index)) for t in texts], dtype=np.int32)
    return Words(codes, tuple(index))


def _places(symbols: Symbols) -> _Places:
    functions = [symbols.functions[x.function] for x in symbols.locations]
    name = [f.name for f in functions]
    return _Places(
        function=_coded(name),
        full_name=_coded([f.full_name for f in functions]),
        source=_coded(
            [x.file or f.file for x, f in zip(symbols.locations, functions, strict=True)]
        ),
        module=_coded([f.module for f in functions]),
        line=np.array([x.line for x in symbols.locations], dtype=np.int64),
        inlined=np.array([x.inlined for x in symbols.locations], dtype=np.bool_),
        python=np.array([f.python for f in functions], dtype=np.bool_),
        is_name=np.array([f.name == CUT_NAME for f in functions], dtype=np.bool_),
        shown=[frame_text(text) for text in name],
    )


class FrameTables:
    """Stacks and frames of one profile."""

    def __init__(self, named: Named, file: str) -> None:
        self._named, self._file = named, file
        self._symbols = named.symbols
        self._at = _places(named.symbols)
        # One more row, for frames without an address: -1 selects it.
        self._address = np.append(named.names.distinct.address, np.uint64(0))
        self._offset, self._has_offset = _file_offsets(named)
        self._lengths = np.array([len(e) for e in named.names.expansion], dtype=np.int64)

    def stacks(self) -> Iterator[Columns]:
        """Yield the stacks, some at a time; each is a row, whatever has it."""
        symbols, at = self._symbols, self._at
        charged = symbols.locations_of_stack[charged_from(symbols, FrameRule.PROGRAM)]
        is_cut = np.asarray(at.is_name[symbols.locations_of_stack[symbols.offsets[1:] - 1]])
        label, labels = self._labels()
        begin = charged_from(symbols, FrameRule.OWN)
        for low, high in stack_parts(symbols.offsets):
            here, rows = charged[low:high], high - low
            yield {
                "file": same(self._file, rows),
                "stack": np.arange(low, high, dtype=np.uint32),
                "depth": np.diff(symbols.offsets[low : high + 1]).astype(np.uint32),
                "is_cut": is_cut[low:high],
                **self._of(here, ("function", "source", "module")),
                "line": Maybe(at.line[here], at.line[here] > 0),
                "label": Words(label[low:high], labels),
                "calls": Texts(self._texts(begin[low:high], symbols.offsets[low + 1 : high + 1])),
            }

    def frames(self) -> Iterator[Columns]:
        """Yield the frames of the stacks, innermost first, some at a time."""
        symbols, at = self._symbols, self._at
        for low, high in stack_parts(symbols.offsets):
            bounds = symbols.offsets[low : high + 1]
            depth = np.diff(bounds)
            here = symbols.locations_of_stack[bounds[0] : bounds[-1]]
            rows = len(here)
            place = np.arange(rows) - np.repeat(bounds[:-1] - bounds[0], depth)
            address, offset = self._addresses(low, high)
            yield {
                "file": same(self._file, rows),
                "stack": np.repeat(np.arange(low, high, dtype=np.uint32), depth),
                "frame": place.astype(np.uint32),
                **self._of(here, ("function", "full_name", "source", "module")),
                "line": Maybe(at.line[here], at.line[here] > 0),
                "file_offset": offset,
                "address": address,
                "inlined": at.inlined[here],
                "python": at.python[here],
            }

    def _of(self, locations: Codes, names: Sequence[str]) -> dict[str, Words]:
        every = {name: getattr(self._at, name) for name in names}
        return {name: Words(w.codes[locations], w.texts) for name, w in every.items()}

    def _texts(self, begin: IntArray, end: IntArray) -> list[str]:
        """Return the functions of stacks, outermost first, from and to these positions."""
        first = int(begin[0])
        listed = self._symbols.locations_of_stack[first : int(end[-1])].tolist()
        shown = self._at.shown
        bounds = zip((begin - first).tolist(), (end - first).tolist(), strict=True)
        return [";".join([shown[k] for k in reversed(listed[a:b])]) for a, b in bounds]

    def _labels(self) -> tuple[Codes, list[str]]:
        """Return for each stack the code of its label's text."""
        profile = self._named.profile
        numbers = profile.stacks.label_numbers
        if profile.labels is None:
            return np.zeros(len(numbers), dtype=np.int32), [""]
        texts = [profile.labels.path(k) for k in range(len(profile.labels) + 1)]
        return numbers.astype(np.int32), texts

    def _addresses(self, low: int, high: int) -> tuple[Maybe, Maybe]:
        """Return for each frame of stacks [``low``, ``high``) its address, and its byte in the
        module's file; null where it has none.

        Lost stacks have one frame that says so, and cut ones have one more at their outer end.
        """
        names, symbols = self._named.names, self._symbols
        bounds = names.stacks.offsets[low : high + 1]
        rows = names.distinct.of_frame[bounds[0] : bounds[-1]]
        stack = np.repeat(np.arange(high - low), np.diff(bounds))
        lost = lost_stacks(names.stacks)[low:high]
        rows, stack = rows[~lost[stack]], stack[~lost[stack]]
        count = self._lengths[rows]
        rows, stack = np.repeat(rows, count), np.repeat(stack, count)
        ends = symbols.offsets[low : high + 1] - symbols.offsets[low]
        within = np.arange(len(stack)) - np.searchsorted(stack, stack)
        row = np.full(int(ends[-1]), NO_TEXT, dtype=np.int64)
        row[ends[:-1][stack] + within] = rows
        address = self._address[row]
        return Maybe(address, address > 0), Maybe(self._offset[row], self._has_offset[row])


def _file_offsets(named: Named) -> tuple[npt.NDArray[np.uint64], BoolArray]:
    """Return for each distinct address the byte in its module's file, and whether that is known;
    and for one more, which is none.
    """
    address, module_of = named.names.distinct.address, named.names.module_of
    offset = np.zeros(len(address) + 1, dtype=np.uint64)
    known = np.zeros(len(address) + 1, dtype=np.bool_)
    for index in distinct(module_of[module_of >= 0]).tolist():
        rows = np.flatnonzero(module_of == index)
        for part in named.profile.modules[index].ranges:
            inside = rows[(address[rows] >= part.start) & (address[rows] < part.end)]
            offset[inside] = address[inside] - np.uint64(part.start) + np.uint64(part.file_offset)
            known[inside] = True
    return offset, known
