"""The files of one run: each of limited size, a limited number of them, the oldest is removed.

Each file stands alone. It begins with facts, with what was live at its beginning, and with the
stacks of that; later stacks come as their events come. Stacks and Python's frames have their own
numbers in each file. `RollingLog` gives these: its callers use theirs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from mem_parser.interning import distinct
from mem_parser.memlog.contents import Keyframe
from mem_parser.memlog.events import Events, Kind
from mem_parser.memlog.filefacts import FileFacts, Hole
from mem_parser.memlog.launches import Launches
from mem_parser.memlog.writer import MemlogWriter, Put
from mem_parser.model import Profile, Reading, StackTable
from mem_parser.python.labels import Labels
from mem_parser.python.stacks import PythonStacks

USUAL_BYTES = 100_000_000
SUFFIX = ".memlog"
_RESERVE_BYTES = 1 << 21
"""A file ends when it has less room than that: for a block and the last words."""
_BATCH_EVENTS = 1 << 16

Numbers = npt.NDArray[np.uint32]


class Source(Protocol):
    """The interface of a log to its writer. All numbers are the writer's."""

    def facts(self) -> Profile:
        """Return the capture's facts; sites and stacks in it are left out."""
        ...

    def keyframe(self) -> Keyframe:
        """Return what was live at a moment up to now: all events up to its time are in it, whether
        they were given to the log or not, and none after.
        """
        ...

    def stacks(self, numbers: Numbers) -> StackTable:
        """Return the stacks of these numbers (distinct, ascending), in their order."""
        ...

    def python(self) -> PythonStacks:
        """Return the tree of Python's frames, which only grows."""
        ...

    def labels(self) -> Labels | None:
        """Return the labels of stacks, which only grow; None if there are none yet."""
        ...

    def texts(self, numbers: Sequence[int]) -> list[bytes]:
        """Return the texts of launches of these numbers (distinct)."""
        ...


class Files(Protocol):
    """Where the files of a log go."""

    def begin(self, number: int) -> Put:
        """Begin the file of that number; returns what takes its blocks. Raises OSError."""
        ...

    def end(self) -> None:
        """Close the file that was begun last. Raises OSError."""
        ...

    def close(self) -> None:
        """Close everything; a second call does nothing."""
        ...


class RollingLog:
    """Writes a log to files, one after the other. Not for several threads.

    Once a block cannot be written, the log writes no more.
    """

    def __init__(
        self, files: Files, facts: FileFacts, source: Source, *, most_bytes: int = USUAL_BYTES
    ) -> None:
        """Begin the first file. Raises OSError."""
        if most_bytes < 2 * _RESERVE_BYTES:
            raise ValueError("a log needs files of at least 4 MiB")
        self._files, self._source, self._most_bytes = files, source, most_bytes
        self._next = dataclasses.replace(facts, number=facts.number or 1)
        self._broken = False
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    @property
    def failed(self) -> bool:
        """Whether the log writes no more, because it could not; it drops what it is given then."""
        return self._broken or self._writer.failed

    def append_events(self, events: Events) -> None:
        """Take in events, with the writer's numbers of stacks. Raises OSError."""
        for low in range(0, len(events), _BATCH_EVENTS):
            if self.failed:
                return
            some = events.take(slice(low, low + _BATCH_EVENTS))
            stack = np.zeros(len(some), dtype=np.uint32)
            has_stack = some.kind != Kind.MARK
            stack[has_stack] = self._local(some.stack[has_stack])
            self._writer.append_events(dataclasses.replace(some, stack=stack))
            self._roll()

    def append_launches(self, launches: Launches) -> None:
        """Take in launches, with the writer's numbers of texts. Raises OSError."""
        for low in range(0, len(launches), _BATCH_EVENTS):
            if self.failed:
                return
            some = launches.take(slice(low, low + _BATCH_EVENTS))
            numbers = self._local_texts(np.concatenate((some.name, some.detail)))
            name, detail = numbers[: len(some)], numbers[len(some) :]
            self._writer.append_launches(dataclasses.replace(some, name=name, detail=detail))
            self._roll()

    def append_keyframe(self, keyframe: Keyframe) -> None:
        """Write the live blocks of a moment, with the writer's numbers of stacks. Raises
        OSError.
        """
        if not self.failed:
            self._put_keyframe(keyframe)
            self._roll()

    def append_hole(self, hole: Hole) -> None:
        """Write that events are missing. Raises OSError."""
        if not self.failed:
            self._writer.append_hole(hole)

    def append_readings(self, readings: Sequence[Reading]) -> None:
        """Write readings of the process's counters. Raises OSError."""
        if not self.failed:
            self._writer.append_readings(readings)

    def append_facts(self) -> None:
        """Write the facts as they are now. Raises OSError."""
        if not self.failed:
            self._writer.append_facts(self._source.facts())

    def flush(self) -> None:
        """Write the events that wait. Raises OSError."""
        if not self.failed:
            self._writer.flush()

    def end(self, how: str, at_ns: int = 0) -> None:
        """Write the last facts and the end, which is at ``at_ns`` or the last event if that is
        later, and close. Raises OSError.
        """
        try:
            self.flush()
            self.append_facts()
            if not self.failed:
                self._writer.end(last=True, how=how, at_ns=at_ns)
        finally:
            self.close()

    def close(self) -> None:
        """Close open files; a second call does nothing."""
        self._files.close()

    def begin_file(self, domains: tuple[str, ...], rates_bytes: tuple[float, ...]) -> None:
        """End this file and begin the next one, because the capture has other domains now.

        Raises OSError.
        """
        self._next = dataclasses.replace(self._next, domains=domains, rates_bytes=rates_bytes)
        if not self.failed:
            self._begin_next()

    # -- files -----------------------------------------------------------------------------------

    def _roll(self) -> None:
        """Begin a new file if this one is full."""
        if not self.failed and self._writer.size_bytes + _RESERVE_BYTES > self._most_bytes:
            self._begin_next()

    def _begin_next(self) -> None:
        self._writer.end()
        try:
            self._files.end()
            self._begin()
        except OSError:
            self._broken = True
            raise

    def _begin(self) -> None:
        self._number_of = np.zeros(0, dtype=np.uint32)
        self._node_of = np.zeros(1, dtype=np.uint32)
        self._code_of = np.zeros(0, dtype=np.uint32)
        self._label_of = np.zeros(1, dtype=np.uint32)
        self._text_of: dict[int, int] = {0: 0}
        self._writer = MemlogWriter(self._files.begin(self._next.number), self._next)
        self._next = dataclasses.replace(self._next, number=self._next.number + 1)
        self._writer.append_facts(self._source.facts())
        self._put_keyframe(self._source.keyframe())

    def _put_keyframe(self, keyframe: Keyframe) -> None:
        local = self._local(keyframe.stack)
        self._writer.append_keyframe(dataclasses.replace(keyframe, stack=local))

    # -- numbers ---------------------------------------------------------------------------------

    def _local(self, stacks: Numbers) -> Numbers:
        """Return the numbers of stacks in this file; writes those that are new in it."""
        top = int(stacks.max(initial=0))
        if top >= len(self._number_of):
            # Pages of zeros take no memory until they are used, so gaps between numbers are free.
            grown = np.zeros(max(top + 1, 2 * len(self._number_of)), dtype=np.uint32)
            grown[: len(self._number_of)] = self._number_of
            self._number_of = grown
        local = self._number_of[stacks]
        if len(local) and not local.all():
            self._add(distinct(stacks[local == 0]))
            local = self._number_of[stacks]
        return local - np.uint32(1)

    def _add(self, numbers: Numbers) -> None:
        stacks = self._source.stacks(numbers)
        if len(stacks) != len(numbers):
            raise ValueError("the source has not all the stacks that it was asked for")
        if stacks.interpreter is not None and stacks.interpreter.any():
            local = self._local_nodes(stacks.interpreter)
            stacks = stacks.numbered(local, stacks.label)
        if stacks.label is not None and stacks.label.any():
            stacks = stacks.numbered(stacks.interpreter, self._local_labels(stacks.label))
        first = self._writer.append_stacks(stacks)
        self._number_of[numbers] = np.arange(first + 1, first + 1 + len(numbers), dtype=np.uint32)

    def _local_nodes(self, nodes: Numbers) -> Numbers:
        """Return the numbers of Python's frames in this file (0: none); writes the new ones."""
        tree = self._source.python()
        self._node_of = _at_least(self._node_of, len(tree) + 1)
        self._code_of = _at_least(self._code_of, len(tree.codes))
        new = self._unwritten(tree, nodes)
        if len(new):
            index = new - 1
            code = tree.code[index]
            codes = distinct(code[self._code_of[code] == 0])
            first = self._writer.codes + 1
            self._code_of[codes] = np.arange(first, first + len(codes), dtype=np.uint32)
            first = self._writer.nodes + 1
            self._node_of[new] = np.arange(first, first + len(new), dtype=np.uint32)
            self._writer.append_python(
                PythonStacks(
                    self._node_of[tree.parent[index]],
                    self._code_of[code] - np.uint32(1),
                    tree.line[index],
                    tree.entry[index],
                    [tree.codes[k] for k in codes.tolist()],
                )
            )
        return self._node_of[nodes]

    def _local_labels(self, numbers: Numbers) -> Numbers:
        """Return the numbers of labels in this file (0: none); writes the new ones. Of a label, all
        that it is in come before it.
        """
        labels = self._source.labels()
        if labels is None:
            raise ValueError("the source has not the labels that its stacks name")
        self._label_of = _at_least(self._label_of, len(labels) + 1)
        wanted = {k for number in distinct(numbers).tolist() for k in labels.outwards(number)}
        index = np.array([k for k in sorted(wanted) if not self._label_of[k + 1]], dtype=np.int64)
        if len(index):
            first = self._writer.labels + 1
            self._label_of[index + 1] = np.arange(first, first + len(index), dtype=np.uint32)
            self._writer.append_labels(
                Labels(
                    self._label_of[labels.outer[index]],
                    labels.kind[index],
                    [labels.names[k] for k in index.tolist()],
                )
            )
        return self._label_of[numbers]

    def _local_texts(self, numbers: Numbers) -> Numbers:
        """Return the numbers of texts in this file (0: none); writes the new ones."""
        wanted, back = np.unique(numbers, return_inverse=True)
        new = [number for number in wanted.tolist() if number not in self._text_of]
        if new:
            first = self._writer.texts + 1
            self._writer.append_texts(self._source.texts(new))
            self._text_of |= {number: first + k for k, number in enumerate(new)}
        local = np.array([self._text_of[number] for number in wanted.tolist()], dtype=np.uint32)
        return local[np.asarray(back).reshape(-1)]

    def _unwritten(self, tree: PythonStacks, nodes: Numbers) -> npt.NDArray[np.int64]:
        """Return the numbers of these frames and of all their callers that are not in the file, in
        ascending order: callers come first.
        """
        found = np.zeros(0, dtype=np.int64)
        wanted = distinct(nodes).astype(np.int64)
        while True:
            wanted = wanted[(wanted > 0) & (self._node_of[wanted] == 0)]
            wanted = np.setdiff1d(wanted, found)
            if not len(wanted):
                return found
            found = np.union1d(found, wanted)
            wanted = distinct(tree.parent[wanted - 1]).astype(np.int64)


def _at_least(column: Numbers, length: int) -> Numbers:
    """Return the column, grown with zeros where it is shorter."""
    if len(column) >= length:
        return column
    grown = np.zeros(length * 5 // 4, dtype=np.uint32)
    grown[: len(column)] = column
    return grown
