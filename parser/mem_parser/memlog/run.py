"""The files of one run, read as one log: one numbering of stacks, one order of blocks."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from mem_parser.errors import InputFileError
from mem_parser.interning import Growing, Interner, StackInterner, StackParts, pairs
from mem_parser.memlog.blocks import BadBlockError, BlockKind
from mem_parser.memlog.contents import Keyframe
from mem_parser.memlog.filefacts import FileFacts, Hole
from mem_parser.memlog.index import Entry
from mem_parser.memlog.reader import Memlog, open_memlog
from mem_parser.model import Profile, Reading, StackTable
from mem_parser.python.owners import MergedOwners

_FLAG_BITS = 16
_KEPT_BITS = (1 << 31) - 1


class EventBlock(NamedTuple):
    """A block of events: the index of its file in `Run.files`, and where it is in it."""

    file: int
    entry: Entry


class KeyframeBlocks(NamedTuple):
    """A keyframe: its time, the index of its file, and its blocks."""

    time_ns: int
    file: int
    entries: list[Entry]


class Run:
    """All files of a run that are there, the earliest first. Close it, or use it as a context."""

    def __init__(self, files: list[Memlog]) -> None:
        """Join the files, which now belong to this. Raises InputFileError for files of several
        runs, or one of them twice.
        """
        self.files = sorted(files, key=lambda f: f.file_facts.number)
        _check_one_run(self.files)
        for file in self.files:
            file.check_events()
        self.number_of: list[npt.NDArray[np.uint32]] = []
        """For each file: the number here of each of its stacks."""
        self._join_tables()
        self.blocks: list[EventBlock] = []
        """All blocks of events by the time of their first event."""
        self.keyframes: list[KeyframeBlocks] = []
        """All keyframes by time."""
        self._order_blocks()
        self.warnings = [warning for file in self.files for warning in file.warnings]
        self.holes = self._all_holes()
        """What is missing, by time."""

    @property
    def file_facts(self) -> FileFacts:
        """Facts of the last file, which has the most domains."""
        return self.files[-1].file_facts

    @property
    def facts(self) -> Profile | None:
        """The latest facts of the capture, a profile without sites; None: all are damaged."""
        found = [file.facts for file in self.files if file.facts is not None]
        return found[-1] if found else None

    @property
    def readings(self) -> list[Reading]:
        """All readings, by time."""
        return sorted((r for f in self.files for r in f.readings), key=lambda r: r.t_s)

    @property
    def begin_ns(self) -> int:
        """The first moment of which something is known."""
        times = [b.entry.head.first for b in self.blocks] + [k.time_ns for k in self.keyframes]
        return min(times, default=0)

    @property
    def end_ns(self) -> int:
        """The last moment of which something is known."""
        times = [b.entry.head.last for b in self.blocks] + [k.time_ns for k in self.keyframes]
        times += [file.end.time_ns for file in self.files if file.end is not None]
        return max([self.begin_ns, *times])

    @property
    def how_ended(self) -> str:
        """How the capture ended, from the last file; empty if it still runs, or was cut."""
        end = self.files[-1].end
        return end.how if end is not None and end.last else ""

    def keyframe(self, at: KeyframeBlocks) -> Keyframe | None:
        """Return a keyframe with the numbers of stacks here; None where it is damaged."""
        file = self.files[at.file]
        try:
            keyframe = file.keyframe_of(at.entries)
        except BadBlockError as error:
            if at in self.keyframes:
                self.keyframes.remove(at)
                file.note_damage(at.entries[0], error)
                self.warnings.append(file.warnings[-1])
            return None
        stack = self.number_of[at.file][keyframe.stack]
        return dataclasses.replace(keyframe, stack=stack)

    # -- how it is put together ------------------------------------------------------------------

    def _join_tables(self) -> None:
        stacks, owners, kinds = StackInterner(np.uint64), MergedOwners(), Interner()
        kind_of: Growing[np.int64] = Growing(np.int64)
        for file in self.files:
            table = file.stacks
            owner = owners.intern_stacks(table, file.python, file.labels)
            kind = pairs(table.generation.astype(np.int64) & _KEPT_BITS, owner.astype(np.int64))
            numbers, first = kinds.intern(kind)
            kind_of.extend(kind[first])
            # A stack that was cut, or lost, is not the whole one of the same frames.
            tags = numbers << _FLAG_BITS | (table.flags & ((1 << _FLAG_BITS) - 1)).astype(np.int64)
            parts = StackParts(table.frames, table.offsets[:-1], table.offsets[1:], tags)
            self.number_of.append(stacks.intern(parts)[0].astype(np.uint32))
            file.forget_tables()
        tags = stacks.tags.values
        kind = kind_of.values[tags >> _FLAG_BITS]
        owned = owners.split((kind & ((1 << 32) - 1)).astype(np.uint32))
        self.stacks = StackTable(
            stacks.offsets,
            stacks.items.values,
            (tags & ((1 << _FLAG_BITS) - 1)).astype(np.uint32),
            (kind >> 32).astype(np.uint32),
            leaf_exact=True,
            interpreter=owned.interpreter,
            label=owned.label,
        )
        self.python, self.labels = owned.python, owned.labels

    def _order_blocks(self) -> None:
        for k, file in enumerate(self.files):
            self.blocks += [EventBlock(k, e) for e in file.entries(BlockKind.EVENTS)]
            self.keyframes += [
                KeyframeBlocks(entries[0].head.first, k, entries)
                for entries in file.keyframe_entries()
            ]
        self.blocks.sort(key=lambda b: b.entry.head.first)
        self.keyframes.sort(key=lambda b: b.time_ns)

    def _all_holes(self) -> list[Hole]:
        holes = [hole for file in self.files for hole in file.holes]
        for k in range(1, len(self.files)):
            before, after = self.files[k - 1], self.files[k]
            missing = after.file_facts.number - before.file_facts.number - 1
            if missing or before.is_cut:
                low, high = self._last_time(k - 1), self._first_time(k)
                what = f"{missing} files are missing" if missing else "a file was cut"
                holes.append(Hole(min(low, high), high, None, why=what))
        last = self.files[-1]
        if last.is_cut:
            holes.append(Hole(self.end_ns, self.end_ns, None, why="the last file was cut"))
        return sorted(holes, key=lambda h: h.from_ns)

    def _last_time(self, file: int) -> int:
        times = [b.entry.head.last for b in self.blocks if b.file == file]
        return max([*times, *(k.time_ns for k in self.keyframes if k.file == file)], default=0)

    def _first_time(self, file: int) -> int:
        keyframes = [k.time_ns for k in self.keyframes if k.file == file]
        blocks = [b.entry.head.first for b in self.blocks if b.file == file]
        return min(keyframes or blocks, default=self._last_time(file))

    def close(self) -> None:
        """Close all files."""
        for file in self.files:
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()


def read_log(paths: Sequence[str | os.PathLike[str]]) -> Run:
    """Read the files of one run, given in any order. Raises InputFileError."""
    if not paths:
        raise InputFileError("no file of events was given")
    with contextlib.ExitStack() as opened:
        files = [opened.enter_context(open_memlog(path)) for path in paths]
        run = Run(files)
        opened.pop_all()
    return run


def _check_one_run(files: list[Memlog]) -> None:
    first = files[0]
    for file in files[1:]:
        if file.file_facts.run != first.file_facts.run:
            raise InputFileError(
                f"{file.name} and {first.name} are of different captures",
                hint="name the files of one capture only",
            )
    for one, other in itertools.pairwise(files):
        if one.file_facts.number == other.file_facts.number:
            raise InputFileError(
                f"{one.name} and {other.name} are both file {one.file_facts.number} of a capture",
                hint="name each file once",
            )
