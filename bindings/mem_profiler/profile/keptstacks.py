"""Stacks of a running capture, read incrementally.

Model: records of the arena are written once and keep their ids, so a stack that was read keeps its
place too, and so do the Python frames and labels that it names. Each table begins with the stacks
of the one before. Equal stacks that the sampler stored twice are one, as in `tables`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mem_parser.interning import Growing, Interner, StackInterner, StackParts, pairs
from mem_parser.model import STACK_LOST_SHIFT, StackTable
from mem_parser.python.labels import MergedLabels
from mem_parser.python.stacks import PythonCode, PythonStacks
from mem_parser.sharedstacks import SharedStacks
from mem_profiler.profile.pythonstacks import PythonTree
from mem_profiler.profile.tables import Stacks
from mem_profiler.segment import arena, layout, pyframes, pylabels
from mem_profiler.segment.arena import ArenaWords
from mem_profiler.segment.file import Control, Segment

Ints = NDArray[np.int64]
_FRAMES_MAX = 1 << 27
"""Frames of all stacks together, as in `arena`: a forged arena could name large ones many times."""
_GENERATION_SHIFT = 32


class KeptStacks:
    """The stacks of the latest capture of one segment. Another capture begins anew."""

    def __init__(self, segment: Segment) -> None:
        self._words = ArenaWords(segment)
        self._capture = 0
        self._begin()

    def _begin(self) -> None:
        self._series = object()
        self._ids = Interner()
        self._place_of_id: Growing[np.int64] = Growing(np.int64)
        self._natives = StackInterner(np.uint64)
        self._owned, self._pairs = Interner(), Interner()
        self._of: Growing[np.int64] = Growing(np.int64)
        self._interpreter: Growing[np.uint32] = Growing(np.uint32)
        self._label: Growing[np.uint32] = Growing(np.uint32)
        self._frames = 0
        self._python = _Python()
        self._labels = MergedLabels()

    def read(self, control: Control, ids: Ints) -> Stacks:
        """The stacks with these ids, which are distinct, among all that were read before."""
        number = control.number("capture_number")
        if number != self._capture:
            self._begin()
            self._capture = number
        known = self._ids.find(ids)
        new = known < 0
        place = np.empty(len(ids), np.int64)
        place[~new] = self._place_of_id.values[known[~new]]
        if new.any():
            place[new] = self._add(ids[new])
        return Stacks(self._table(), place, self._python.stacks(), self._labels.result())

    def _add(self, ids: Ints) -> Ints:
        """Read new stacks; returns their places. One that cannot be read is asked for again."""
        self._words.update()
        found = arena.read_stacks(self._words.words, ids)
        if _unreadable(found).any():
            self._words.again()  # it may have been half written when it was read
            found = arena.read_stacks(self._words.words, ids)
        interpreter = self._python.take(self._words, found.interpreters.astype(np.int64))
        labels, label = pylabels.read_labels(
            self._words.words, found.label_numbers.astype(np.int64)
        )
        number = self._labels.intern(labels)[label]
        native = self._within_bound(self._intern(found.distinct)[found.of], found)
        place = self._places(native, interpreter.astype(np.int64), number)
        kept = ~_unreadable(found)
        self._ids.intern(ids[kept])
        self._place_of_id.extend(place[kept])
        return place

    def _intern(self, natives: StackTable) -> Ints:
        """The number of each of these native stacks among all."""
        frames = natives.frames
        tags = natives.generation.astype(np.int64) << _GENERATION_SHIFT
        offsets = natives.offsets
        parts = StackParts(frames, offsets[:-1], offsets[1:], tags | natives.flags.astype(np.int64))
        return self._natives.intern(parts)[0]

    def _within_bound(self, native: Ints, found: SharedStacks) -> Ints:
        """The native stacks, without those of stacks that would be too many frames."""
        total = self._frames + np.cumsum(found.depths)
        too_many = total > _FRAMES_MAX
        self._frames = int(total[~too_many].max(initial=self._frames))
        if too_many.any():
            nothing = arena.read_stacks(self._words.words, np.array([layout.STACK_UNREADABLE]))
            native[too_many] = self._intern(nothing.distinct)
        return native

    def _places(self, native: Ints, interpreter: Ints, label: Ints) -> Ints:
        """The place of each stack, new or known."""
        owned, _ = self._owned.intern(pairs(label, interpreter))
        place, first = self._pairs.intern(pairs(owned, native))
        self._of.extend(native[first])
        self._interpreter.extend(interpreter[first])
        self._label.extend(label[first])
        return place

    def _table(self) -> SharedStacks:
        tags, offsets = self._natives.tags.values, self._natives.offsets
        distinct = StackTable(
            offsets,
            self._natives.items.values,
            (tags & layout.U32_MAX).astype(np.uint32),
            (tags >> _GENERATION_SHIFT).astype(np.uint32),
            leaf_exact=True,
        )
        return SharedStacks(
            distinct,
            self._of.values,
            self._interpreter.values,
            self._label.values,
            self._series,
        )


def _unreadable(stacks: SharedStacks) -> NDArray[np.bool_]:
    return np.asarray(stacks.flags >> STACK_LOST_SHIFT == layout.STACK_UNREADABLE)


class _Python:
    """The Python frames of all stacks that were read: columns that grow."""

    def __init__(self) -> None:
        self._tree = PythonTree()
        self._parent: Growing[np.uint32] = Growing(np.uint32)
        self._code: Growing[np.uint32] = Growing(np.uint32)
        self._line: Growing[np.uint32] = Growing(np.uint32)
        self._entry: Growing[np.bool_] = Growing(np.bool_)
        self._codes: list[PythonCode] = []

    def take(self, words: ArenaWords, ids: Ints) -> NDArray[np.uint32]:
        """Read the frames with these ids and their callers; returns the number of the node of each,
        0 for an id of none.
        """
        numbers = np.zeros(len(ids), np.uint32)
        if not ids.any():
            return numbers
        frames = pyframes.read_frames(words.words, ids)
        of_frame = self._tree.add(frames)
        at = frames.index_of(ids)
        numbers[at >= 0] = of_frame[at[at >= 0]]
        new = self._tree.part(len(self._parent), len(self._codes))
        self._parent.extend(new.parent)
        self._code.extend(new.code)
        self._line.extend(new.line)
        self._entry.extend(new.entry)
        self._codes += new.codes
        return numbers

    def stacks(self) -> PythonStacks | None:
        """All of them; None without any."""
        if not len(self._parent):
            return None
        return PythonStacks(
            self._parent.values,
            self._code.values,
            self._line.values,
            self._entry.values,
            list(self._codes),
        )
