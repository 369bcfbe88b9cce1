"""Classify blocks (weights, gradients, ...) by the program's statements beside its log.

A block has one class, the first of these that holds:

* a label that the program gave: `weight`, `optimizer_state`, `gradient`, another one, `input`;
* `activation`: an operator allocated it while gradients were on, and it was live when the next
  backward began; `activation_or_leak` if two more have begun and it outlived the last one: whoever
  frees what it computed does so by then;
* `aten`: an operator allocated it, read it or wrote it;
* `unknown`: none of that.

A label holds for the block's whole life, since before it is told nobody can know it.

Blocks that are live at one time do not overlap. Most questions name the begin of a block: one
search by begin and birth answers them. The others ask a segment tree over time, all questions level
by level: a node has the blocks that live all its time, by address, so that one search in a node
finds the only one that may contain the address. A question takes O(log n) searches at most.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mem_parser.memscope.siderows import SideRow

IntArray = npt.NDArray[np.int64]
AddressArray = npt.NDArray[np.uint64]
BoolArray = npt.NDArray[np.bool_]
NEVER = np.iinfo(np.int64).max
NOWHERE = -1


@dataclass(frozen=True)
class LiveBlocks:
    """Blocks: columns of one length.

    A block lives from ``born_ns`` on and before ``died_ns`` (`NEVER`: it was never freed). ``tid``
    is the thread that allocated it. Sizes are in bytes.
    """

    address: AddressArray
    size: IntArray
    born_ns: IntArray
    died_ns: IntArray
    tid: IntArray

    def __len__(self) -> int:
        return len(self.address)

    def containing(self, address: AddressArray, time_ns: IntArray) -> IntArray:
        """Return for each address and time the row of the block there, or `NOWHERE`."""
        found = self._beginning(address, time_ns)
        rest = np.flatnonzero(found == NOWHERE)
        if len(rest) and len(self):
            found[rest] = self._around(address[rest], time_ns[rest])
        return found

    def _beginning(self, address: AddressArray, time_ns: IntArray) -> IntArray:
        """Return the blocks that begin there."""
        if not len(self):
            return np.full(len(address), NOWHERE, dtype=np.int64)
        begins, group = np.unique(self.address, return_inverse=True)
        order = np.lexsort((self.born_ns, group))
        births = np.sort(self.born_ns)
        # Group and rank of the birth in one number.
        width = len(births) + 1
        key = group[order] * width + np.searchsorted(births, self.born_ns[order], side="right")
        mine = np.searchsorted(begins, address)
        there = mine < len(begins)
        there[there] = begins[mine[there]] == address[there]
        asked = mine * width + np.searchsorted(births, time_ns, side="right")
        place = np.searchsorted(key, asked, side="right") - 1
        row = order[np.maximum(place, 0)]
        good = there & (place >= 0)
        good &= (self.address[row] == address) & (time_ns < self.died_ns[row])
        good &= self.born_ns[row] <= time_ns
        return np.where(good, row, NOWHERE)

    def _around(self, address: AddressArray, time_ns: IntArray) -> IntArray:
        """Return the blocks that contain an address."""
        begins = np.unique(self.address)
        rank = np.searchsorted(begins, self.address)
        moments = np.unique(np.concatenate((self.born_ns, self.died_ns)))
        leaves = 1 << max(len(moments) - 1, 1).bit_length()
        low = np.searchsorted(moments, self.born_ns) + leaves
        high = np.searchsorted(moments, self.died_ns) + leaves
        leaf = np.searchsorted(moments, time_ns, side="right") - 1
        asked_rank = np.searchsorted(begins, address, side="right") - 1
        found = np.full(len(address), NOWHERE, dtype=np.int64)
        left = np.flatnonzero((leaf >= 0) & (asked_rank >= 0))
        node = leaf + leaves
        rows = np.flatnonzero(low < high)
        while len(rows) and len(left):
            at, block = _of_level(low, high, rows)
            key = at * len(begins) + rank[block]
            order = np.argsort(key, kind="stable")
            key, block = key[order], block[order]
            place = np.searchsorted(key, node[left] * len(begins) + asked_rank[left], "right") - 1
            if len(key):
                row = block[np.maximum(place, 0)]
                good = (place >= 0) & (key[np.maximum(place, 0)] // len(begins) == node[left])
                good &= address[left] - self.address[row] < self.size[row].astype(np.uint64)
                found[left[good]] = row[good]
                left = left[~good]
            low[rows] = (low[rows] + 1) >> 1
            high[rows] >>= 1
            rows = rows[low[rows] < high[rows]]
            node >>= 1
        return found


def _of_level(low: IntArray, high: IntArray, rows: IntArray) -> tuple[IntArray, IntArray]:
    """Return the nodes of this level that belong to blocks whose parents do not: node, block."""
    first = rows[low[rows] & 1 == 1]
    last = rows[high[rows] & 1 == 1]
    nodes = np.concatenate((low[first], high[last] - 1))
    blocks = np.concatenate((first, last))
    # A block of one node has it from both sides.
    once = np.concatenate((np.ones(len(first), dtype=bool), ~_same(low, high, last)))
    return nodes[once], blocks[once]


def _same(low: IntArray, high: IntArray, rows: IntArray) -> BoolArray:
    same: BoolArray = (low[rows] & 1 == 1) & (low[rows] == high[rows] - 1)
    return same


WEIGHT, OPTIMIZER_STATE, GRADIENT, INPUT = "weight", "optimizer_state", "gradient", "input"
ACTIVATION, ATEN, UNKNOWN = "activation", "aten", "unknown"
DOUBT = "or_leak"
"""A level of an owner behind `activation`."""
DOUBTED = f"{ACTIVATION}_{DOUBT}"
_MORE_BACKWARDS = 2
_FIRST = (WEIGHT, OPTIMIZER_STATE, GRADIENT)
_LAST = (INPUT, ACTIVATION, DOUBTED, ATEN, UNKNOWN)


class Classes(NamedTuple):
    """Classes of blocks: ``names``, and for each block the number of its name; for each block,
    ``is_aten`` says whether operators used it.
    """

    names: tuple[str, ...]
    of_block: npt.NDArray[np.int64]
    is_aten: BoolArray


class SideFacts:
    """What side rows say of owners, in columns. Rows of other events are not for it."""

    def __init__(self, rows: Iterable[SideRow] = ()) -> None:
        self._told = _Points()
        self._labels: list[str] = []
        self._used = _Points()
        self._starts: dict[int, array[int]] = {}
        self._ends: dict[int, array[int]] = {}
        self._grad: dict[int, list[tuple[int, bool]]] = {}
        self._backwards: list[int] = []
        for row in rows:
            self.add(row)

    def add(self, row: SideRow) -> None:
        """Take in a row."""
        if row.event == "OP_LAUNCH":
            ends = self._ends if row.type == "ATEN_END" else self._starts
            ends.setdefault(row.tid, array("q")).append(row.time_ns)
        elif row.event == "PHASE":
            if row.type == "BACKWARD_START":
                self._backwards.append(row.time_ns)
            elif row.type in {"GRAD_ON", "GRAD_OFF"}:
                on = row.type == "GRAD_ON"
                self._grad.setdefault(row.tid, []).append((row.time_ns, on))
        elif row.address is not None:
            if row.event == "OWNER" and row.type == "DETAIL_1":
                self._told.add(row)
                self._labels.append(row.name)
            elif row.event == "ACCESS" or (row.event == "OWNER" and row.type == "DETAIL_2"):
                self._used.add(row)

    def classes(self, blocks: LiveBlocks) -> Classes:
        """Return the classes of the blocks of one memory."""
        others = sorted(set(self._labels) - {*_FIRST, *_LAST})
        names = (*_FIRST, *others, *_LAST)
        number = {name: k for k, name in enumerate(names)}
        of_block = np.full(len(blocks), number[UNKNOWN], dtype=np.int64)
        is_aten = self._in_operator(blocks)
        used = self._used.blocks(blocks)
        is_aten[used[used != NOWHERE]] = True
        of_block[is_aten] = number[ATEN]
        computed = is_aten & self._with_gradients(blocks)
        to_backward, beyond = self._to_backward(blocks)
        of_block[computed & to_backward] = number[ACTIVATION]
        of_block[computed & to_backward & beyond] = number[DOUBTED]
        told = self._told.blocks(blocks)
        label = np.array([number[name] for name in self._labels], dtype=np.int64)
        np.minimum.at(of_block, told[told != NOWHERE], label[told != NOWHERE])
        return Classes(names, of_block, is_aten)

    def _in_operator(self, blocks: LiveBlocks) -> BoolArray:
        """Tell which blocks a thread allocated while it ran an operator."""
        inside = np.zeros(len(blocks), dtype=bool)
        for tid, begins in self._starts.items():
            mine = np.flatnonzero(blocks.tid == tid)
            born = blocks.born_ns[mine]
            open_ = np.searchsorted(_sorted(begins), born, side="right")
            open_ -= np.searchsorted(_sorted(self._ends.get(tid, array("q"))), born, side="left")
            inside[mine] = open_ > 0
        return inside

    def _with_gradients(self, blocks: LiveBlocks) -> BoolArray:
        """Tell which blocks a thread allocated while gradients were on."""
        on = np.zeros(len(blocks), dtype=bool)
        for tid, changes in self._grad.items():
            mine = np.flatnonzero(blocks.tid == tid)
            times, states = zip(*sorted(changes))  # noqa: B905 - Python 3.9
            last = np.searchsorted(np.array(times), blocks.born_ns[mine], side="right") - 1
            on[mine] = (last >= 0) & np.array(states)[np.maximum(last, 0)]
        return on

    def _to_backward(self, blocks: LiveBlocks) -> tuple[BoolArray, BoolArray]:
        """Tell which blocks were live when the next backward after their birth began, and which
        when the last one did, with others in between.
        """
        begins = np.sort(np.array([*self._backwards, np.iinfo(np.int64).max], dtype=np.int64))
        last = len(begins) - 1
        place = np.searchsorted(begins, blocks.born_ns, side="right")
        lives: BoolArray = begins[np.minimum(place, last)] < blocks.died_ns
        outlives = (place + _MORE_BACKWARDS < last) & (begins[last - 1] < blocks.died_ns)
        return lives, outlives


def _sorted(times_ns: array[int]) -> IntArray:
    return np.sort(np.array(times_ns, dtype=np.int64))


class _Points:
    """Addresses at times."""

    def __init__(self) -> None:
        self._address = array("Q")
        self._time_ns = array("q")

    def add(self, row: SideRow) -> None:
        assert row.address is not None
        self._address.append(row.address)
        self._time_ns.append(row.time_ns)

    def blocks(self, blocks: LiveBlocks) -> IntArray:
        return blocks.containing(
            np.array(self._address, dtype=np.uint64), np.array(self._time_ns, dtype=np.int64)
        )


def class_of_owner(owner: str) -> str:
    """Return the class that a value of `owner` says; other tools say `ops` for `aten`."""
    levels = owner.split("@")[1:]
    known = {*_FIRST, INPUT, ACTIVATION}
    for place, level in enumerate(levels):
        if level in known:
            doubted = level == ACTIVATION and levels[place + 1 : place + 2] == [DOUBT]
            return DOUBTED if doubted else level
    if {ATEN, "ops"} & set(levels):
        return ATEN
    return levels[0] if levels and levels[0] else UNKNOWN
