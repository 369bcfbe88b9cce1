"""Cost of inefficient blocks: idle bytes, their duration, their share of the peak."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mem_parser.memscope.form import ATB, FREE, MALLOC, PTA, PTA_WORKSPACE
from mem_parser.memscope.inefficient import Found
from mem_parser.memscope.rows import FloatArray, IntArray, Rows


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
