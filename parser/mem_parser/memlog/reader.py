"""Read one `.memlog` file: its facts, its tables, and its blocks as a stream.

The file is untrusted. A damaged block is skipped: its events are a hole (`Memlog.holes`), and its
stacks have no frames. Only a file without its first block cannot be read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Self

from mem_parser.allowance import MemoryAllowance
from mem_parser.errors import InputFileError, NotAProfile
from mem_parser.heapfile.fields import Fields
from mem_parser.heapfile.readings import read_reading
from mem_parser.memlog.blockfile import (
    FileBounds,
    check_stacks,
    is_whole,
    open_named,
    read_block,
    read_event_block,
)
from mem_parser.memlog.blocks import MORE, BadBlockError, BlockKind
from mem_parser.memlog.contents import (
    MOST_EVENTS,
    MOST_JSON_BYTES,
    MOST_TIME_NS,
    Keyframe,
    join_keyframes,
    read_keyframe,
    read_object,
)
from mem_parser.memlog.events import Events
from mem_parser.memlog.facts import read_facts
from mem_parser.memlog.filefacts import End, FileFacts, Hole
from mem_parser.memlog.filetables import MOST_NUMBER, FileTables
from mem_parser.memlog.index import Entry, make_index
from mem_parser.model import Profile, Reading, StackTable
from mem_parser.python.labels import Labels
from mem_parser.python.stacks import PythonStacks

_OBJECT_TIMES = 48
"""What Python's objects take at most for each byte of JSON."""
_MOST_HOLES = 1 << 20


class Memlog:
    """One open file. Use as a context manager, or `close` it."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open it and read its facts and tables. Raises InputFileError."""
        self.name = os.fspath(path)
        self._file = open_named(self.name)
        self._allowance = MemoryAllowance(self.name, self._file.stored_bytes)
        self._index = make_index(self._file, self.name, self._allowance)
        self.holes: list[Hole] = []
        """What is missing, as far as the file says or shows it."""
        self.end: End | None = None
        """The last block; None where the file was cut, or goes on."""
        self.warnings: list[str] = []
        self._lost: set[int] = set()
        self.file_facts = self._file_facts()
        tables = FileTables(self._allowance)
        self._readings: list[Reading] = []
        self._facts: Profile | None = None
        self._read_small(tables)
        self.stacks: StackTable = tables.stacks()
        """Stack *k* is the one that events of this file call *k*."""
        self.python: PythonStacks | None = tables.python()
        self.labels: Labels | None = tables.labels()
        lossy = bool(self._index.gaps)
        domains = len(self.file_facts.domains)
        self.bounds = FileBounds(self.name, len(self.stacks), domains, lossy)
        self._note_gaps()

    @property
    def facts(self) -> Profile | None:
        """The capture's facts, a profile without sites; None where they are damaged."""
        return self._facts

    @property
    def readings(self) -> list[Reading]:
        """The readings of the process's counters."""
        return self._readings

    @property
    def status(self) -> os.stat_result:
        """The file's owner, rights and times, as it was opened."""
        return self._file.status

    @property
    def is_cut(self) -> bool:
        """Whether the file ends within a block."""
        return self._index.cut_at is not None

    def entries(self, kind: BlockKind) -> list[Entry]:
        """Return the blocks of a kind, in their order, without those that are known as damaged."""
        entries = self._index.entries
        return [e for e in entries if e.head.kind == kind and e.offset not in self._lost]

    def events_of(self, entry: Entry) -> Events:
        """Return the events of a block. Raises BadBlockError."""
        return read_event_block(self._file, entry, self.bounds)

    def events(self) -> Iterator[Events]:
        """Yield the events block by block; one that is damaged becomes a hole."""
        for entry in self.entries(BlockKind.EVENTS):
            try:
                events = self.events_of(entry)
            except BadBlockError as error:
                self.note_damage(entry, error)
                continue
            yield events

    def keyframe_entries(self) -> list[list[Entry]]:
        """Return the blocks of each keyframe that has all its blocks, in the file's order."""
        whole: list[list[Entry]] = []
        parts: list[Entry] = []
        for entry in self.entries(BlockKind.KEYFRAME):
            if not _is_span(entry):
                self.note_damage(entry, BadBlockError("its time makes no sense"))
                continue
            if parts and parts[0].head.first != entry.head.first:
                parts = []
            parts.append(entry)
            if not entry.head.flags & MORE:
                whole.append(parts)
                parts = []
        return whole

    def keyframe_of(self, entries: list[Entry]) -> Keyframe:
        """Return a keyframe from its blocks. Raises BadBlockError."""
        with self._allowance.lent():
            parts = []
            for entry in entries:
                if entry.head.rows > MOST_EVENTS:
                    raise BadBlockError("it has too many rows")
                self._allowance.take(3 * entry.head.raw_bytes + 32 * entry.head.rows)
                parts.append(read_keyframe(entry.head, read_block(self._file, entry)))
        keyframe = join_keyframes(parts)
        check_stacks(keyframe.stack, self.bounds)
        if int(keyframe.domain.max(initial=0)) >= len(self.file_facts.domains):
            raise BadBlockError("a keyframe names a domain that does not exist")
        return keyframe

    def keyframes(self) -> Iterator[Keyframe]:
        """Yield the keyframes that are whole; one that is damaged becomes a warning."""
        for entries in self.keyframe_entries():
            try:
                keyframe = self.keyframe_of(entries)
            except BadBlockError as error:
                self.note_damage(entries[0], error)
                continue
            yield keyframe

    def check_events(self) -> None:
        """Find the blocks of events whose bytes are damaged: they become holes."""
        for entry in self.entries(BlockKind.EVENTS):
            try:
                if not _is_span(entry):
                    raise BadBlockError("its times make no sense")
                if not is_whole(self._file, entry):
                    raise BadBlockError("its checksum is wrong")
            except BadBlockError as error:
                self.note_damage(entry, error)

    def forget_tables(self) -> None:
        """Drop stacks, Python's frames and labels, which another object holds now."""
        self.stacks = FileTables(self._allowance).stacks()
        self.python = self.labels = None

    def note_damage(self, entry: Entry, error: BadBlockError) -> None:
        """Remember that a block cannot be read: say it, and make a hole of lost events."""
        if entry.offset in self._lost:
            return
        self._lost.add(entry.offset)
        head = entry.head
        self.warnings.append(f"{self.name}: the block at byte {entry.offset} is damaged: {error}")
        if head.kind == BlockKind.EVENTS and _is_span(entry):
            self.holes.append(Hole(head.first, head.last, head.rows, why="a damaged block"))

    # -- the small blocks ------------------------------------------------------------------------

    def _file_facts(self) -> FileFacts:
        for entry in self._index.entries[:1]:
            if entry.head.kind == BlockKind.FILE:
                try:
                    facts = FileFacts.of_json(read_object(read_block(self._file, entry)))
                except BadBlockError as error:
                    raise InputFileError(
                        f"{self.name}: its first block is damaged: {error}"
                    ) from error
                if facts is not None:
                    return facts
        if not self._index.entries:
            raise NotAProfile(f"{self.name}: it is cut within its first block")
        raise InputFileError(f"{self.name}: its first block is missing")

    def _read_small(self, tables: FileTables) -> None:
        missing = 0
        for entry in self._index.entries:
            kind = entry.head.kind
            if kind in (BlockKind.EVENTS, BlockKind.KEYFRAME, BlockKind.FILE):
                continue
            try:
                is_object = kind in (BlockKind.HOLE, BlockKind.READINGS, BlockKind.END)
                if is_object and entry.head.raw_bytes > MOST_JSON_BYTES:
                    raise BadBlockError("its object is too large")
                with self._allowance.lent():
                    times = _OBJECT_TIMES if is_object else 3
                    self._allowance.take(times * entry.head.raw_bytes + entry.head.stored_bytes)
                    data = read_block(self._file, entry)
                self._take(entry, data, tables)
            except BadBlockError as error:
                self.note_damage(entry, error)
                if kind == BlockKind.STACKS and entry.head.last <= MOST_NUMBER:
                    missing = max(missing, entry.head.last)
        tables.pad_stacks(missing)
        if self._index.gaps:
            tables.pad_stacks(tables.stack_count + 1)

    def _take(self, entry: Entry, data: bytes, tables: FileTables) -> None:
        kind = entry.head.kind
        if kind == BlockKind.STACKS:
            tables.take_stacks(entry.head, data)
        elif kind == BlockKind.PYTHON:
            tables.take_python(entry.head, data)
        elif kind == BlockKind.LABELS:
            tables.take_labels(entry.head, data)
        elif kind == BlockKind.FACTS:
            self._facts = read_facts(data, self.name, self._allowance)
        elif kind == BlockKind.HOLE:
            self._take_hole(Fields(read_object(data)))
        elif kind == BlockKind.READINGS:
            self._take_readings(Fields(read_object(data)).items("readings"))
        elif kind == BlockKind.END:
            self._take_end(Fields(read_object(data)))

    def _take_hole(self, fields: Fields) -> None:
        low, high = fields.integer("from_ns"), fields.integer("to_ns")
        if not 0 <= low <= high < MOST_TIME_NS or len(self.holes) >= _MOST_HOLES:
            raise BadBlockError("its times make no sense")
        self._allowance.take(400)
        lost, ring = fields.optional_int("lost"), fields.optional_int("ring")
        if lost is not None and lost < 0:
            lost = None
        self.holes.append(Hole(low, high, lost, ring, fields.text("why")[:200]))

    def _take_readings(self, rows: list[Any]) -> None:
        for row in rows:
            if isinstance(row, dict):
                self._allowance.take(640)
                self._readings.append(read_reading(Fields(row)))

    def _take_end(self, fields: Fields) -> None:
        time = fields.integer("time_ns")
        if not 0 <= time < MOST_TIME_NS:
            raise BadBlockError("its time makes no sense")
        self.end = End(
            time,
            fields.integer("events"),
            fields.optional_bool("last") is True,
            fields.text("how")[:200],
        )

    def _note_gaps(self) -> None:
        for gap in self._index.gaps:
            size = gap.end - gap.offset
            self.warnings.append(f"{self.name}: {size} bytes at byte {gap.offset} are damaged")
            low = min(max(gap.after_ns, 0), MOST_TIME_NS - 1)
            high = min(max(gap.before_ns, low), MOST_TIME_NS - 1)
            self.holes.append(Hole(low, high, None, why="damaged bytes"))

    # -- open and closed -------------------------------------------------------------------------

    def close(self) -> None:
        """Close the file; the content read stays valid."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()


def _is_span(entry: Entry) -> bool:
    """Tell whether the times in a block's head can be."""
    return 0 <= entry.head.first <= entry.head.last < MOST_TIME_NS


def open_memlog(path: str | os.PathLike[str]) -> Memlog:
    """Open a `.memlog` file. Raises InputFileError: NotAProfile, UnsupportedVersion, and others."""
    return Memlog(path)
