"""Bytes by class of block: at the end of each step, at its highest moment, and at the highest of
all.

Moments are times or numbers of rows, whatever births and deaths are given in.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mem_parser.memscope.liveblocks import IntArray


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
