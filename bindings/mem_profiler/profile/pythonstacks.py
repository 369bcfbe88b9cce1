"""From the Python frames of a segment to those of a profile: instructions become lines.

Frames that differ only in instructions of one line become one, and so do records that the sampler
stored twice because two threads met.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from mem_parser.python.stacks import OWN_FOLDER, PythonCode, PythonStacks
from mem_profiler import OWN_FOLDERS
from mem_profiler.profile.pythonlines import LineTable, line_table
from mem_profiler.segment.pyframes import Frames, Function

_LINE_MASK = (1 << 32) - 1
_PARENT_SHIFT, _CODE_SHIFT, _LINE_SHIFT = 64, 33, 1
"""Of a node as one number: that of the caller's node (0: none), the index of the code, the line,
and whether C entered it.
"""


class PythonTree:
    """A tree of Python frames that grows: nodes and code objects keep their numbers."""

    def __init__(self) -> None:
        self._number_of: dict[int, int] = {}
        self._index_of: dict[PythonCode, int] = {}
        self._codes: list[PythonCode] = []
        self._tables: dict[Function, LineTable] = {}

    def __len__(self) -> int:
        return len(self._number_of)

    @property
    def codes(self) -> int:
        """How many code objects there are."""
        return len(self._codes)

    def add(self, frames: Frames) -> NDArray[np.uint32]:
        """Take in frames that come with their callers; returns the number of each frame's node."""
        code = self._take_codes(frames.functions)[frames.function]
        internal = np.array([_is_internal(code) for code in self._codes], np.bool_)
        line = self._lines(frames)
        hidden = internal[code] & (line == 0)
        rest = code << _CODE_SHIFT | line << _LINE_SHIFT | frames.entry
        number_of = self._number_of
        numbers: list[int] = []
        rows = zip(frames.caller.tolist(), rest.tolist(), hidden.tolist(), strict=True)
        for caller, of_frame, is_hidden in rows:
            number = numbers[caller] if caller >= 0 else 0
            if not is_hidden:
                node = number << _PARENT_SHIFT | of_frame
                number = number_of.setdefault(node, len(number_of) + 1)
            numbers.append(number)
        return np.array(numbers, np.uint32)

    def part(self, first_node: int = 0, first_code: int = 0) -> PythonStacks:
        """The nodes and code objects from these on. Callers and codes keep the tree's numbers."""
        nodes = list(itertools.islice(self._number_of, first_node, None))
        count, low = len(nodes), (1 << _PARENT_SHIFT) - 1
        rest = np.fromiter((node & low for node in nodes), np.int64, count)
        return PythonStacks(
            np.fromiter((node >> _PARENT_SHIFT for node in nodes), np.uint32, count),
            (rest >> _CODE_SHIFT).astype(np.uint32),
            (rest >> _LINE_SHIFT & _LINE_MASK).astype(np.uint32),
            (rest & 1).astype(np.bool_),
            self._codes[first_code:],
        )

    def _take_codes(self, functions: list[Function]) -> NDArray[np.int64]:
        """The index of the code object of each function."""
        found = []
        for f in functions:
            code = PythonCode(f.name, f.qualname, _without_folder(f.file), f.first_line)
            index = self._index_of.setdefault(code, len(self._codes))
            if index == len(self._codes):
                self._codes.append(code)
            found.append(index)
        return np.array(found, np.int64)

    def _lines(self, frames: Frames) -> NDArray[np.int64]:
        """The line of each frame; before the first instruction that of the definition."""
        lines = np.array([f.first_line for f in frames.functions], np.int64)[frames.function]
        order = np.argsort(frames.function, kind="stable")
        order = order[frames.unit[order] >= 0]
        bounds = np.flatnonzero(np.diff(frames.function[order])) + 1
        for of_one in np.split(order, bounds) if len(order) else []:
            table = self._table(frames.functions[int(frames.function[of_one[0]])])
            lines[of_one] = table.of(frames.unit[of_one])
        return lines

    def _table(self, function: Function) -> LineTable:
        table = self._tables.get(function)
        if table is None:
            table = line_table(function.minor, function.lines, function.first_line)
            self._tables[function] = table
        return table


def python_stacks(frames: Frames) -> tuple[PythonStacks | None, NDArray[np.uint32]]:
    """The tree of these frames, and for each of them the number of its node; None without any."""
    tree = PythonTree()
    numbers = tree.add(frames)
    return (tree.part() if len(tree) else None), numbers


def _without_folder(file: str) -> str:
    """Mark the files of our own package, wherever it is installed."""
    for folder in OWN_FOLDERS:
        if file.startswith(folder):
            return OWN_FOLDER + file[len(folder) :]
    return file


def _is_internal(code: PythonCode) -> bool:
    """Whether the interpreter made it for itself: from 3.12, what checks that `__init__` returned
    None after a class was called is a frame, without lines, which no traceback shows.
    """
    return code.name == code.file == "__init__"
