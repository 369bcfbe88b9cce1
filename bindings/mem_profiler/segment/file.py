"""One segment file: its control page, its tables, its lock.

Model: we map the control page, because the gate and the try-locks need atomic accesses, and read
all tables with pread into arrays of our own. A read can then neither raise SIGBUS when the target
cuts the file, nor allocate its holes, and the copy cannot change while we use it.

The target wrote everything in the file, so we check it before use: `Control` is one copy of the
control page, and `Level` objects exist only for ranges inside the file.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mem_parser.errors import NotAProfile, ProcessGone, UnsupportedVersion
from mem_parser.plainfile import open_plain
from mem_parser.programname import program_name
from mem_profiler._core import ffi, lib
from mem_profiler.segment import bound, layout
from mem_profiler.segment.folders import UserFolder

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]
Records = NDArray[np.void]

# No segment is larger; limits allocations that a forged size could cause.
FILE_MAX_BYTES = 1 << 36
LEVEL_ROWS_MAX = 1 << 26
# A file that was copied with holes, or is compressed, has more bytes of data than its pages.
ROOM_MIN_BYTES = 64 << 20
ROOM_FACTOR = 16


@dataclass(frozen=True)
class Level:
    """One level of a table, inside the file. Offsets and sizes are bytes from the file's start."""

    index: int
    offset: int
    rows: int
    row_bytes: int
    key_in_row: bool = False

    @property
    def rows_offset(self) -> int:
        """Offset of the payload rows, or of the rows with their keys."""
        return self.offset + (0 if self.key_in_row else 8 * self.rows)

    @property
    def total_bytes(self) -> int:
        """Bytes of keys and rows, rounded up to the pages in which reserving counts."""
        raw = self.rows * (8 + self.row_bytes)
        return -(-raw // layout.CONTROL_BYTES) * layout.CONTROL_BYTES


@dataclass(frozen=True)
class Array:
    """One array of the directory, inside the file. `offset` is in bytes from the file's start."""

    kind: int
    offset: int
    rows: int
    row_bytes: int
    reserved_bytes: int

    @property
    def total_bytes(self) -> int:
        """Bytes of all its rows."""
        return self.rows * self.row_bytes

    @property
    def usable_rows(self) -> int:
        """Rows in reserved pages."""
        return min(self.rows, self.reserved_bytes // self.row_bytes)


class Control:
    """A copy of the control page, taken at one moment. Fields are those of struct mp_control."""

    def __init__(self, page: bytes, file_bytes: int, room_bytes: int) -> None:
        record: Records = np.frombuffer(page, layout.CONTROL, count=1)
        self._record: Any = record[0]
        self.limit_bytes = min(int(self["limit_bytes"]), file_bytes)
        self._room_bytes = room_bytes

    def __getitem__(self, name: str) -> Any:
        return self._record[name]

    def number(self, name: str) -> int:
        """An integer field."""
        return int(self._record[name])

    def numbers(self, name: str) -> list[int]:
        """An array of integers; 0 ends it."""
        return [number for number in self._record[name].tolist() if number]

    def text(self, name: str) -> str:
        """A string field."""
        return layout.text(self._record[name])

    @property
    def program_name(self) -> str:
        """The name of the program; empty: not known."""
        return program_name(self.text("comm"), self.text("exe"), self.text("command"))

    def array(self, kind: int, row_bytes: int, most_rows: int) -> Array:
        """The array of a kind, of at most `most_rows` rows.

        It has no rows if its entry in the directory is invalid.
        """
        raw = self._record["directory"][kind]
        offset, rows = int(raw["offset"]), min(int(raw["rows"]), most_rows)
        sane = (
            int(raw["kind"]) == kind
            and int(raw["row_bytes"]) == row_bytes
            and offset % 8 == 0
            and layout.CONTROL_BYTES <= offset <= self.limit_bytes - rows * row_bytes
        )
        if not sane:
            return Array(kind, 0, 0, row_bytes, 0)
        return Array(kind, offset, rows, row_bytes, int(raw["reserved_bytes"]))

    @property
    def depth_limit(self) -> int:
        """Frames of a stack in the latest capture."""
        return self.number("capture_depth_limit") or self.number("depth_limit")

    @property
    def identity(self) -> str:
        """The file name that this segment must have."""
        return f"{self.number('pid')}-{self.number('start_ticks')}-{self.number('exec_count')}"

    @property
    def capture(self) -> Any:
        """The slot of the latest capture (struct mp_capture)."""
        return self._record["capture"][self.number("capture_number") & 1]

    @property
    def latest_capture(self) -> int:
        """The number of the latest capture of this segment; 0: it had none. In the segment of a
        second attach `capture_number` goes on from those before.
        """
        number = self.number("capture_number")
        return number if int(self.capture["number"]) == number else 0

    @property
    def gate_capture(self) -> int:
        """The capture whose gate is open; 0 when it is shut. A passed deadline does not shut it."""
        gate = self.number("gate")
        return gate >> layout.GATE_SHIFT if gate > 0 else 0

    def running(self, now_ns: int) -> bool:
        """Whether the latest capture goes on at `now_ns` (CLOCK_MONOTONIC)."""
        number = self.number("capture_number")
        return (
            number > 0 and self.gate_capture == number and now_ns < int(self.capture["deadline_ns"])
        )

    def levels(self, table: str, row_struct: str | None) -> list[Level]:
        """The valid readable levels of `table`, smallest first."""
        record = self._record[table]
        ready = min(int(record["levels_ready"]), layout.LEVELS)
        found = (self.level(record["level"][i], i, row_struct) for i in range(ready))
        levels = [level for level in found if level is not None]
        # The target reserves levels before use: they cannot be much larger than the file's pages.
        while sum(level.total_bytes for level in levels) > self._room_bytes:
            levels.pop()
        return levels

    def level(self, raw: Any, index: int, row_struct: str | None) -> Level | None:
        """`raw` (struct mp_level) as a checked level of such rows, or None."""
        row_bytes, in_row = layout.payload_bytes(row_struct), row_struct in layout.KEY_IN_ROW
        level = Level(index, int(raw["offset"]), int(raw["rows"]), int(raw["row_bytes"]), in_row)
        sane = (
            level.offset >= layout.CONTROL_BYTES
            and level.offset % 8 == 0
            and 8 <= level.rows <= LEVEL_ROWS_MAX
            and level.row_bytes == row_bytes
            and level.offset + level.rows * (8 + row_bytes) <= self.limit_bytes
        )
        return level if sane else None

    def lost_level(self, name: str, row_struct: str) -> Level | None:
        """The level of reserved sites in field `name`, once it may be read."""
        raw = self._record[name]
        level = self.level(raw, 15, row_struct)
        if level is None or int(raw["reserved_bytes"]) < level.rows * (8 + level.row_bytes):
            return None
        return level


class Segment:
    """An open segment file. Not safe for use from several threads at once."""

    def __init__(self, fd: int, path: str, *, writable: bool) -> None:
        """Take over `fd`.

        Raises NotAProfile or UnsupportedVersion if it is not a usable segment.
        """
        self.fd = fd
        self.path = path
        self.reserve_max_bytes = bound.DEFAULT_BYTES
        self._base: Any = None
        self._locked_by = 0  # our process that took the lock
        try:
            self._check()
            if writable:
                self._base = lib.mp_control_map(fd)
                if self._base == ffi.NULL:
                    raise OSError(errno.ENOMEM, "cannot map the segment", path)
        except BaseException:
            self._base = None
            os.close(fd)
            raise

    @classmethod
    def open(cls, path: str | Path, *, writable: bool) -> Segment:
        """Open `path` without following a link at its end.

        Raises OSError, NotAProfile, UnsupportedVersion.
        """
        flags = os.O_RDWR if writable else os.O_RDONLY
        return cls(open_plain(path, flags, follow=False), str(path), writable=writable)

    @classmethod
    def open_in(cls, folder: UserFolder, name: str, *, writable: bool) -> Segment:
        """Open a segment in a user's private folder, if it is that user's.

        Raises OSError, NotAProfile, UnsupportedVersion.
        """
        flags = os.O_RDWR if writable else os.O_RDONLY
        fd = open_plain(name, flags, dir_fd=folder.fd, follow=False)
        if os.fstat(fd).st_uid != folder.uid:
            os.close(fd)
            raise NotAProfile(f"{folder.path / name} does not belong to the owner of its folder")
        return cls(fd, str(folder.path / name), writable=writable)

    def _check(self) -> None:
        status = os.fstat(self.fd)
        if not stat.S_ISREG(status.st_mode) or not (
            layout.CONTROL_BYTES <= status.st_size <= FILE_MAX_BYTES
        ):
            raise NotAProfile(f"{self.path} is not a segment of mem_profiler")
        page: Records = np.frombuffer(self._pread(0, layout.CONTROL_BYTES), layout.CONTROL, count=1)
        if int(page[0]["magic"]) != layout.MAGIC:
            raise NotAProfile(f"{self.path} is not a segment of mem_profiler")
        version = int(page[0]["version"])
        if version < layout.VERSION:
            raise UnsupportedVersion(f"{self.path} is a segment of version {version}, too old")

    def close(self) -> None:
        """Release the mapping, the lock and the file. A second call does nothing."""
        if self._base is not None:
            lib.mp_control_unmap(self._base)
            self._base = None
        if self.fd >= 0:
            # A child that was forked meanwhile shares the lock until it closes its copy.
            if self._locked_by == os.getpid():
                fcntl.flock(self.fd, fcntl.LOCK_UN)
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    # -- reading --------------------------------------------------------------------------------

    def _pread(self, offset: int, size: int) -> bytes:
        data = os.pread(self.fd, size, offset)
        return data if len(data) == size else data.ljust(size, b"\0")

    def control(self) -> Control:
        """A fresh copy of the control page."""
        status = os.fstat(self.fd)
        room = ROOM_MIN_BYTES + ROOM_FACTOR * status.st_blocks * 512
        return Control(self._pread(0, layout.CONTROL_BYTES), status.st_size, room)

    def read(self, offset: int, size: int) -> Bytes:
        """`size` bytes from `offset`; zeros past the file's end."""
        buffer = np.zeros(size, np.uint8)
        view = buffer.data
        at = 0
        while at < size:
            data = self._next(offset + at, os.SEEK_DATA) - offset
            if not at <= data < size:
                break
            hole = min(self._next(offset + data, os.SEEK_HOLE) - offset, size)
            got = os.preadv(self.fd, [view[data : max(hole, data + 1)]], offset + data)
            if got == 0:
                break
            at = data + got
        return buffer

    def _next(self, offset: int, what: int) -> int:
        """Offset of the next data or hole: a forged, huge hole must not cost memory here."""
        try:
            return os.lseek(self.fd, offset, what)
        except OSError as error:
            if error.errno == errno.ENXIO or what == os.SEEK_HOLE:
                return FILE_MAX_BYTES
            return offset

    def keys(self, level: Level, count: int | None = None) -> Words:
        """The keys of a level, one u64 per row; only the first `count` of them if given."""
        rows = level.rows if count is None else min(count, level.rows)
        stride = 8 + level.row_bytes if level.key_in_row else 8
        words = self.read(level.offset, stride * rows).view(np.uint64)
        return np.ascontiguousarray(words[:: stride // 8])

    def rows(self, level: Level, dtype: np.dtype[np.void]) -> Records:
        """The payload rows of a level, with their keys where those are part of them."""
        return self.read(level.rows_offset, level.rows * dtype.itemsize).view(dtype)

    def array(self, array: Array, rows: int, dtype: np.dtype[np.void]) -> Records:
        """The first `rows` rows of an array, no more than it has."""
        return self.read(array.offset, min(rows, array.rows) * dtype.itemsize).view(dtype)

    def write(self, offset: int, data: bytes) -> None:
        """Write to a range inside the file that nobody else writes now. Raises OSError."""
        os.pwrite(self.fd, data, offset)

    def used_bytes(self) -> int:
        """Pages of the file in use, in bytes."""
        return os.fstat(self.fd).st_blocks * 512

    # -- atomic accesses to the control page -----------------------------------------------------

    def _done(self, rc: int) -> int:
        if rc < 0:
            raise ProcessGone("the segment was cut off by its owner", hint=None)
        return rc

    def load(self, field: Sequence[str | int], bits: int = 64) -> int:
        """Acquire-load of a control field given by its path."""
        out = ffi.new(f"uint{bits}_t *")
        call = lib.mp_load64 if bits == 64 else lib.mp_load32
        self._done(call(self._base, layout.offset_of(*field), out))
        return int(out[0])

    def store(self, field: Sequence[str | int], value: int, bits: int = 64) -> None:
        """Release-store of a control field; negative values are stored as two's complement."""
        call = lib.mp_store64 if bits == 64 else lib.mp_store32
        self._done(call(self._base, layout.offset_of(*field), value & ((1 << bits) - 1)))

    def swap(self, field: Sequence[str | int], old: int, new: int, bits: int = 64) -> bool:
        """Compare-and-swap of a control field; whether it was `old` and now is `new`."""
        call = lib.mp_cas64 if bits == 64 else lib.mp_cas32
        mask = (1 << bits) - 1
        return self._done(call(self._base, layout.offset_of(*field), old & mask, new & mask)) == 1

    # -- space and lock -----------------------------------------------------------------------

    def allocate(self, offset: int, size: int) -> int:
        """Allocate pages for the range. Returns 0, or the errno of the failure (ENOSPC, EOPNOTSUPP,
        ...).

        E2BIG where the file would exceed `reserve_max_bytes`.
        """
        if self.used_bytes() + size > self.reserve_max_bytes:
            return errno.E2BIG
        return -int(lib.mp_fallocate(self.fd, offset, size))

    def try_lock(self) -> bool:
        """Take the controllers' lock, released by close() or when this process exits."""
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return False
            raise
        self._locked_by = os.getpid()
        return True

    def lock_holder(self) -> int | None:
        """Pid of the process that holds the lock, where /proc/locks shows it."""
        status = os.fstat(self.fd)
        device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
        try:
            lines = Path("/proc/locks").read_text(encoding="ascii").split("\n")
        except OSError:
            return None
        for line in lines:
            words = line.split()
            if len(words) >= 6 and words[1] == "FLOCK" and words[5] == device:
                return int(words[4]) or None
        return None
