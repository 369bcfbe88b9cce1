"""Set two runs side by side: their operators aligned, their modules, their peaks.

Per device, the names of the operators of both runs, in the order of time, are aligned so that as
many as possible have a partner (`align`). The memory of an operator is that of the next event of
the pool behind it: its size, negative for a free; where a run has memory of the host alone, that of
its tensors. What has no partner counts as 0 in a difference.
Of a step alone, operators, allocations and the highest moment are those of the step; what was live
when it began counts at that moment.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np

from mem_parser.memscope.align import align
from mem_parser.memscope.form import (
    ATB,
    FREE,
    HAL,
    HOST,
    HOST_TYPE,
    MALLOC,
    MINDSPORE,
    NOTHING,
    OP_ENDS,
    PTA,
    DumpError,
)
from mem_parser.memscope.reading import read_rows
from mem_parser.memscope.rows import BoolArray, IntArray, Rows, device_order
from mem_parser.memscope.steps import ended, lives, steps_of

Level = Literal["op", "kernel"]
_ENDINGS = (".csv", ".db")
_DUMP = "memscope_dump_"
_MOST_FILES = 1000
_NAMED_STEPS = 5


class Pair(NamedTuple):
    """A number of the base and of the other run; None: it has no such thing."""

    base: int | None
    compare: int | None

    @property
    def change(self) -> int:
        """The surplus of the other run."""
        return (self.compare or 0) - (self.base or 0)


class Aligned(NamedTuple):
    """An operator of one run or both."""

    event: str
    name: str
    bytes: Pair


class ByName(NamedTuple):
    """All operators of one name."""

    name: str
    counts: Pair
    bytes: Pair


class Module(NamedTuple):
    """What one owner allocated in all, and had at the peak of its kind of memory."""

    kind: str
    owner: str
    allocated_bytes: Pair
    at_peak_bytes: Pair


class Peak(NamedTuple):
    """The most bytes of one kind of memory that were in use at once."""

    kind: str
    bytes: Pair


class DeviceComparison(NamedTuple):
    """Both runs on one device."""

    device: str
    operators: list[Aligned]
    """In the order of time; what has no partner, the base's first."""
    modules: list[Module]
    peaks: list[Peak]

    def by_name(self) -> list[ByName]:
        """Return the operators by name, the largest change first."""
        sums: dict[str, list[int]] = {}
        for one in self.operators:
            held = sums.setdefault(one.name, [0, 0, 0, 0])
            for k, value in enumerate(one.bytes):
                held[k] += value is not None
                held[k + 2] += value or 0
        found = [
            ByName(name, Pair(held[0], held[1]), _present(held[2:], held[:2]))
            for name, held in sums.items()
        ]
        return sorted(found, key=lambda one: (-abs(one.bytes.change), one.name))


class Comparison(NamedTuple):
    """Both runs on all devices of either."""

    base: str
    compare: str
    level: Level
    devices: list[DeviceComparison]
    steps: tuple[str, str] | None = None
    """The names of the steps that are compared; None: it is all of both runs."""

    @property
    def sides(self) -> tuple[str, str]:
        """Description of the compared runs."""
        if self.steps is None:
            return self.base, self.compare
        return f"{self.base}, step {self.steps[0]}", f"{self.compare}, step {self.steps[1]}"

    def rows(self) -> Iterator[tuple[object, ...]]:
        """Yield event, name, device, base, compare, difference of each operator."""
        for device in self.devices:
            for one in device.operators:
                base, compare = (NOTHING if value is None else value for value in one.bytes)
                yield one.event, one.name, device.device, base, compare, one.bytes.change


class _Run(NamedTuple):
    """The rows of one run by device, in the order of time, and the pool that operators use."""

    devices: dict[str, _Part]
    pool: str | None


class _Part(NamedTuple):
    """The rows of a device; those behind ID ``begin`` up to ``end`` are compared."""

    rows: Rows
    begin: int
    end: int

    @property
    def inside(self) -> Rows:
        """The rows that are compared."""
        return self.rows.take((self.rows.id > self.begin) & (self.rows.id <= self.end))


class _Operators(NamedTuple):
    events: list[str]
    names: list[str]
    sizes: IntArray


def compare_runs(
    base: str, other: str, level: Level = "op", steps: tuple[str, str] | None = None
) -> Comparison:
    """Compare two dumps. Each is a file, or a folder with the dump of each device of one run.

    ``steps`` names a step of each. Raises `DumpError` for a path without a dump, a broken one, one
    without the step, or two whose pools differ.
    """
    wanted = (None, None) if steps is None else steps
    runs = [_run(base, level, wanted[0]), _run(other, level, wanted[1])]
    pools = {run.pool for run in runs if run.pool is not None}
    if len(pools) > 1:
        raise DumpError(
            f"{base} has memory of {runs[0].pool}, {other} of {runs[1].pool}",
            hint="compare two runs of one framework",
        )
    pool = min(pools, default=HAL)
    names = sorted({*runs[0].devices, *runs[1].devices}, key=device_order)
    if not names:
        raise DumpError(f"{base}, {other}: no row of a device in either")
    devices = [
        _compared(name, [run.devices.get(name) for run in runs], level, pool) for name in names
    ]
    return Comparison(base, other, level, devices, steps)


def dumps_of(path: str) -> list[str]:
    """Return the dumps that a path means: the file itself, or those below a folder, by name."""
    if not os.path.isdir(path):
        if not path.lower().endswith(_ENDINGS):
            raise DumpError(f"{path}: neither a folder nor a .csv or .db file")
        return [path]
    found: list[str] = []
    for folder, _, names in os.walk(path):
        found += [
            os.path.join(folder, name)
            for name in names
            if name.startswith(_DUMP) and name.endswith(_ENDINGS)
        ]
        if len(found) > _MOST_FILES:
            raise DumpError(f"{path}: more than {_MOST_FILES} dumps below this folder")
    if not found:
        raise DumpError(f"{path}: no {_DUMP}*.csv or .db below this folder")
    return sorted(found)


def _run(path: str, level: Level, step: str | None) -> _Run:
    devices: dict[str, _Part] = {}
    where: dict[str, str] = {}
    pools: set[str] = set()
    for name, rows, number in _device_rows(path):
        device = rows.words.devices[number]
        if device in devices:
            raise DumpError(
                f"{path}: device {device} is in {where[device]} and in {name}",
                hint="name the folder of one run, or a file",
            )
        mine = rows.device_rows(number)
        in_order = mine.take(np.lexsort((mine.id, mine.time_ns)))
        devices[device] = _Part(in_order, *_span(name, rows, number, step))
        where[device] = name
        pools |= {p for p in (PTA, MINDSPORE) if _has(mine, p)}
    if len(pools) > 1:
        raise DumpError(f"{path}: memory of {PTA} and of {MINDSPORE} in one run")
    if level == "op" and pools == {MINDSPORE}:
        raise DumpError(
            f"{path}: MindSpore has no operators at this level", hint="add --level kernel"
        )
    pool = min(pools, default=None)
    if pool is None and any(_has(part.rows, ATB) for part in devices.values()):
        pool = ATB
    if pool is None and list(devices) == [HOST]:
        pool = HOST_TYPE
    return _Run(devices, pool)


def _device_rows(path: str) -> list[tuple[str, Rows, int]]:
    """Return the devices of all dumps of a path: file, rows, number in them. The host is one only
    where there is no other.
    """
    dumps = [(name, read_rows(name)) for name in dumps_of(path)]
    every = [(name, rows, number) for name, rows in dumps for number in rows.devices()]
    others = [one for one in every if one[1].words.devices[one[2]] != HOST]
    return others or every


def _span(path: str, rows: Rows, device: int, step: str | None) -> tuple[int, int]:
    """Return the IDs behind which and up to which rows are compared. Raises `DumpError`."""
    if step is None:
        return np.iinfo(np.int64).min, np.iinfo(np.int64).max
    found = ended(steps_of(rows, device))
    for one, end in found:
        if one.name == step:
            return one.begin, end
    known = ", ".join(one.name for one, _ in found[:_NAMED_STEPS])
    more = f" and {len(found) - _NAMED_STEPS} more" if len(found) > _NAMED_STEPS else ""
    raise DumpError(
        f"{path}: no step {step}", hint=f"steps: {known}{more}" if found else "it has no steps"
    )


def _has(rows: Rows, kind: str) -> bool:
    return bool((rows.is_type(kind) & rows.is_event(MALLOC, FREE)).any())


def _compared(device: str, sides: list[_Part | None], level: Level, pool: str) -> DeviceComparison:
    operators = [_operators(part, level, pool) for part in sides]
    modules, peaks = _modules(sides)
    return DeviceComparison(device, _aligned(*operators), modules, peaks)


def _operators(part: _Part | None, level: Level, pool: str) -> _Operators:
    if part is None:
        return _Operators([], [], np.empty(0, dtype=np.int64))
    rows = part.inside
    is_op = rows.is_type(*OP_ENDS) if level == "op" else rows.is_type("KERNEL_LAUNCH")
    at = np.flatnonzero(is_op)
    uses = np.flatnonzero(rows.is_type(pool) & rows.is_event(MALLOC, FREE))
    sign = np.where(rows.event[uses] == MALLOC, 1, -1)
    sizes = np.append(np.maximum(rows.size[uses], 0) * sign, 0)
    following = sizes[np.searchsorted(uses, at)]
    event = "OP_LAUNCH" if level == "op" else "KERNEL_LAUNCH"
    names = [rows.words.names[k] for k in rows.name[at].tolist()]
    return _Operators([event] * len(at), names, following)


def _aligned(base: _Operators, other: _Operators) -> list[Aligned]:
    found: list[Aligned] = []
    i = j = 0
    left, right = base.sizes.tolist(), other.sizes.tolist()
    for a, b in [*align(base.names, other.names), (len(left), len(right))]:
        found += [Aligned(base.events[k], base.names[k], Pair(left[k], None)) for k in range(i, a)]
        found += [
            Aligned(other.events[k], other.names[k], Pair(None, right[k])) for k in range(j, b)
        ]
        if a < len(left):
            found.append(Aligned(base.events[a], base.names[a], Pair(left[a], right[b])))
        i, j = a + 1, b + 1
    return found


def _modules(sides: list[_Part | None]) -> tuple[list[Module], list[Peak]]:
    allocated: dict[tuple[str, str], list[int | None]] = {}
    at_peak: dict[tuple[str, str], list[int | None]] = {}
    highest: dict[str, list[int | None]] = {}
    for side, part in enumerate(sides):
        if part is None:
            continue
        rows = part.rows
        memory = rows.is_event(MALLOC, FREE) & (rows.size >= 0)
        for kind in sorted({rows.words.types[k] for k in np.unique(rows.type[memory]).tolist()}):
            mine = memory & rows.is_type(kind)
            sums, live, peak = _by_owner(part, mine, kind)
            highest.setdefault(kind, [None, None])[side] = peak
            for owner, value in sums.items():
                allocated.setdefault((kind, owner), [None, None])[side] = value
                at_peak.setdefault((kind, owner), [None, None])[side] = live.get(owner, 0)
    modules = [
        Module(kind, owner, Pair(*values), Pair(*at_peak[kind, owner]))
        for (kind, owner), values in allocated.items()
    ]
    modules.sort(key=lambda one: (-abs(one.at_peak_bytes.change), one.kind, one.owner))
    return modules, [Peak(kind, Pair(*values)) for kind, values in sorted(highest.items())]


def _by_owner(
    part: _Part, mine: BoolArray, kind: str
) -> tuple[dict[str, int], dict[str, int], int]:
    """Return the bytes that each owner allocated, and had at the peak, and the peak."""
    rows = part.rows
    births, ends = lives(rows, mine)
    born, size = rows.id[births], rows.size[births]
    ended = ends >= 0
    at = np.concatenate((born, ends[ended]))
    step = np.concatenate((size, -size[ended]))
    order = np.lexsort((step, at))
    at = at[order]
    # What is in use behind the first k events.
    used = np.concatenate(([0], np.cumsum(step[order])))
    low, high = np.searchsorted(at, [part.begin, part.end], side="right").tolist()
    top = low + int(np.argmax(used[low : high + 1]))
    peak_id = int(at[top - 1]) if top else np.iinfo(np.int64).min
    is_live = (born <= peak_id) & (~ended | (ends > peak_id))
    is_new = (born > part.begin) & (born <= part.end)
    words = [*rows.words.owners, kind]
    owner = np.where(rows.owner[births] < 0, len(words) - 1, rows.owner[births])
    sums = np.zeros(len(words), dtype=np.int64)
    live = np.zeros(len(words), dtype=np.int64)
    np.add.at(sums, owner[is_new], size[is_new])
    np.add.at(live, owner[is_live], size[is_live])
    shown = np.unique(owner[is_new | is_live]).tolist()
    return (
        {words[k]: int(sums[k]) for k in shown},
        {words[k]: int(live[k]) for k in shown},
        int(used[top]),
    )


def _present(values: list[int], counts: list[int]) -> Pair:
    """Return a pair in which a side without any has None."""
    base, compare = (value if counts[k] else None for k, value in enumerate(values))
    return Pair(base, compare)
