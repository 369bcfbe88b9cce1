"""Facts and stacks that a log of events needs from a capture.

Stacks have their ids in the segment's arena as numbers, and Python's frames those of one tree that
grows with the capture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from mem_parser.memlog.contents import Keyframe
from mem_parser.memlog.launches import tensor_text
from mem_parser.model import STACK_LOST_SHIFT, Profile, StackTable
from mem_parser.python.labels import Labels, MergedLabels
from mem_parser.python.stacks import PythonStacks
from mem_profiler.events.livestate import LiveState
from mem_profiler.profile.pythonstacks import PythonTree
from mem_profiler.segment import arena, layout, pyframes, pylabels
from mem_profiler.segment.arena import ArenaWords, bytes_of
from mem_profiler.segment.file import Segment, Words

_AT_ONCE = 1 << 10
_UNREADABLE = layout.STACK_UNREADABLE << STACK_LOST_SHIFT


def _nothing() -> None:
    """Nobody waits."""


class SegmentSource:
    """The source of a log (`mem_parser.memlog.rolling.Source`), from a segment."""

    def __init__(self, segment: Segment, facts: Callable[[], Profile], state: LiveState) -> None:
        self._words = ArenaWords(segment)
        self._tree = PythonTree()
        self._python = self._tree.part()
        self._labels = MergedLabels()
        self._facts = facts
        self.between: Callable[[], None] = _nothing
        """Called again and again while many stacks are read, which takes long."""
        self._state = state

    def facts(self) -> Profile:
        """The capture's facts as they are now."""
        return self._facts()

    def keyframe(self) -> Keyframe:
        """Live blocks after the events so far."""
        return self._state.keyframe()

    def python(self) -> PythonStacks:
        """The tree of Python's frames so far."""
        known = self._python
        if len(known) < len(self._tree):
            new = self._tree.part(len(known), len(known.codes))
            self._python = PythonStacks(
                np.concatenate((known.parent, new.parent)),
                np.concatenate((known.code, new.code)),
                np.concatenate((known.line, new.line)),
                np.concatenate((known.entry, new.entry)),
                known.codes + new.codes,
            )
        return self._python

    def labels(self) -> Labels | None:
        """The labels of stacks so far."""
        return self._labels.result()

    def stacks(self, numbers: NDArray[np.uint32]) -> StackTable:
        """The stacks with these ids in the arena, in their order."""
        ids = numbers.astype(np.int64)
        stacks = self._read(ids)
        wanted = stacks.interpreters.astype(np.int64)
        nodes = np.zeros(len(stacks), np.uint32)
        for low in range(0, len(stacks), _AT_ONCE):
            part = wanted[low : low + _AT_ONCE]
            frames = pyframes.read_frames(self._words.words, part)
            node = self._tree.add(frames)
            at = frames.index_of(part)
            known = at >= 0
            nodes[low : low + _AT_ONCE][known] = node[at[known]]
            self.between()
        stacks.interpreter = nodes
        found, label = pylabels.read_labels(
            self._words.words, stacks.label_numbers.astype(np.int64)
        )
        stacks.label = self._labels.intern(found)[label].astype(np.uint32)
        return stacks

    def texts(self, numbers: Sequence[int]) -> list[bytes]:
        """The texts of launches with these ids in the arena; empty: it makes no sense."""
        self._words.update()
        texts = [_text(self._words.words, number) for number in numbers]
        if not all(texts):
            self._words.again()
            texts = [_text(self._words.words, number) for number in numbers]
        return texts

    def _read(self, ids: NDArray[np.int64]) -> StackTable:
        self._words.update()
        stacks = arena.read_stacks(self._words.words, ids)
        if (stacks.flags == _UNREADABLE).any():
            self._words.again()
            stacks = arena.read_stacks(self._words.words, ids)
        return stacks


def _text(words: Words, record: int) -> bytes:
    data = bytes_of(words, record, layout.STACK_TEXT)
    if data:
        size = int.from_bytes(data[:8], "little")
        return data[8 : 8 + min(size, layout.LAUNCH_TEXT_BYTES)]
    tensor = np.frombuffer(bytes_of(words, record, layout.STACK_TENSOR), np.int64).tolist()
    if not 0 < len(tensor) <= 1 + layout.LAUNCH_DIMENSIONS:
        return b""
    head = np.array(tensor[:1], np.int64).view(np.int32).tolist()
    return tensor_text(head[0], head[1], tensor[1:])
