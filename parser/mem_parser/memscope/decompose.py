"""Owners of a dump's blocks, and bytes in use by owner class over the steps.

`owners_in` finds the owners, from what the program told beside its log. `decomposed` adds up what
is in a dump, whoever wrote it: a block's class is that of its `owner`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from mem_parser.memscope.blockclasses import (
    ACTIVATION,
    ATEN,
    DOUBT,
    DOUBTED,
    UNKNOWN,
    SideFacts,
    class_of_owner,
)
from mem_parser.memscope.classsums import BlockTable, ClassSums, sums_of
from mem_parser.memscope.form import HOST_TYPE, POOLS
from mem_parser.memscope.liveblocks import NEVER, IntArray, LiveBlocks
from mem_parser.memscope.reading import read_rows
from mem_parser.memscope.rows import UNKNOWN as NO_OWNER
from mem_parser.memscope.rows import Rows
from mem_parser.memscope.steps import ended, lives, steps_of

FRAMEWORK_TYPES = (*POOLS, HOST_TYPE)
"""Types of events whose blocks a framework hands out."""
DETAIL_1, DETAIL_2 = "DETAIL_1", "DETAIL_2"


class Owned(NamedTuple):
    """An owner of a block: the place of its row in the dump, a level, and the label there."""

    place: int
    framework: str
    level: str
    label: str


def owners_in(path: str, facts: SideFacts) -> Iterator[Owned]:
    """Yield the owners of a dump's blocks. Raises `DumpError`."""
    rows = read_rows(path)
    for kind in FRAMEWORK_TYPES:
        here = rows.is_type(kind)
        if not here.any():
            continue
        births, ends = lives(rows, here)
        found = facts.classes(_blocks(rows, births, ends))
        for row, number, aten in zip(births, found.of_block, found.is_aten):  # noqa: B905 - Python 3.9
            name = found.names[number]
            place = int(rows.place[row])
            if name == DOUBTED:
                yield Owned(place, kind, DETAIL_1, ACTIVATION)
                yield Owned(place, kind, "DOUBT", DOUBT)
            elif name not in {ATEN, UNKNOWN}:
                yield Owned(place, kind, DETAIL_1, name)
            if aten:
                yield Owned(place, kind, DETAIL_2, ATEN)


def _blocks(rows: Rows, births: IntArray, ends: IntArray) -> LiveBlocks:
    order = np.argsort(rows.id, kind="stable")
    ids = rows.id[order]
    has_end = ends >= 0
    died = np.full(len(births), NEVER, dtype=np.int64)
    end_rows = order[np.searchsorted(ids, ends[has_end])]
    # A free that the conversion made says when the collection ended, at which nothing ends.
    died[has_end] = np.where(rows.shadow[end_rows], NEVER, rows.time_ns[end_rows])
    return LiveBlocks(
        rows.address[births], rows.size[births], rows.time_ns[births], died, rows.tid[births]
    )


class PoolClasses(NamedTuple):
    """The classes of one pool of a device."""

    device: str
    pool: str
    sums: ClassSums


class PoolBlocks(NamedTuple):
    """The blocks of one pool of a device, and the steps there. Moments are IDs of rows."""

    device: str
    pool: str
    births: IntArray
    """Rows of the allocations."""
    born: IntArray
    died: IntArray
    step_ends: IntArray
    step_names: list[str]


def pool_blocks(rows: Rows) -> Iterator[PoolBlocks]:
    """Yield the blocks of each pool that has an event."""
    for number in rows.devices():
        steps = sorted(ended(steps_of(rows, number)), key=lambda one: one[1])
        ends = np.array([end for _, end in steps], dtype=np.int64)
        names = [step.name for step, _ in steps]
        for kind in sorted(set(rows.words.types)):
            births, died = lives(rows, (rows.device == number) & rows.is_type(kind))
            if len(births):
                yield PoolBlocks(
                    rows.words.devices[number], kind, births, rows.id[births],
                    np.where(died >= 0, died, NEVER), ends, names,
                )  # fmt: skip


def decomposed(rows: Rows) -> list[PoolClasses]:
    """Return what was in use by class, of each pool that has an event: at steps, at the peak.

    Blocks from before the collection count from its begin on. Moments are IDs of rows.
    """
    found: list[PoolClasses] = []
    classes = [class_of_owner(owner) for owner in rows.words.owners]
    for pool in pool_blocks(rows):
        of_row = [
            classes[k] if k != NO_OWNER else UNKNOWN for k in rows.owner[pool.births].tolist()
        ]
        used = in_order(set(of_row) | {UNKNOWN})
        numbers = {name: k for k, name in enumerate(used)}
        table = BlockTable(
            np.array([numbers[name] for name in of_row], dtype=np.int64),
            sizes_of(rows, pool), pool.born, pool.died,
        )  # fmt: skip
        sums = sums_of(used, table, pool.step_ends, pool.step_names)
        found.append(PoolClasses(pool.device, pool.pool, sums))
    return found


def sizes_of(rows: Rows, pool: PoolBlocks) -> IntArray:
    """Return the bytes of a pool's blocks; one whose size is not known has none."""
    sizes: IntArray = np.maximum(rows.size[pool.births], 0)
    return sizes


_ORDER = ("weight", "optimizer_state", "gradient", "input", ACTIVATION, DOUBTED)


def in_order(names: set[str]) -> tuple[str, ...]:
    """Return classes: those that are known, others, `aten`, `unknown`."""
    last = (ATEN, UNKNOWN)
    others = sorted(names - {*_ORDER, *last})
    return tuple(name for name in (*_ORDER, *others, *last) if name in names)
