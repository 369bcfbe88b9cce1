"""The Python frames of a segment: records in its arena, read into columns.

Model: a frame names the record of its caller, which was stored before it and so has a smaller id,
and the record of its function. A function's table of lines is in its record, or, if it is large,
in a chain of pieces. Every number is untrusted; see `mem_profiler.segment.arena`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mem_parser.interning import distinct
from mem_profiler.segment import layout
from mem_profiler.segment.arena import Ints, bytes_of, find
from mem_profiler.segment.file import Words

_DEPTH_MAX = 512 + 1
"""Python frames of one stack, as the sampler bounds them, and one."""
_UNKNOWN_UNIT = 0xFFFFFFFF
_PIECES_MAX = layout.PYTHON_LINES_BYTES // ((layout.DEPTH_MAX - 1) * 8) + 1


@dataclass(frozen=True)
class Function:
    """A code object as the sampler copied it. `lines` is its table, of the version 3.`minor`."""

    name: str
    qualname: str
    file: str
    first_line: int
    minor: int
    lines: bytes


@dataclass(frozen=True)
class Frames:
    """Frames by ascending id, so that callers come first.

    `caller` is an index of these, -1: the outermost; `function` an index of `functions`; `unit` the
    number of an instruction, -1: unknown.
    """

    ids: Ints
    caller: Ints
    function: Ints
    unit: Ints
    entry: NDArray[np.bool_]
    functions: list[Function]

    def index_of(self, ids: Ints) -> Ints:
        """The index of each id, -1 for one that is not among the frames."""
        at = np.searchsorted(self.ids, ids)
        at = np.minimum(at, max(len(self.ids) - 1, 0))
        known = self.ids[at] == ids if len(self.ids) else np.zeros(len(ids), np.bool_)
        return np.where(known, at, -1)


def read_frames(arena: Words, ids: Ints) -> Frames:
    """The frames with the given ids and those of their callers, outwards to the last."""
    ids = _with_callers(arena, distinct(ids[ids != 0]))
    rows = _rows(arena, ids)
    codes, function = np.unique(rows["code"].astype(np.int64), return_inverse=True)
    functions = [_function(arena, *record) for record in _contents(arena, codes)]
    caller = rows["caller"].astype(np.int64)
    at = np.searchsorted(ids, caller)
    known = (caller != 0) & (caller < ids) & (at < len(ids))
    known &= ids[np.minimum(at, max(len(ids) - 1, 0))] == caller if len(ids) else known
    unit = rows["unit"].astype(np.int64)
    return Frames(
        ids=ids,
        caller=np.where(known, at, -1),
        function=np.asarray(function, np.int64).reshape(-1),
        unit=np.where(unit == _UNKNOWN_UNIT, -1, unit),
        entry=rows["entry"] != 0,
        functions=functions,
    )


def _rows(arena: Words, ids: Ints) -> NDArray[np.void]:
    """The content of the frames; zeros for an unreadable one."""
    found = find(arena, ids, layout.STACK_PYTHON_FRAME)
    words = layout.PYTHON_FRAME.itemsize // 8
    real = found.real & (found.depth == words)
    rows = np.zeros(len(ids), layout.PYTHON_FRAME)
    if real.any():
        index = found.at[real][:, None] + np.arange(words)
        rows[real] = np.ascontiguousarray(arena[index]).view(layout.PYTHON_FRAME).reshape(-1)
    return rows


def _with_callers(arena: Words, ids: Ints) -> Ints:
    """These ids and those of all callers, ascending, without ids that are not frames."""
    new = ids[ids < len(arena)]
    known = np.zeros(len(arena), np.bool_)
    known[new] = True
    for _ in range(_DEPTH_MAX):
        callers = _rows(arena, new)["caller"].astype(np.int64)
        callers = callers[(callers != 0) & (callers < new)]
        new = distinct(callers[~known[callers]])
        if len(new) == 0:
            break
        known[new] = True
    every = np.flatnonzero(known)
    found = find(arena, every, layout.STACK_PYTHON_FRAME)
    return every[found.real]


_NOT_READABLE = Function("?", "?", "?", 0, 0, b"")


def _contents(arena: Words, records: Ints) -> Iterator[tuple[int, bytes]]:
    """Each record of a function, and its content; empty if it is not a function."""
    found = find(arena, records, layout.STACK_PYTHON_CODE)
    for record, at, depth in zip(
        records.tolist(), found.at.tolist(), found.depth.tolist(), strict=True
    ):
        yield record, arena[at : at + depth].tobytes()


def _function(arena: Words, record: int, data: bytes) -> Function:
    head_bytes = layout.PYTHON_CODE.itemsize
    if len(data) < head_bytes:
        return _NOT_READABLE
    head = np.frombuffer(data[:head_bytes], layout.PYTHON_CODE)[0]
    texts, at = [], head_bytes
    for field in ("name_bytes", "qualname_bytes", "file_bytes"):
        size = int(head[field])
        texts.append(data[at : at + size].decode("utf-8", "replace"))
        at += -(-size // 8) * 8
    name, qualname, file = texts
    size, pieces = int(head["lines_bytes"]), int(head["lines_record"])
    lines = data[at : at + size] if pieces == 0 else _joined(arena, pieces, record)[:size]
    return Function(
        name=name,
        qualname=qualname or name,
        file=file,
        first_line=int(head["first_line"]),
        minor=int(head["minor"]),
        lines=lines,
    )


def _joined(arena: Words, piece: int, before: int) -> bytes:
    """A table of lines that was stored piece by piece; `piece` is the last."""
    parts: list[bytes] = []
    while 0 < piece < before and len(parts) < _PIECES_MAX:
        data = bytes_of(arena, piece, layout.STACK_PYTHON_LINES)
        if len(data) < 8:
            break
        parts.append(data[8:])
        before, piece = piece, int.from_bytes(data[:8], "little")
    return b"".join(reversed(parts))
