"""Leaks of a range that marks of the program delimit.

Three marks A, B, C of one message: a block that was allocated from A to B (IDs, both included) must
be freed before C. Blocks are told apart by their process, their pool and their address: a free ends
every block of the range there that came before it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mem_parser.memscope.form import FREE, HAL, MALLOC, MSTX, NOTHING, POOLS
from mem_parser.memscope.rows import BoolArray, IntArray, Rows

MARKS = 3


class Range(NamedTuple):
    """The IDs of three marks."""

    begin: int
    end: int
    free_by: int


class DeviceLeaks(NamedTuple):
    """Findings on a device."""

    device: str
    marks: int
    """Marks with the message."""
    range: Range | None
    """None: too few marks, or none at the index."""
    blocks: IntArray
    """Rows of the leaked allocations: numbers in the rows that were searched, by ID."""


def find_leaks(
    rows: Rows, message: str, start_index: int, *, pools: bool = False
) -> list[DeviceLeaks]:
    """Return the leaks of each device, in the order of the file. Marks of no device are of each.

    ``pools`` True: blocks of pools, too, not only those of HAL. Blocks from before the collection
    (`shadow`) do not count.
    """
    wanted = rows.is_type(HAL, *POOLS) if pools else rows.is_type(HAL)
    marks = rows.is_event(MSTX) & rows.is_type("MARK")
    names = np.array([name == message for name in rows.words.names], dtype=bool)
    marks &= names[rows.name] if len(rows) else marks
    nobody = np.array([*(word == NOTHING for word in rows.words.devices), False], dtype=bool)
    found = []
    for number in rows.devices():
        here = rows.device == number
        # A mark of no device is one of each. In a file of several, it is there once for each.
        ids = np.unique(rows.id[marks & (here | nobody[rows.device])])
        span = range_of(ids, start_index)
        leaked = np.empty(0, dtype=np.int64)
        if span is not None:
            leaked = not_freed(rows, here & wanted & ~rows.shadow, span)
        found.append(DeviceLeaks(rows.words.device_text(number), len(ids), span, leaked))
    return found


def range_of(mark_ids: IntArray, start_index: int) -> Range | None:
    """Return the range that begins with the mark of that index, from 0 on; None: there is none."""
    if len(mark_ids) < MARKS or start_index + MARKS > len(mark_ids):
        return None
    begin, end, free_by = mark_ids[start_index : start_index + MARKS].tolist()
    return Range(begin, end, free_by)


def not_freed(rows: Rows, wanted: BoolArray, span: Range) -> IntArray:
    """Return which of the wanted rows allocate in the range and have no free up to its last mark,
    by ID.
    """
    inside = (rows.id >= span.begin) & (rows.id <= span.free_by) & wanted
    births = np.flatnonzero(inside & rows.is_event(MALLOC) & (rows.id <= span.end))
    deaths = np.flatnonzero(inside & rows.is_event(FREE))
    births = births[np.argsort(rows.id[births], kind="stable")]
    keys = _block_keys(rows, np.concatenate((births, deaths)))
    last = last_of_each(keys[len(births) :], rows.id[deaths], deaths)
    ended = last_at(last, keys[: len(births)])
    # A free with the same ID as the allocation counts where it stands behind it.
    freed = (ended[0] > rows.id[births]) | ((ended[0] == rows.id[births]) & (ended[1] > births))
    leaked: IntArray = births[~freed]
    return leaked


def _block_keys(rows: Rows, index: IntArray) -> IntArray:
    """Return a number for each of these rows that is the same for the same process, type and
    address.
    """
    key = np.zeros(len(index), dtype=np.int64)
    for column in (rows.pid, rows.type, rows.address):
        _, number = np.unique(column[index], return_inverse=True)
        key = key * (len(index) + 1) + number.reshape(-1)
        key = np.unique(key, return_inverse=True)[1].reshape(-1)
    return key


def last_of_each(
    keys: np.ndarray, ids: IntArray, places: IntArray
) -> tuple[np.ndarray, IntArray, IntArray]:
    """Return the distinct keys in order, with the largest ID of each and its place."""
    order = np.lexsort((places, ids, keys))
    keys, ids, places = keys[order], ids[order], places[order]
    is_last = np.ones(len(keys), dtype=bool)
    is_last[:-1] = keys[1:] != keys[:-1]
    return keys[is_last], ids[is_last], places[is_last]


def last_at(
    last: tuple[np.ndarray, IntArray, IntArray], keys: np.ndarray
) -> tuple[IntArray, IntArray]:
    """Return ID and place for each key; the smallest number where there is none."""
    known, ids, places = last
    least = np.iinfo(np.int64).min
    if not len(known):
        none = np.full(len(keys), least, dtype=np.int64)
        return none, none
    where = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    has = known[where] == keys
    return np.where(has, ids[where], least), np.where(has, places[where], least)
