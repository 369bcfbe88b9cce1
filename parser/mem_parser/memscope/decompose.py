"""Owners of a dump's blocks, and bytes in use by owner class: at the end of each step, at its
highest moment, and at the highest of all.

`owners_in` finds the owners, from what the program told beside its log. `decomposed` adds up what
is in a dump, whoever wrote it: a block's class is that of its `owner`. Moments are times or numbers
of rows, whatever births and deaths are given in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from mem_parser.errors import one_line
from mem_parser.memscope.blockclasses import (
    ACTIVATION,
    ATEN,
    DOUBT,
    DOUBTED,
    NEVER,
    UNKNOWN,
    IntArray,
    LiveBlocks,
    SideFacts,
    class_of_owner,
)
from mem_parser.memscope.form import HOST_TYPE, POOLS
from mem_parser.memscope.reading import read_rows
from mem_parser.memscope.rows import UNKNOWN as NO_OWNER
from mem_parser.memscope.rows import Rows
from mem_parser.memscope.steps import ended, lives, steps_of
from mem_parser.sizes import short_size
from mem_parser.units import counted


class Moment(NamedTuple):
    """Live bytes at one moment, by class."""

    at: int
    bytes: IntArray

    @property
    def total(self) -> int:
        """Live bytes of all classes."""
        return int(self.bytes.sum())


class Step(NamedTuple):
    """A step: its name, what was live at its end, and at its highest moment."""

    name: str
    end: Moment
    peak: Moment


class ClassSums(NamedTuple):
    """What was live by class: ``names`` are those of the classes."""

    names: tuple[str, ...]
    steps: list[Step]
    peak: Moment


class BlockTable(NamedTuple):
    """Blocks as the sums need them; a block counts from ``born`` on and before ``died``."""

    of_class: IntArray
    size: IntArray
    born: IntArray
    died: IntArray


def sums_of(
    names: tuple[str, ...], blocks: BlockTable, ends: IntArray, steps: list[str]
) -> ClassSums:
    """Return the sums. ``ends`` are the moments at which steps end, in order, with their names."""
    changes = Changes(blocks)
    cuts, highest = changes.of_steps(ends)
    live, _ = changes.live(np.concatenate((cuts, highest, [changes.highest()])), len(names))
    count = len(steps)
    found = [
        Step(name, Moment(end, live[k]), Moment(changes.when(place), live[count + k]))
        for k, (name, end, place) in enumerate(
            zip(steps, ends.tolist(), highest.tolist(), strict=True)
        )
    ]
    return ClassSums(names, found, Moment(changes.when(changes.highest()), live[-1]))


class Changes:
    """Births and deaths in order. Place k is the state behind the first k of them."""

    def __init__(self, blocks: BlockTable) -> None:
        at = np.concatenate((blocks.born, blocks.died))
        change = np.concatenate((blocks.size, -blocks.size))
        # At one moment, deaths come first.
        order = np.lexsort((change > 0, at))
        self._at = at[order]
        self._of_class = np.concatenate((blocks.of_class, blocks.of_class))[order]
        self._bytes = change[order]
        self._blocks = np.where(order < len(blocks.born), 1, -1)
        self.total = np.concatenate(([0], np.cumsum(self._bytes)))
        """Live bytes at each place."""

    def when(self, place: int) -> int:
        """Return the moment of the change before a place; 0: there is none."""
        return int(self._at[place - 1]) if place else 0

    def highest(self) -> int:
        """Return the place with the most live bytes, the first of several."""
        return int(np.argmax(self.total))

    def of_steps(self, ends: IntArray) -> tuple[IntArray, IntArray]:
        """Return the places of the ends of steps, and of the highest moment of each."""
        cuts = np.searchsorted(self._at, ends, side="right")
        highest = []
        low = 0
        for cut in cuts.tolist():
            highest.append(low + int(np.argmax(self.total[low : cut + 1])))
            low = cut
        return cuts, np.array(highest, dtype=np.int64)

    def live(self, places: IntArray, classes: int) -> tuple[IntArray, IntArray]:
        """Return live bytes and blocks: a row for each place, a column for each class."""
        order = np.argsort(places, kind="stable")
        # The first of the places behind each change.
        row = np.searchsorted(places[order], np.arange(1, len(self._at) + 1))
        seen = row < len(places)
        cell = row[seen] * classes + self._of_class[seen]
        found = []
        for change in (self._bytes, self._blocks):
            sums = np.zeros(len(places) * classes, dtype=np.int64)
            np.add.at(sums, cell, change[seen])
            table = np.empty((len(places), classes), dtype=np.int64)
            table[order] = np.cumsum(sums.reshape(len(places), classes), axis=0)
            found.append(table)
        return found[0], found[1]


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


def lines(path: str, pools: Sequence[PoolClasses], rows: int) -> Iterator[str]:
    """Yield a table for each pool: a row for each step's end and peak, at most ``rows`` steps (0:
    all), the last ones; the peak of all comes last.
    """
    yield one_line(path)
    if not pools:
        yield "no allocations"
    for pool in pools:
        yield ""
        yield f"Device {one_line(pool.device)}, {one_line(pool.pool)}: bytes in use by owner"
        sums = pool.sums
        shown = sums.steps[-rows:] if rows else sums.steps
        table: list[Sequence[str]] = []
        for step in shown:
            table.append((f"step {one_line(step.name)} peak", *_cells(step.peak)))
            table.append((f"step {one_line(step.name)} end", *_cells(step.end)))
        table.append(("peak", *_cells(sums.peak)))
        if sums.peak.total:
            shares = [f"{100 * int(b) / sums.peak.total:.1f}%" for b in sums.peak.bytes]
            table.append(("", *shares, "100.0%"))
        yield from table_lines(("", *map(one_line, sums.names), "total"), table)
        if len(shown) < len(sums.steps):
            hidden = counted(len(sums.steps) - len(shown), "earlier step")
            yield f"{hidden} hidden. Use -n 0 to show all."


def _cells(moment: Moment) -> list[str]:
    return [*(short_size(int(b)) for b in moment.bytes), short_size(moment.total)]


def table_lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield a table: names at the left, numbers right-aligned."""
    widths = [max(len(row[k]) for row in [head, *rows]) for k in range(len(head))]
    for row in [head, *rows]:
        pairs = zip(row[1:], widths[1:])  # noqa: B905 - Python 3.9
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in pairs)]
        yield "  ".join(cells).rstrip()


def record(path: str, pools: Sequence[PoolClasses]) -> dict[str, Any]:
    """Return the same with plain numbers of bytes; ``row`` is the ID of the row at a moment."""
    return {
        "file": path,
        "pools": [
            {
                "device": pool.device,
                "pool": pool.pool,
                "steps": [
                    {
                        "step": step.name,
                        "end": _moment(pool, step.end),
                        "peak": _moment(pool, step.peak),
                    }
                    for step in pool.sums.steps
                ],
                "peak": _moment(pool, pool.sums.peak),
            }
            for pool in pools
        ],
    }


def _moment(pool: PoolClasses, moment: Moment) -> dict[str, Any]:
    by_class = {name: int(moment.bytes[k]) for k, name in enumerate(pool.sums.names)}
    return {"row": moment.at, "bytes": by_class, "total_bytes": moment.total}
