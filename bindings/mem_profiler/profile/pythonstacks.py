"""From the Python frames of a segment to those of a profile: instructions become lines.

Frames that differ only in instructions of one line become one, and so do records that the sampler
stored twice because two threads met.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mem_parser.python.stacks import PythonCode, PythonStacks
from mem_profiler.profile.pythonlines import LineTable, line_table
from mem_profiler.segment.pyframes import Frames, Function


def python_stacks(frames: Frames) -> tuple[PythonStacks | None, NDArray[np.uint32]]:
    """The tree of these frames, and for each of them the number of its node; None without any."""
    if len(frames.ids) == 0:
        return None, np.empty(0, np.uint32)
    codes, code_of = _codes(frames.functions)
    code = code_of[frames.function]
    line = _lines(frames)
    number_of: dict[tuple[int, int, int, bool], int] = {}
    numbers: list[int] = []
    rows = zip(
        frames.caller.tolist(), code.tolist(), line.tolist(), frames.entry.tolist(), strict=True
    )
    hidden = {k for k, code in enumerate(codes) if _is_internal(code)}
    for caller, of_code, at_line, entry in rows:
        parent = numbers[caller] if caller >= 0 else 0
        if of_code in hidden and not at_line:
            numbers.append(parent)
            continue
        key = (parent, of_code, at_line, entry)
        numbers.append(number_of.setdefault(key, len(number_of) + 1))
    if not number_of:
        return None, np.zeros(len(frames.ids), np.uint32)
    parents, of_codes, lines, entries = zip(*number_of, strict=True)
    tree = PythonStacks(
        np.array(parents, np.uint32),
        np.array(of_codes, np.uint32),
        np.array(lines, np.uint32),
        np.array(entries, np.bool_),
        codes,
    )
    return tree, np.array(numbers, np.uint32)


def _is_internal(code: PythonCode) -> bool:
    """Whether the interpreter made it for itself: from 3.12, what checks that `__init__` returned
    None after a class was called is a frame, without lines, which no traceback shows.
    """
    return code.name == code.file == "__init__"


def _codes(functions: list[Function]) -> tuple[list[PythonCode], NDArray[np.int64]]:
    """The distinct functions, and for each given one its index among these."""
    index: dict[PythonCode, int] = {}
    which = [
        index.setdefault(PythonCode(f.name, f.qualname, f.file, f.first_line), len(index))
        for f in functions
    ]
    return list(index), np.array(which, np.int64)


def _lines(frames: Frames) -> NDArray[np.uint32]:
    """The line of each frame; before the first instruction that of the definition."""
    tables: list[LineTable | None] = [None] * len(frames.functions)
    lines = np.zeros(len(frames.ids), np.uint32)
    for k, (which, unit) in enumerate(
        zip(frames.function.tolist(), frames.unit.tolist(), strict=True)
    ):
        function = frames.functions[which]
        if unit < 0:
            lines[k] = function.first_line
            continue
        table = tables[which]
        if table is None:
            table = line_table(function.minor, function.lines, function.first_line)
            tables[which] = table
        lines[k] = table.line(unit)
    return lines
