"""The files of a log of events as they grow: whole blocks, in the order of the log.

A file ends with its END block; where it was cut, the file with the next number ends it. Files are
open from the moment at which they are seen, so one that goes because the log rotates is not lost;
one that went before is a hole that the reader says.

A log whose writer was killed has later logs of the same rings (`ResumedTail`). Whoever drains the
rings notes how far the log has come after it has written it: what it wrote since its last note is
in the first log and, read again, in the next one. Such events count once.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mem_parser.allowance import MemoryAllowance
from mem_parser.errors import InputFileError, NotAProfile, reason_of
from mem_parser.heapfile.fields import Fields
from mem_parser.memlog.blockfile import FileBounds, check_stacks
from mem_parser.memlog.blocks import (
    BLOCK_MARK,
    HEAD_BYTES,
    MAGIC,
    START,
    VERSION,
    BadBlockError,
    BlockKind,
    Head,
    parse_head,
    unpack,
)
from mem_parser.memlog.contents import MOST_TIME_NS, read_events, read_object
from mem_parser.memlog.events import Events, Kind
from mem_parser.memlog.facts import read_facts
from mem_parser.memlog.filefacts import FileFacts
from mem_parser.memlog.filetables import FileTables
from mem_parser.memlog.launches import Launches, read_launches
from mem_parser.model import Profile, StackTable
from mem_parser.plainfile import open_plain
from mem_parser.python.stacks import PythonStacks

AHEAD = 4
"""So many files are open before they are read."""


class Missing(NamedTuple):
    """Events that the log does not have: so many (None: unknown), and why."""

    events: int | None
    why: str


Piece = Events | Launches | Profile | Missing | str
_LOOK_BYTES = 1 << 20
_SUFFIX = re.compile(r"-([0-9]{1,9})\.memlog")


@dataclass
class LogFile:
    """One file of a log, and what was read of it so far."""

    name: str
    fd: int
    at: int = 0
    facts: FileFacts | None = None
    capture: Profile | None = None
    """The latest facts of the capture."""
    ended: bool = False
    last: bool = False
    warnings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        stored = os.fstat(self.fd).st_size
        self._allowance = MemoryAllowance(self.name, max(stored, 1 << 20))
        self._counted = stored
        self.tables = FileTables(self._allowance)
        self._stacks: StackTable | None = None
        self._python: PythonStacks | None = None
        self._lossy = False

    def read(self, offset: int, count: int) -> bytes:
        """Return up to so many bytes."""
        return os.pread(self.fd, count, offset)

    def stacks(self) -> StackTable:
        """Return the stacks so far."""
        if self._stacks is None or len(self._stacks) != self.tables.stack_count:
            self._stacks = self.tables.stacks()
        return self._stacks

    def python(self) -> PythonStacks | None:
        """Return Python's frames so far."""
        if self._python is None:
            self._python = self.tables.python()
        return self._python

    def pieces(self) -> Iterator[Piece]:
        """Yield what the whole blocks behind the last ones have: events, launches, facts, holes,
        and lines on what cannot be read.

        Raises InputFileError.
        """
        if not self.at and not self._begin():
            return
        while not self.ended:
            head = self._head()
            if head is None:
                return
            stored = self.read(self.at + HEAD_BYTES, head.stored_bytes)
            if len(stored) < head.stored_bytes:
                return
            self.at += HEAD_BYTES + head.stored_bytes
            self._count()
            try:
                piece = self._take(head, unpack(head, stored))
            except BadBlockError as error:
                self._lossy = True
                yield f"{self.name}: a block is damaged and left out: {error}"
                continue
            if piece is not None:
                yield piece

    def _count(self) -> None:
        """The file has grown: reading it may take more memory."""
        if self.at > self._counted:
            self._allowance.grow(self.at - self._counted)
            self._counted = self.at

    def _begin(self) -> bool:
        start = self.read(0, START.size)
        if len(start) < START.size:
            if start and not MAGIC.startswith(start[: len(MAGIC)]):
                raise NotAProfile(f"{self.name}: not a log of events")
            return False
        magic, version = START.unpack(start)
        if magic != MAGIC:
            raise NotAProfile(f"{self.name}: not a log of events")
        if version != VERSION:
            raise InputFileError(f"{self.name}: unknown format version {version}")
        self.at = START.size
        return True

    def _head(self) -> Head | None:
        """The next block's head, which may be behind damaged bytes; None: not there yet."""
        while True:
            data = self.read(self.at, HEAD_BYTES)
            if len(data) < HEAD_BYTES:
                return None
            head = parse_head(data)
            if head is not None:
                return head
            self._lossy = True
            rest = self.read(self.at + 1, _LOOK_BYTES)
            found = rest.find(BLOCK_MARK)
            if found < 0:
                if len(rest) < _LOOK_BYTES:
                    return None
                found = len(rest) - len(BLOCK_MARK)
            self.warnings.append(f"{self.name}: {found + 1} bytes at byte {self.at} are damaged")
            self.at += found + 1

    def _take(self, head: Head, data: bytes) -> Piece | None:
        kind = head.kind
        if kind == BlockKind.FILE:
            self.facts = FileFacts.of_json(read_object(data))
            if self.facts is None:
                raise InputFileError(f"{self.name}: its first block is damaged")
        elif self.facts is None:
            raise InputFileError(f"{self.name}: its first block is missing")
        elif kind == BlockKind.STACKS:
            self.tables.take_stacks(head, data)
        elif kind == BlockKind.PYTHON:
            self.tables.take_python(head, data)
            self._python = None
        elif kind == BlockKind.FACTS:
            self.capture = read_facts(data, self.name, self._allowance)
            return self.capture
        elif kind == BlockKind.EVENTS:
            return self._events(head, data)
        elif kind == BlockKind.TEXTS:
            self.tables.take_texts(head, data)
        elif kind == BlockKind.LAUNCHES:
            return self._launches(head, data)
        elif kind == BlockKind.HOLE:
            fields = Fields(read_object(data))
            lost = fields.optional_int("lost")
            known = lost if lost is not None and lost >= 0 else None
            return Missing(known, fields.text("why")[:200])
        elif kind == BlockKind.END:
            self.ended = True
            self.last = Fields(read_object(data)).optional_bool("last") is True
        return None

    def _events(self, head: Head, data: bytes) -> Events:
        assert self.facts is not None
        events = read_events(head, data)
        events.stack[events.kind == Kind.MARK] = 0
        if not self.tables.stack_count:
            self.tables.pad_stacks(1)
        domains = len(self.facts.domains)
        check_stacks(
            events.stack, FileBounds(self.name, self.tables.stack_count, domains, self._lossy)
        )
        if int(events.domain.max(initial=0)) >= domains:
            raise BadBlockError("an event names a domain that does not exist")
        if (
            len(events)
            and not 0 <= int(events.time_ns.min()) <= int(events.time_ns.max()) < MOST_TIME_NS
        ):
            raise BadBlockError("its times make no sense")
        return events

    def _launches(self, head: Head, data: bytes) -> Launches:
        launches = read_launches(head, data)
        texts = len(self.tables.texts)
        for numbers in (launches.name, launches.detail):
            if int(numbers.max()) > texts and not self._lossy:
                raise BadBlockError("a launch names a text that does not exist")
            numbers[numbers > texts] = 0
        return launches

    def close(self) -> None:
        """Close it; a second call does nothing."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


class LogTail:
    """Follows a log: the files STEM-0.memlog, STEM-1.memlog, ... as they appear, or files that are
    all there.
    """

    def __init__(self, stem: str = "", *, paths: Sequence[str] = ()) -> None:
        """``paths``: the files, in their order, instead of a stem. Raises InputFileError."""
        self._folder, self._stem = os.path.split(stem)
        self._next = 0
        self._open = [LogFile(path, _opened(path)) for path in paths]
        self._grows = not paths
        self.lost_files = 0
        """Files that were removed before they were read."""
        self.over = False
        """Whether the log's last block was read."""

    def take(self, *, final: bool = False) -> Iterator[tuple[LogFile, Piece]]:
        """Yield what came since the last call; ``final``: the log has ended, nothing more comes.

        Raises InputFileError.
        """
        while True:
            self._look()
            if not self._open:
                return
            file = self._open[0]
            is_followed = len(self._open) > 1
            for piece in file.pieces():
                yield file, piece
            for warning in file.warnings:
                yield file, warning
            file.warnings.clear()
            if file.last:
                self.over = True
            if not file.ended and not is_followed:
                return
            file.close()
            self._open.pop(0)
            if not self._open and not self._grows:
                self.over = final or self.over
                return

    def _look(self) -> None:
        """Open the files that are new, a few of them ahead."""
        if not self._grows or len(self._open) >= AHEAD:
            return
        found = self._numbers()
        while len(self._open) < AHEAD:
            later = [number for number in found if number >= self._next]
            if not later:
                return
            number = min(later)
            self.lost_files += number - self._next
            self._next = number + 1
            path = os.path.join(self._folder, f"{self._stem}-{number}.memlog")
            try:
                self._open.append(LogFile(path, open_plain(path, follow=False)))
            except FileNotFoundError:
                self.lost_files += 1

    def _numbers(self) -> list[int]:
        try:
            names = os.listdir(self._folder or ".")
        except OSError:
            return []
        size = len(self._stem)
        matches = (_SUFFIX.fullmatch(n[size:]) for n in names if n.startswith(self._stem))
        return [int(found[1]) for found in matches if found is not None]

    def close(self) -> None:
        """Close the files."""
        for file in self._open:
            file.close()


def _opened(path: str) -> int:
    """Open a file of the user's choice. Raises InputFileError."""
    try:
        return open_plain(path)
    except (OSError, ValueError) as error:
        raise InputFileError(f"{path}: {reason_of(error)}") from error


KEPT_NS = 10_000_000_000
"""What is older than this was noted: the log is noted several times a second."""
_KEY = np.dtype([("time", np.int64), ("kind", np.int64), ("address", np.uint64)])
_NUMBER = re.compile(r"-([0-9]{1,9})\.memlog$")
Keys = npt.NDArray[np.void]


def in_order(paths: Sequence[str]) -> list[str]:
    """Return the files of one log in the order of their numbers."""
    return sorted(paths, key=number_of)


def number_of(path: str) -> int:
    """Return the number of a file of a log."""
    found = _NUMBER.search(path)
    return int(found[1]) if found is not None else 0


class ResumedTail(LogTail):
    """Reads files that are all there; events that a second log has again are left out."""

    def __init__(self, paths: Sequence[str]) -> None:
        """Open them. Raises InputFileError."""
        super().__init__(paths=paths)
        self._run = ""
        self._recent: deque[Keys] = deque()
        self._again: Keys = np.zeros(0, _KEY)
        self.real_offset_ns = 0
        """What makes the time of an event a time since 1970."""

    def take(self, *, final: bool = False) -> Iterator[tuple[LogFile, Piece]]:
        """Yield what there is. Raises InputFileError."""
        for file, piece in super().take(final=final):
            if not isinstance(piece, Events | Launches) or file.facts is None:
                yield file, piece
                continue
            if file.facts.run != self._run:
                self._begin(file.facts.run)
                self.real_offset_ns = file.facts.start_real_ns - file.facts.start_ns
            keys = _keys_of(piece, file.facts.start_ns)
            is_new = ~np.isin(keys, self._again) if len(self._again) else np.ones(len(keys), bool)
            self._keep(keys)
            if is_new.any():
                yield file, piece if is_new.all() else piece.take(is_new)

    def _begin(self, run: str) -> None:
        self._run = run
        self._again = np.concatenate([self._again, *self._recent])
        self._recent.clear()

    def _keep(self, keys: Keys) -> None:
        self._recent.append(keys)
        oldest = int(keys["time"].max()) - KEPT_NS
        while int(self._recent[0]["time"].max()) < oldest:
            self._recent.popleft()


def _keys_of(piece: Events | Launches, start_ns: int) -> Keys:
    keys = np.zeros(len(piece), _KEY)
    keys["time"] = piece.time_ns + start_ns
    if isinstance(piece, Events):
        keys["kind"], keys["address"] = piece.kind, piece.address
    else:
        keys["kind"], keys["address"] = 256 + piece.kind.astype(np.int64), piece.thread
    return keys
