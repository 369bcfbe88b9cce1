"""Bytes in use by owner, within classes: at steps and at the peak.

Blocks of one owner are told apart by the operator that ran when they were allocated. A dump without
steps has parts of its time instead. What is many is bounded: of steps those with the most memory
stay, of owners and classes the largest; the others of a class are added up as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import NamedTuple

import numpy as np

from mem_parser.memscope.blockclasses import UNKNOWN, IntArray, class_of_owner
from mem_parser.memscope.decompose import (
    BlockTable,
    Changes,
    PoolBlocks,
    in_order,
    pool_blocks,
    sizes_of,
)
from mem_parser.memscope.rows import UNKNOWN as NO_OWNER
from mem_parser.memscope.rows import Rows

MOST_STEPS = 2000
MOST_OWNERS = 300
MOST_CLASSES = 40
PARTS = 240
"""Of the time of a dump without steps."""
SMALLER = "smaller classes"


class Owner(NamedTuple):
    """Blocks of one owner, as the dump has it, that one operator allocated; empty texts: none.

    ``joined`` is how many such groups are added up here; 1: it is this one.
    """

    name: str
    owner_class: str
    operator: str
    joined: int


@dataclass(frozen=True)
class Held:
    """Live bytes and blocks: a row for each moment, a column for each owner."""

    bytes: IntArray
    blocks: IntArray

    def joined(self, column: IntArray, count: int) -> Held:
        """Return the same with columns added up: ``column`` says into which each goes."""
        parts = []
        for table in (self.bytes, self.blocks):
            sums = np.zeros((len(table), count), dtype=np.int64)
            np.add.at(sums.T, column, table.T)
            parts.append(sums)
        return Held(*parts)


@dataclass(frozen=True)
class PoolOwners:
    """One pool of a device. Moments are IDs of rows, times are nanoseconds from the first row on.

    ``owners`` are sorted: those of one class stand together, the largest first.
    """

    device: str
    pool: str
    owners: list[Owner]
    names: list[str]
    """Of steps; empty texts where steps are parts of the time."""
    is_steps: bool
    left_out: int
    """Steps that are not here; each that is stands for its neighbours that had less memory."""
    begins_ns: IntArray
    ends_ns: IntArray
    peaks_ns: IntArray
    peak_rows: IntArray
    ends: Held
    peaks: Held
    """At the highest moment of each step."""
    top: Held
    """At the highest moment of all, in one row."""
    top_row: int
    top_ns: int

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of the owners, in their order."""
        return tuple(dict.fromkeys(owner.owner_class for owner in self.owners))

    @property
    def peak_bytes(self) -> int:
        """The most bytes of the pool that were in use at once."""
        return int(self.top.bytes.sum())


def owners_of(rows: Rows, *, most_steps: int = MOST_STEPS, last_steps: int = 0) -> list[PoolOwners]:
    """Return what was in use by owner in each pool; ``last_steps`` are looked at alone (0: all)."""
    if not len(rows):
        return []
    clock = _Clock(rows)
    return [_pool(rows, pool, clock, most_steps, last_steps) for pool in pool_blocks(rows)]


class _Clock:
    """Times of rows by their IDs."""

    def __init__(self, rows: Rows) -> None:
        order = np.argsort(rows.id, kind="stable")
        self.ids = rows.id[order]
        self.times_ns = np.maximum.accumulate(rows.time_ns[order]) - int(rows.time_ns.min())

    def at(self, ids: IntArray) -> IntArray:
        """Return when these rows were; 0 before the first."""
        place = np.searchsorted(self.ids, ids, side="right") - 1
        found: IntArray = np.where(place < 0, 0, self.times_ns[np.maximum(place, 0)])
        return found

    def parts(self, count: int) -> IntArray:
        """Return the IDs of the last rows of so many equal parts of the time."""
        edges = np.linspace(0, int(self.times_ns[-1]), count + 1)[1:]
        edges[-1] = self.times_ns[-1]
        last = np.searchsorted(self.times_ns, edges, side="right") - 1
        found: IntArray = self.ids[np.maximum(last, 0)]
        return found


def _pool(
    rows: Rows, pool: PoolBlocks, clock: _Clock, most_steps: int, last_steps: int
) -> PoolOwners:
    is_steps = len(pool.step_ends) > 0
    ends = pool.step_ends if is_steps else clock.parts(min(PARTS, len(clock.ids)))
    names = pool.step_names if is_steps else [""] * len(ends)
    owners, column = _owners(rows, pool)
    sizes = sizes_of(rows, pool)
    changes = Changes(BlockTable(column, sizes, pool.born, pool.died))
    top = changes.highest()
    owners, order = _kept(owners, changes.live(np.array([top]), len(owners))[0][0])
    changes = Changes(BlockTable(order[column], sizes, pool.born, pool.died))
    cuts, highest = changes.of_steps(ends)
    begins = np.concatenate(([0], clock.at(ends)[:-1])) if len(ends) else clock.at(ends)
    shown = _steps_of(changes.total[highest], most_steps, last_steps)
    count = len(shown)
    places = np.concatenate((cuts[shown], highest[shown], [top]))
    held = Held(*changes.live(places, len(owners)))
    peak_rows = np.array([changes.when(k) for k in highest[shown].tolist()], dtype=np.int64)
    top_row = changes.when(top)
    return PoolOwners(
        device=pool.device,
        pool=pool.pool,
        owners=owners,
        names=[names[k] for k in shown.tolist()],
        is_steps=is_steps,
        left_out=min(last_steps or len(ends), len(ends)) - count,
        begins_ns=begins[shown],
        ends_ns=clock.at(ends)[shown],
        peaks_ns=clock.at(peak_rows),
        peak_rows=peak_rows,
        ends=_part(held, slice(0, count)),
        peaks=_part(held, slice(count, 2 * count)),
        top=_part(held, slice(2 * count, None)),
        top_row=top_row,
        top_ns=int(clock.at(np.array([top_row]))[0]),
    )


def _part(held: Held, rows: slice) -> Held:
    return Held(held.bytes[rows], held.blocks[rows])


def _owners(rows: Rows, pool: PoolBlocks) -> tuple[list[Owner], IntArray]:
    """Return the owners of a pool's blocks, and the number of each block's."""
    width = len(rows.words.names) + 1
    key = (rows.owner[pool.births] + 1).astype(np.int64) * width
    key += operators_at(rows, pool.births) + 1
    used, column = np.unique(key, return_inverse=True)
    owners = []
    for number in used.tolist():
        owner, name = divmod(number, width)
        owners.append(
            _owner(rows.words.owners, owner - 1, rows.words.names[name - 1] if name else "")
        )
    return owners, column.reshape(-1)


def _owner(names: Sequence[str], number: int, operator: str) -> Owner:
    if number == NO_OWNER:
        return Owner("", UNKNOWN, operator, 1)
    return Owner(names[number], class_of_owner(names[number]), operator, 1)


def _kept(owners: list[Owner], at_peak: IntArray) -> tuple[list[Owner], IntArray]:
    """Return the owners in order, and the new number of each: at most `MOST_CLASSES` classes, and
    `MOST_OWNERS` with those that others were added up in.
    """
    by_class: dict[str, int] = {}
    for owner, size in zip(owners, at_peak.tolist(), strict=True):
        by_class[owner.owner_class] = by_class.get(owner.owner_class, 0) + size
    known = in_order({*by_class, UNKNOWN})
    if len(by_class) > MOST_CLASSES:
        largest = sorted(by_class, key=lambda name: -by_class[name])[: MOST_CLASSES - 2]
        known = (*in_order({*largest, UNKNOWN}), SMALLER)
        kept = set(known)
        owners = [
            owner if owner.owner_class in kept else owner._replace(owner_class=SMALLER)
            for owner in owners
        ]
    return _joined(owners, at_peak, known, MOST_OWNERS)


def _joined(
    owners: list[Owner], at_peak: IntArray, classes: Sequence[str], most: int
) -> tuple[list[Owner], IntArray]:
    rank = {name: k for k, name in enumerate(classes)}
    sizes = at_peak.tolist()
    order = sorted(
        range(len(owners)),
        key=lambda k: (rank[owners[k].owner_class], owners[k].joined > 1, -sizes[k],
                       owners[k].name, owners[k].operator),
    )  # fmt: skip
    alone = set(range(len(owners)))
    if len(owners) > most:
        room = max(most - len(classes), 0)
        largest = sorted((k for k in order if owners[k].joined == 1), key=lambda k: -sizes[k])
        alone = set(largest[:room])
    found: list[Owner] = []
    column = np.zeros(len(owners), dtype=np.int64)
    for name, members in groupby(order, key=lambda k: owners[k].owner_class):
        mine = list(members)
        for k in mine:
            if k in alone:
                column[k] = len(found)
                found.append(owners[k])
        others = [k for k in mine if k not in alone]
        if others:
            column[others] = len(found)
            found.append(
                owners[others[0]]
                if len(others) == 1
                else Owner("", name, "", sum(owners[k].joined for k in others))
            )
    return found, column


def with_fewer_owners(pool: PoolOwners, most: int) -> PoolOwners:
    """Return a pool with at most so many owners, or one for each class."""
    if len(pool.owners) <= max(most, len(pool.classes)):
        return pool
    owners, column = _joined(pool.owners, pool.top.bytes[0], pool.classes, most)
    count = len(owners)
    return replace(
        pool,
        owners=owners,
        ends=pool.ends.joined(column, count),
        peaks=pool.peaks.joined(column, count),
        top=pool.top.joined(column, count),
    )


def _steps_of(peak_bytes: IntArray, most: int, last: int) -> IntArray:
    """Return which steps stay, in order: of each group of neighbours the highest one."""
    first = max(len(peak_bytes) - last, 0) if last else 0
    count = len(peak_bytes) - first
    if count <= most:
        return np.arange(first, first + count)
    edges = np.linspace(first, first + count, most + 1).astype(np.int64).tolist()
    return np.array([low + int(np.argmax(peak_bytes[low:high])) for low, high in pairwise(edges)])


def operators_at(rows: Rows, births: IntArray) -> IntArray:
    """Return the number of the operator's name for each of these rows, or `NO_OWNER`.

    An operator that began before the dump does not count.
    """
    begins = rows.is_start & (rows.tid >= 0)
    edges = np.flatnonzero(begins | (rows.is_end & (rows.tid >= 0)))
    if not begins.any() or not len(births):
        return np.full(len(births), NO_OWNER, dtype=np.int64)
    every = np.concatenate((edges, births))
    # Operators and births of one thread stand together, in the order of IDs.
    order = np.lexsort((rows.id[every], rows.tid[every]))
    tid = rows.tid[every][order]
    is_birth = order >= len(edges)
    is_start = begins[every][order]
    change = np.where(is_birth, 0, np.where(is_start, 1, -1))
    depth = _depths(change, tid)
    # The last begin of the thread at the depth that a birth finds is not over: another would be
    # behind it.
    width = len(order) + 1
    place = np.arange(len(order))
    starts = np.flatnonzero(is_start)
    key = depth[starts] * width + place[starts]
    by_depth = np.argsort(key)
    asked = np.flatnonzero(is_birth)
    found = np.searchsorted(key[by_depth], depth[asked] * width + place[asked]) - 1
    start = starts[by_depth[np.maximum(found, 0)]]
    good = (depth[asked] > 0) & (tid[asked] >= 0)
    names = np.full(len(births), NO_OWNER, dtype=np.int64)
    names[order[asked] - len(edges)] = np.where(good, rows.name[every[order[start]]], NO_OWNER)
    return names


def _depths(change: IntArray, tid: IntArray) -> IntArray:
    """Return how many operators are open behind each row of a thread; ends without a begin do not
    count.
    """
    depth = np.cumsum(change)
    first = np.flatnonzero(np.diff(tid, prepend=tid[0] - 1))
    length = np.diff(np.append(first, len(tid)))
    depth -= np.repeat(depth[first] - change[first], length)
    # The lowest so far, of each thread alone: threads are shifted far below those before.
    shift = np.repeat(np.arange(len(first)) * (2 * len(tid) + 2), length)
    lowest = np.minimum.accumulate(depth - shift) + shift
    found: IntArray = depth - np.minimum(lowest, 0)
    return found
