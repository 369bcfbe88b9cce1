"""Events of many blocks in one order: by time, across files, a bounded number at a time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mem_parser.errors import InputFileError
from mem_parser.memlog.blockfile import FileBounds, open_named, read_event_block
from mem_parser.memlog.blocks import BadBlockError
from mem_parser.memlog.events import Events
from mem_parser.memlog.run import EventBlock, Run
from mem_parser.plainfile import PlainFile

MOST_WAITING = 1 << 21
"""Blocks may overlap in time by so many events."""


class Stretch(NamedTuple):
    """A part of a run's time: events later than ``from_ns``, up to ``to_ns`` included.

    ``blocks`` are all that have such events, by the time of the first. ``number_of`` has for each
    file the run's number of each of its stacks; None: stacks do not matter. It is all that a worker
    process needs.
    """

    from_ns: int
    to_ns: int
    blocks: list[EventBlock]
    files: list[FileBounds]
    number_of: list[npt.NDArray[np.uint32]] | None = None

    def events(self) -> Iterator[Events]:
        """Yield the events in order, some at a time; all of one time together.

        Raises InputFileError.
        """
        opened: dict[int, PlainFile] = {}
        try:
            yield from _in_order(self.blocks, lambda block: self._read(block, opened))
        finally:
            for file in opened.values():
                file.close()

    def _read(self, block: EventBlock, opened: dict[int, PlainFile]) -> Events:
        bounds = self.files[block.file]
        if block.file not in opened:
            opened[block.file] = open_named(bounds.name)
        try:
            events = read_event_block(opened[block.file], block.entry, bounds)
        except BadBlockError as error:
            raise InputFileError(
                f"{bounds.name}: the block at byte {block.entry.offset} is damaged: {error}"
            ) from error
        head = block.entry.head
        if head.first <= self.from_ns or head.last > self.to_ns:
            time = events.time_ns
            low, high = np.searchsorted(time, (self.from_ns, self.to_ns), side="right").tolist()
            events = events.take(slice(low, high))
        if self.number_of is not None and len(events):
            events.stack = self.number_of[block.file][events.stack]
        return events


def stretch_of(run: Run, from_ns: int, to_ns: int, *, stacks: bool = True) -> Stretch:
    """Return the part of a run after one moment and up to another."""
    blocks = [b for b in run.blocks if b.entry.head.last > from_ns and b.entry.head.first <= to_ns]
    bounds = [file.bounds for file in run.files]
    return Stretch(from_ns, to_ns, blocks, bounds, run.number_of if stacks else None)


def split(stretch: Stretch, most_events: int) -> list[Stretch]:
    """Cut a stretch into parts of about so many events each, at times where a block begins."""
    cuts = []
    count = 0
    for block in stretch.blocks:
        first = block.entry.head.first - 1
        if count >= most_events and stretch.from_ns < first < stretch.to_ns:
            cuts.append(first)
            count = 0
        count += block.entry.head.rows
    edges = [stretch.from_ns, *cuts, stretch.to_ns]
    return [
        stretch._replace(
            from_ns=low,
            to_ns=high,
            blocks=[
                b for b in stretch.blocks if b.entry.head.last > low and b.entry.head.first <= high
            ],
        )
        for low, high in itertools.pairwise(edges)
    ]


def _in_order(
    blocks: Sequence[EventBlock], read: Callable[[EventBlock], Events]
) -> Iterator[Events]:
    waiting: list[Events] = []
    count = 0
    for k, block in enumerate(blocks):
        events = read(block)
        if len(events):
            waiting.append(events)
            count += len(events)
        until = blocks[k + 1].entry.head.first if k + 1 < len(blocks) else None
        if not waiting or (until is not None and _first_of(waiting) >= until):
            if count > MOST_WAITING:
                raise InputFileError("blocks of events overlap too far in time to be ordered")
            continue
        merged = waiting[0] if len(waiting) == 1 else Events.joined(waiting).in_order()
        ready = len(merged)
        if until is not None:
            ready = int(np.searchsorted(merged.time_ns, until))
        if ready:
            yield merged.take(slice(ready)) if ready < len(merged) else merged
        waiting = [merged.take(slice(ready, None))] if ready < len(merged) else []
        count = len(merged) - ready
        if count > MOST_WAITING:
            raise InputFileError("blocks of events overlap too far in time to be ordered")


def _first_of(waiting: Iterable[Events]) -> int:
    return min(int(events.time_ns[0]) for events in waiting)
