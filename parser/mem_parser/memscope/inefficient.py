"""Blocks that were allocated too early, freed too late, or idle for long, and what that costs.

Time is counted in operators (`number_operators`): per process and family (PyTorch's operators,
ATB's), the start of an operator adds 1, and so does each event outside of operators. A block is
what one allocation and all events with its allocation_id behind it are: M, accesses A1 ... An, F.

    early_allocation     at the first access whose operator a1 is not that of M (m): the last
                         operator that freed something is behind m and before a1
    late_deallocation    at F, if the event before is an access An in another operator: the last
                         operator that allocated something is behind an and before f
    temporary_idleness   between two accesses without another event between them are more than
                         ``idle_threshold`` operators

What an operator allocated or freed counts from its end on. The cost of a block is its idle bytes
and their duration; without the waste, the peak would have been lower.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mem_parser.memscope.form import ACCESS, ATB, FREE, MALLOC, OP_LAUNCH, PTA, PTA_WORKSPACE
from mem_parser.memscope.rows import UNKNOWN, BoolArray, FloatArray, IntArray, Rows

EARLY, LATE, IDLE = "early_allocation", "late_deallocation", "temporary_idleness"
TYPES = (EARLY, LATE, IDLE)
IDLE_OPERATORS = 3000
_NEVER = np.iinfo(np.int64).min


class Found(NamedTuple):
    """One label of one block. Rows are numbers in the rows that were searched."""

    kind: str
    block: IntArray
    """Row of the allocation."""
    begin: IntArray
    """Rows between which the block was held for nothing: allocation and first access, last access
    and free, two accesses.
    """
    end: IntArray
    order: IntArray
    """Where in the order of IDs the label is found."""


class Stream(NamedTuple):
    """The events of one process and family in the order of their IDs, numbered by operators."""

    rows: IntArray
    operator: IntArray
    """The operator of each event, from 1 on."""
    last_alloc: IntArray
    """The last operator that had allocated when the event came; a very small number: none."""
    last_free: IntArray


def number_operators(rows: Rows, mine: IntArray, is_op: BoolArray, is_start: BoolArray) -> Stream:
    """Number the events of one process and family.

    Args:
        rows: a dump.
        mine: its rows of that process and family, in the order of their IDs.
        is_op: of these, which begin or end an operator.
        is_start: of these, which begin one.
    """
    count = len(mine)
    place = np.arange(count)
    last_op = np.maximum.accumulate(np.where(is_op, place, -1))
    inside = np.where(last_op >= 0, is_start[np.maximum(last_op, 0)], False)
    alone = ~is_op & ~inside
    operator: IntArray = np.cumsum(is_start | alone, dtype=np.int64)
    closes = (is_op & ~is_start) | alone
    event = rows.event[mine]
    return Stream(
        mine,
        operator,
        _last_closed(closes, ~is_op & (event == MALLOC), operator),
        _last_closed(closes, ~is_op & (event == FREE), operator),
    )


def _last_closed(closes: BoolArray, has: BoolArray, operator: IntArray) -> IntArray:
    """Return the number of the last operator that was closed and had such an event."""
    so_far = np.cumsum(has)
    at = np.flatnonzero(closes)
    new = np.diff(so_far[at], prepend=0) > 0
    last = np.full(len(closes), _NEVER, dtype=np.int64)
    last[at[new]] = operator[at[new]]
    return np.maximum.accumulate(last) if len(last) else last


def find_inefficient(
    rows: Rows,
    mem_size: int = 0,
    types: tuple[str, ...] = TYPES,
    idle_threshold: int = IDLE_OPERATORS,
) -> list[Found]:
    """Return the labels of blocks of at least ``mem_size`` bytes, a group for each of ``types``.

    Blocks from before the collection (`shadow`) and blocks of other pools have none.
    """
    groups: dict[str, list[tuple[IntArray, ...]]] = {kind: [] for kind in types}
    order = np.argsort(rows.id, kind="stable")
    rank = np.empty(len(rows), dtype=np.int64)
    rank[order] = np.arange(len(rows))
    for stream in streams(rows, order):
        for kind, (block, begin, end) in _labels(rows, stream, idle_threshold).items():
            keep = (rows.size[block] >= mem_size) & ~rows.shadow[block]
            if kind in groups:
                groups[kind].append((block[keep], begin[keep], end[keep]))
    found = []
    for kind, parts in groups.items():
        block, begin, end = (
            np.concatenate([part[k] for part in parts] or [np.empty(0, dtype=np.int64)])
            for k in range(3)
        )
        found.append(Found(kind, block, begin, end, rank[end] if len(end) else end))
    return found


def streams(rows: Rows, order: IntArray) -> list[Stream]:
    """Return the streams of a dump; ``order`` is that of the IDs."""
    is_op = rows.is_event(OP_LAUNCH)
    is_access = rows.is_event(ACCESS)
    is_memory = rows.is_event(MALLOC, FREE) & rows.is_type(PTA, PTA_WORKSPACE, ATB)
    is_pta = np.where(
        is_op,
        rows.is_type("ATEN_START", "ATEN_END"),
        np.where(is_access, rows.access_pta, rows.is_type(PTA, PTA_WORKSPACE)),
    )
    taken = is_access | is_memory | (is_op & (rows.is_start | rows.is_end))
    mine = order[taken[order]]
    key = rows.pid[mine] * 2 + is_pta[mine]
    found = []
    for value in np.unique(key).tolist():
        some = mine[key == value]
        found.append(number_operators(rows, some, is_op[some], rows.is_start[some]))
    return found


def _labels(
    rows: Rows, stream: Stream, idle_threshold: int
) -> dict[str, tuple[IntArray, IntArray, IntArray]]:
    """Return block, begin and end of each label in a stream, as rows; one label of a kind for a
    block, the first one.
    """
    at = _by_block(rows, stream)
    row, operator = stream.rows[at.place], stream.operator[at.place]
    event = rows.event[row]
    before = np.maximum(np.arange(len(row)) - 1, 0)
    follows = ~at.is_first & (event[before] == ACCESS)
    birth = at.birth

    other = (event == ACCESS) & (operator != operator[birth])
    last_free = stream.last_free[at.place]
    early = _first_of_block(other, birth)
    early = early[
        (operator[birth[early]] < last_free[early]) & (last_free[early] < operator[early])
    ]

    last_alloc = stream.last_alloc[at.place]
    late = follows & (event == FREE) & (operator[before] != operator)
    late &= (operator[before] < last_alloc) & (last_alloc < operator)
    idle = follows & (event == ACCESS) & (operator - operator[before] > idle_threshold)
    late_at, idle_at = _first_of_block(late, birth), _first_of_block(idle, birth)
    return {
        EARLY: (row[birth[early]], row[birth[early]], row[early]),
        LATE: (row[birth[late_at]], row[before[late_at]], row[late_at]),
        IDLE: (row[birth[idle_at]], row[before[idle_at]], row[idle_at]),
    }


class _ByBlock(NamedTuple):
    """Events in the order of blocks, and in time in each of them."""

    place: IntArray
    """In the stream."""
    is_first: BoolArray
    birth: IntArray
    """For each event, where in this order the allocation of its block is."""


def _by_block(rows: Rows, stream: Stream) -> _ByBlock:
    """Sort the events of a stream by block; events without an allocation are left out.

    Without an allocation_id (early releases) the address tells blocks apart.
    """
    memory = np.flatnonzero(rows.event[stream.rows] != OP_LAUNCH)
    row = stream.rows[memory]
    number = rows.allocation[row]
    has_none = number == UNKNOWN
    address = np.where(has_none, rows.address[row], 0)
    order = np.lexsort((memory, address, number))
    memory, row = memory[order], row[order]
    number, address = number[order], address[order]
    new = np.ones(len(row), dtype=bool)
    new[1:] = (number[1:] != number[:-1]) | (address[1:] != address[:-1])
    starts = rows.event[row] == MALLOC
    at = np.arange(len(row))
    group = np.maximum.accumulate(np.where(new, at, 0)) if len(row) else at
    birth = np.maximum.accumulate(np.where(starts, at, -1)) if len(row) else at
    kept = birth >= group
    renumbered = np.cumsum(kept) - 1
    return _ByBlock(memory[kept], starts[kept], renumbered[birth[kept]])


def _first_of_block(mask: BoolArray, birth: IntArray) -> IntArray:
    """Return the first event of each block that the mask has."""
    at = np.flatnonzero(mask)
    first = np.ones(len(at), dtype=bool)
    first[1:] = birth[at[1:]] != birth[at[:-1]]
    found: IntArray = at[first]
    return found


def labels_by_row(found: list[Found]) -> dict[int, list[str]]:
    """Return the labels of each block by its row, in the order in which they are found."""
    if not found:
        return {}
    block = np.concatenate([one.block for one in found])
    order = np.concatenate([one.order for one in found])
    kind = np.repeat(np.arange(len(found)), [len(one.block) for one in found])
    labels: dict[int, list[str]] = {}
    for k in np.lexsort((kind, order)).tolist():
        labels.setdefault(int(block[k]), []).append(found[int(kind[k])].kind)
    return labels


class Cost(NamedTuple):
    """One block: its row, its labels, and the sum over them of bytes x time for nothing."""

    row: int
    labels: list[str]
    size_bytes: int
    idle_ns: int
    byte_seconds: float


class DevicePeak(NamedTuple):
    """Bytes in use over time on a device, as it was and without the waste."""

    device: str
    time_ns: IntArray
    used_bytes: IntArray
    """Sum of the blocks that the dump has, after each change."""
    better_bytes: IntArray
    """The same, if each inefficient block had been there only while it was needed."""

    @property
    def peak_bytes(self) -> int:
        """The highest value."""
        return int(self.used_bytes.max(initial=0))

    @property
    def better_peak_bytes(self) -> int:
        """The highest value without the waste."""
        return int(self.better_bytes.max(initial=0))


def costs(rows: Rows, found: list[Found]) -> list[Cost]:
    """Return the blocks with labels, the most expensive first."""
    kinds = np.repeat(np.arange(len(found)), [len(one.block) for one in found])
    block = _joined([one.block for one in found])
    begin, end = _joined([one.begin for one in found]), _joined([one.end for one in found])
    idle_ns = np.maximum(rows.time_ns[end] - rows.time_ns[begin], 0)
    by_block: dict[int, Cost] = {}
    for k in range(len(block)):
        row, kind, idle = int(block[k]), found[int(kinds[k])].kind, int(idle_ns[k])
        size = int(rows.size[row])
        had = by_block.get(row, Cost(row, [], size, 0, 0.0))
        total = had.idle_ns + idle
        by_block[row] = Cost(row, [*had.labels, kind], size, total, size * total / 1e9)
    return sorted(by_block.values(), key=lambda cost: (-cost.byte_seconds, cost.row))


def peaks(rows: Rows, found: list[Found]) -> list[DevicePeak]:
    """Return bytes in use over time of PyTorch's and ATB's pools for each device."""
    memory = rows.is_event(MALLOC, FREE) & rows.is_type(PTA, PTA_WORKSPACE, ATB) & (rows.size >= 0)
    begin, end = _joined([one.begin for one in found]), _joined([one.end for one in found])
    size = rows.size[_joined([one.block for one in found])]
    result = []
    for number in rows.devices():
        index = np.flatnonzero(memory & (rows.device == number))
        if not len(index):
            continue
        index = index[np.argsort(rows.id[index], kind="stable")]
        sign = np.where(rows.event[index] == MALLOC, 1, -1)
        known = _matched(rows, index)
        mine = rows.device[begin] == number
        # What is gone from the end of its first use to the next one comes back before that.
        at = np.concatenate((rows.id[index], rows.id[begin[mine]], rows.id[end[mine]]))
        turn = np.concatenate(
            (np.full(len(index), 1), np.full(mine.sum(), 2), np.zeros(mine.sum(), dtype=int))
        )
        real = np.concatenate((sign * rows.size[index] * known, np.zeros(2 * mine.sum(), int)))
        saved = np.concatenate((np.zeros(len(index), int), -size[mine], size[mine]))
        time = np.concatenate(
            (rows.time_ns[index], rows.time_ns[begin[mine]], rows.time_ns[end[mine]])
        )
        order = np.lexsort((turn, at))
        used, without = np.cumsum(real[order]), np.cumsum((real + saved)[order])
        # Between an allocation and its removal in the same moment nothing was needed.
        keep = np.ones(len(order), dtype=bool)
        keep[:-1] = at[order][1:] != at[order][:-1]
        result.append(
            DevicePeak(rows.words.device_text(number), time[order][keep], used[keep], without[keep])
        )
    return result


def _matched(rows: Rows, index: IntArray) -> IntArray:
    """Return 1 for allocations and for frees whose allocation the dump has, else 0."""
    address = rows.address[index]
    order = np.lexsort((np.arange(len(index)), address))
    is_birth = (rows.event[index] == MALLOC)[order]
    follows = np.zeros(len(index), dtype=bool)
    same = address[order][1:] == address[order][:-1]
    follows[1:] = same & is_birth[:-1]
    known = np.empty(len(index), dtype=np.int64)
    known[order] = is_birth | follows
    return known


def _joined(parts: list[IntArray]) -> IntArray:
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)


def over_time(peak: DevicePeak, columns: int) -> tuple[FloatArray, FloatArray]:
    """Return both curves at equal steps of time: the highest value of each step."""
    first, last = int(peak.time_ns[0]), int(peak.time_ns[-1])
    step = max((last - first) // columns + 1, 1)
    place = np.clip((peak.time_ns - first) // step, 0, columns - 1)
    curves = []
    for values in (peak.used_bytes, peak.better_bytes):
        top = np.full(columns, -1.0)
        np.maximum.at(top, place, values.astype(np.float64))
        final = np.full(columns, 0.0)
        order = np.lexsort((np.arange(len(place)), place))
        final[place[order]] = values[order]
        # A step without a change has what the one before ended with.
        held = 0.0
        for k in range(columns):
            if top[k] < 0:
                top[k] = held
            else:
                top[k] = max(top[k], held)
                held = final[k]
        curves.append(top)
    return curves[0], curves[1]
