"""Write one `.memlog` file: block after block, each whole or not there.

The writer puts a block into the file with one call, behind the last whole one. If that fails (the
disk is full), it cuts the file back to its last whole block, raises the error once, and from then
on writes nothing: `MemlogWriter.failed` says so. If the process is killed, the file ends in a part
of a block, which readers leave out.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from mem_parser.heapfile.writer import write_heap
from mem_parser.memlog.blocks import MAGIC, MOST_RAW_BYTES, START, VERSION, BlockKind, pack_block
from mem_parser.memlog.contents import (
    USUAL_EVENTS,
    Keyframe,
    events_block,
    keyframe_blocks,
    labels_block,
    object_block,
    python_blocks,
    stack_blocks,
)
from mem_parser.memlog.events import Events
from mem_parser.memlog.filefacts import End, FileFacts, Hole
from mem_parser.memlog.launches import TEXTS_AT_ONCE, Launches, launches_block, texts_block
from mem_parser.model import Profile, Reading, SiteTable, StackTable
from mem_parser.python.labels import Labels
from mem_parser.python.stacks import PythonStacks

_READINGS_AT_ONCE = 1 << 10
_LABELS_AT_ONCE = 1 << 10
_MOST_LATE = 1 << 62


Put = Callable[[bytes], object]
"""Takes a whole block to where it belongs, or raises OSError and leaves no part of it there."""


class OpenFile:
    """Blocks in an open file, which is empty at first and stays the caller's."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.size_bytes = 0
        """Bytes of the whole blocks that are in the file."""

    def put(self, block: bytes) -> None:
        """Append a block. Raises OSError; then the file ends with the block before."""
        done = 0
        try:
            while done < len(block):
                done += os.pwrite(self._fd, block[done:], self.size_bytes + done)
        except OSError:
            with contextlib.suppress(OSError):  # a reader leaves out the part, too
                os.ftruncate(self._fd, self.size_bytes)
            raise
        self.size_bytes += len(block)


class MemlogWriter:
    """Makes the blocks of one file, in their order. Not for several threads."""

    def __init__(self, to: int | Put, facts: FileFacts) -> None:
        """Begin a file: ``to`` takes its blocks, or is the descriptor of an empty file, which stays
        the caller's. Raises OSError.
        """
        self._to: Put = OpenFile(to).put if isinstance(to, int) else to
        self.facts = facts
        self.size_bytes = 0
        """Bytes of the whole blocks that are in the file."""
        self.failed = False
        self.events = 0
        self.stacks = 0
        """How many stacks are in the file: the number of the next one."""
        self.nodes = 0
        self.codes = 0
        """Python's frames and code objects in the file."""
        self.labels = 0
        self.texts = 0
        """How many texts of launches are in the file."""
        self._waiting_launches: list[Launches] = []
        self._waiting: list[Events] = []
        self._waiting_events = 0
        self._last_ns = 0
        # In one piece: a file that ends before its facts is of no use to anybody.
        self._put(START.pack(MAGIC, VERSION) + object_block(BlockKind.FILE, facts.to_json()))

    def append_facts(self, profile: Profile) -> None:
        """Write the capture's facts: a profile whose sites and stacks are left out. The latest
        counts. Raises OSError, ValueError for more than a block holds.
        """
        text = write_heap(without_sites(profile))
        if len(text) > MOST_RAW_BYTES:
            raise ValueError("too many facts for a block")
        self._put(pack_block(BlockKind.FACTS, text, rows=1, first=0, last=0))

    def append_stacks(self, stacks: StackTable) -> int:
        """Write stacks that are new in this file; returns the number of the first, the others
        follow. Raises OSError.
        """
        first = self.stacks
        self._put_all(stack_blocks(stacks, first))
        self.stacks += len(stacks)
        return first

    def append_python(self, part: PythonStacks) -> None:
        """Write nodes and code objects of Python's frames that are new in this file; callers and
        code objects have their numbers in the file. Raises OSError.
        """
        self._put_all(python_blocks(part, self.nodes, self.codes))
        self.nodes += len(part)
        self.codes += len(part.codes)

    def append_labels(self, labels: Labels) -> None:
        """Write labels that are new in this file; ``outer`` has their numbers in the file. Raises
        OSError.
        """
        for low in range(0, len(labels), _LABELS_AT_ONCE):
            rows = slice(low, low + _LABELS_AT_ONCE)
            some = Labels(labels.outer[rows], labels.kind[rows], labels.names[rows])
            self._put_all([labels_block(some, self.labels)])
            self.labels += len(some)

    def append_events(self, events: Events) -> None:
        """Take in events, in any order; their stacks must be in the file. They are written when
        there are enough for a block, or at `flush`. Raises OSError, ValueError for a time below 0.
        """
        if not len(events):
            return
        if int(events.time_ns.min()) < 0:
            raise ValueError("an event is older than its capture")
        self._waiting.append(events)
        self._waiting_events += len(events)
        if self._waiting_events >= USUAL_EVENTS:
            self._put_events(keep=True)

    def append_texts(self, texts: Sequence[bytes]) -> None:
        """Write texts of launches that are new in this file. Raises OSError."""
        for low in range(0, len(texts), TEXTS_AT_ONCE):
            some = texts[low : low + TEXTS_AT_ONCE]
            self._put_all([texts_block(some, self.texts)])
            self.texts += len(some)

    def append_launches(self, launches: Launches) -> None:
        """Take in launches, in any order; their texts must be in the file. They are written before
        the events that wait. Raises OSError, ValueError for a time below 0.
        """
        if not len(launches):
            return
        if int(launches.time_ns.min()) < 0:
            raise ValueError("a launch is older than its capture")
        self._waiting_launches.append(launches)
        if sum(map(len, self._waiting_launches)) >= USUAL_EVENTS:
            self._put_launches()

    def flush(self) -> None:
        """Write the launches and events that wait. Raises OSError."""
        self._put_events(keep=False)

    def append_keyframe(self, keyframe: Keyframe) -> None:
        """Write the live blocks, after pending events. Raises OSError."""
        self.flush()
        self._last_ns = max(self._last_ns, keyframe.time_ns)
        self._put_all(keyframe_blocks(keyframe))

    def append_hole(self, hole: Hole) -> None:
        """Write that events are missing. Raises OSError."""
        self.flush()
        value = dataclasses.asdict(hole)
        self._put(object_block(BlockKind.HOLE, value, hole.from_ns, hole.to_ns))

    def append_readings(self, readings: Sequence[Reading]) -> None:
        """Write readings of the process's counters. Raises OSError."""
        for low in range(0, len(readings), _READINGS_AT_ONCE):
            some = readings[low : low + _READINGS_AT_ONCE]
            times = [min(max(int(r.t_s * 1e9), 0), _MOST_LATE) for r in some]
            value = {"readings": [dataclasses.asdict(r) for r in some]}
            self._put(object_block(BlockKind.READINGS, value, min(times), max(times)))

    def end(self, *, last: bool = False, how: str = "", at_ns: int = 0) -> None:
        """Write the last block; ``last``: the capture ends with it, ``how``, and no earlier than
        ``at_ns``. Raises OSError.
        """
        self.flush()
        time_ns = max(self._last_ns, at_ns)
        value = dataclasses.asdict(End(time_ns, self.events, last, how))
        self._put(object_block(BlockKind.END, value, time_ns, time_ns))

    # -- blocks ----------------------------------------------------------------------------------

    def _put_events(self, *, keep: bool) -> None:
        """Write the waiting events; ``keep``: but the last ones, if they fill no block."""
        self._put_launches()
        if not self._waiting_events:
            return
        events = Events.joined(self._waiting) if len(self._waiting) > 1 else self._waiting[0]
        self._waiting, self._waiting_events = [], 0
        events = events.in_order()
        stop = len(events) // USUAL_EVENTS * USUAL_EVENTS if keep else len(events)
        for low in range(0, stop, USUAL_EVENTS):
            some = events.take(slice(low, min(low + USUAL_EVENTS, stop)))
            self._put(events_block(some))
            self.events += 0 if self.failed else len(some)
            self._last_ns = max(self._last_ns, int(some.time_ns[-1]))
        if stop < len(events):
            rest = events.take(slice(stop, None))
            self._waiting, self._waiting_events = [rest], len(rest)

    def _put_launches(self) -> None:
        if not self._waiting_launches:
            return
        launches = Launches.joined(self._waiting_launches).in_order()
        self._waiting_launches = []
        for low in range(0, len(launches), USUAL_EVENTS):
            some = launches.take(slice(low, low + USUAL_EVENTS))
            self._put(launches_block(some))
            self._last_ns = max(self._last_ns, int(some.time_ns[-1]))

    def _put_all(self, blocks: Iterable[bytes]) -> None:
        self.flush()
        for block in blocks:
            self._put(block)

    def _put(self, block: bytes) -> None:
        if self.failed:
            return
        try:
            self._to(block)
        except OSError:
            self.failed = True
            raise
        self.size_bytes += len(block)


def without_sites(profile: Profile) -> Profile:
    """Return the profile without stacks, sites and what belongs to them."""
    none = np.zeros(0, dtype=np.int64)
    return dataclasses.replace(
        profile,
        stacks=StackTable(
            np.zeros(1, dtype=np.int64), none.astype(np.uint64), none.astype(np.uint32),
            none.astype(np.uint32), leaf_exact=True,
        ),
        sites=SiteTable(none, none.astype(np.int32), none, none, none, none),
        thread_blocks=None,
        python=None,
        labels=None,
        series=[],
    )  # fmt: skip
