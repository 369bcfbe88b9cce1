"""From a drain's blocks to files of events: the side that may write.

Model: the drain (`mem_profiler.events.drain`) runs in a child without rights and sends whole blocks
through a pipe. A process with the user's rights writes them to PREFIX.<pid>.<n>-<k>.memlog, k from
0, and reads nothing of them but their lengths. The drain says where a file ends; with more than
`keep` files the oldest goes. Where the file system is full, the oldest files go first, and then the
log ends: the file is cut back to its last whole block.

In the pipe: for each block its length in 4 bytes, and its bytes; a length of 0 ends a file. `NOTE`
instead of a length: how far the log has come, the number of rings in 4 bytes and a number in 8
bytes for each.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import re
import select
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from mem_parser import sudo
from mem_parser.errors import FULL, MemError, UsageProblem
from mem_parser.output_path import log_stem, open_folder
from mem_profiler.capture.output import ExactFile, Where
from mem_profiler.events import FILE_BYTES, FILE_LEAST_BYTES, FILES
from mem_sandbox import confine
from mem_sandbox.child import Child, Wish, write_all

BLOCK_MAX_BYTES = 64 << 20
NOTE = 0xFFFFFFFF
RINGS_MAX = 1 << 10
NAMES_TRIED = 100_000
MEMORY_BYTES = 2 << 30
CPU_S = 1 << 30  # a log has no end by itself
PIPE_BYTES = 1 << 20
WAKE_S = 0.05
END_LIMIT_S = 60.0  # time for the drain to write the rest after the capture
_NUMBERED = re.compile(r"(\d{1,9})-\d+\.memlog")


@dataclass(frozen=True)
class Limits:
    """How large a file becomes, and how many of them stay; ``alias``: a suffix under which each has
    a second name.
    """

    file_bytes: int = FILE_BYTES
    files: int = FILES
    alias: str = ""

    def __post_init__(self) -> None:
        if self.file_bytes < FILE_LEAST_BYTES or self.files < 1:
            raise ValueError("a log needs a file of 4 MiB")

    @property
    def hard_bytes(self) -> int:
        """No file has more, whatever the drain says."""
        return self.file_bytes + 2 * BLOCK_MAX_BYTES


Drain = Callable[[Limits, int, Wish], Any]
"""The work of the child: it gets the pipe to write blocks to, and returns what JSON can hold. The
words of the wish to end are how the capture ended.
"""


class LogFiles:
    """The files of one log, in one folder. Not for several threads at once."""

    def __init__(self, where: Where, pid: int, keep: int, *, alias: str = "") -> None:
        """Open the folder. Raises MemError, OSError."""
        self._exact = isinstance(where, ExactFile)
        self._replace = isinstance(where, ExactFile) and where.replace
        path = log_stem(where.path) if isinstance(where, ExactFile) else where
        self.folder, name = os.path.split(path)
        self._stem = name if self._exact else f"{name}.{pid}"
        self._keep = keep
        self._alias = alias
        self._opened = open_folder(self.folder or ".")
        self._dir_fd = self._opened.__enter__()
        self._run = 0
        self._next = 0
        self._fd = -1
        self._size = 0
        self._made: deque[tuple[str, int]] = deque()  # name, inode
        self.dropped = 0

    @property
    def paths(self) -> list[str]:
        """The files that are there, oldest first."""
        return [os.path.join(self.folder, name) for name, _ in self._made]

    @property
    def size_bytes(self) -> int:
        """Bytes of the file that is being written."""
        return self._size

    def write(self, block: bytes) -> None:
        """Append a block to the current file, or begin one. Raises OSError; then the file ends with
        the block before.
        """
        if self._fd < 0:
            self._begin()
        while True:
            try:
                write_all(self._fd, block)
                self._size += len(block)
                return
            except OSError as error:
                os.ftruncate(self._fd, self._size)
                os.lseek(self._fd, self._size, os.SEEK_SET)
                if error.errno not in FULL or not self._drop_oldest():
                    raise

    def end_file(self) -> None:
        """Close the current file, of which nothing stays if it has no block. The next block begins
        another one.
        """
        if self._fd >= 0:
            os.fsync(self._fd)
            os.close(self._fd)
            self._fd = -1
            if not self._size:
                self._remove(*self._made.pop())

    def close(self) -> None:
        """Close everything; a second call does nothing."""
        with contextlib.suppress(OSError):
            self.end_file()
        if self._dir_fd >= 0:
            self._opened.__exit__(None, None, None)
            self._dir_fd = -1

    def _begin(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        while True:
            name = self._name()
            try:
                self._fd = os.open(name, flags, 0o600, dir_fd=self._dir_fd)
                break
            except FileExistsError:
                if self._replace:
                    os.unlink(name, dir_fd=self._dir_fd)
                elif self._exact or self._next or self._run >= NAMES_TRIED:
                    raise
        self._size = 0
        self._next += 1
        sudo.give(self._fd, self._dir_fd)
        self._made.append((name, os.fstat(self._fd).st_ino))
        if self._alias:
            # Where the name is taken, or the file system has no links, the first one is all.
            with contextlib.suppress(OSError):
                os.link(name, self._second(name), src_dir_fd=self._dir_fd, dst_dir_fd=self._dir_fd)
        while len(self._made) > self._keep:
            self._drop_oldest()

    def _name(self) -> str:
        """The next name; the first file of a log looks for a number that no log has: of an older
        one, the first files may be gone.
        """
        if self._exact:
            return f"{self._stem}-{self._next}.memlog"
        if self._next == 0:
            taken = _numbers(self._dir_fd, f"{self._stem}.")
            self._run = next(k for k in itertools.count(self._run + 1) if k not in taken)
        return f"{self._stem}.{self._run}-{self._next}.memlog"

    def _drop_oldest(self) -> bool:
        """Remove the oldest file except the current one; False if there is none."""
        if len(self._made) < 2:
            return False
        self._remove(*self._made.popleft())
        self.dropped += 1
        return True

    def _second(self, name: str) -> str:
        return name.removesuffix(".memlog") + self._alias

    def _remove(self, name: str, inode: int) -> None:
        """Remove a file of this log, unless another one has its name."""
        for each in (name, self._second(name)) if self._alias else (name,):
            with contextlib.suppress(OSError):
                found = os.stat(each, dir_fd=self._dir_fd, follow_symlinks=False)
                if found.st_ino == inode:
                    os.unlink(each, dir_fd=self._dir_fd)


def _numbers(folder: int, begin: str) -> set[int]:
    """The numbers N of the logs `beginN-K.memlog` that have a file in a folder; none where this
    user may not list it.
    """
    try:
        names = os.listdir(f"/proc/self/fd/{folder}")
    except PermissionError:
        return set()
    found = (_NUMBERED.fullmatch(name[len(begin) :]) for name in names if name.startswith(begin))
    return {int(match[1]) for match in found if match}


def check_names(exact: ExactFile) -> None:
    """Refuse the name of a file whose log would meet files of another one, which it may not
    replace. Raises UsageProblem, OSError.
    """
    if exact.replace:
        return
    found = files_of_name(exact.path)
    if found:
        stem, first = os.path.basename(log_stem(exact.path)), os.path.basename(found[0])
        raise UsageProblem(
            f"-o {exact.path}: the log of its events would be {stem}-0.memlog, and"
            f" {first} exists already",
            hint="-f replaces files of that name; or give another name",
        )


def files_of_name(path: str) -> list[str]:
    """Return the existing files that a log beside ``path`` would conflict with. Raises OSError."""
    folder, name = os.path.split(log_stem(path))
    of_log = re.compile(re.escape(name) + r"-\d+\.memlog")
    found = sorted(filter(of_log.fullmatch, os.listdir(folder or ".")))
    return [os.path.join(folder, one) for one in found]


@dataclass(frozen=True)
class Work:
    """The maker of a log: the drain, with the descriptors that it needs, and `note`, which gets its
    progress.
    """

    drain: Drain
    note: Callable[[list[int]], None]
    keep: Sequence[int]


@dataclass(frozen=True)
class Log:
    """The outcome of a log: its files, oldest first, and the drain's report on them.

    `problem` is why it ended before the capture; empty if it did not.
    """

    paths: list[str]
    dropped_files: int
    told: dict[str, int]
    problem: str

    def joined(self, later: Log | None) -> Log:
        """This log and a later one of the same capture."""
        if later is None:
            return self
        told = Counter(self.told)
        told.update(later.told)
        return Log(
            self.paths + later.paths,
            self.dropped_files + later.dropped_files,
            dict(told),
            self.problem or later.problem,
        )


class Collector:
    """One log while it is written. Use as a context manager: no process of it outlives that."""

    def __init__(self, where: Where, pid: int, work: Work, limits: Limits) -> None:
        """Start. Raises MemError."""
        self._closed = False
        self._child = Child(
            lambda asked: _collect(_Task(where, pid, work, limits), asked),
            f"pid {pid}",
            keep=work.keep,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes, if they still run; a second call does nothing."""
        if not self._closed:
            self._closed = True
            self._child.__exit__()

    @property
    def has_ended(self) -> bool:
        """Whether the log has ended, before `finish`."""
        return self._child.has_ended

    def finish(self, how: str) -> Log:
        """Let the drain write what there still is, and end. The caller has shut the gate. `how` is
        that of the log's END.
        """
        self._child.ask_to_stop(how)
        try:
            told = self._child.result(END_LIMIT_S)
        except MemError as error:
            return Log([], 0, {}, str(error))
        finally:
            self.close()
        return Log(
            [str(path) for path in told["paths"]],
            int(told["dropped"]),
            {str(k): int(v) for k, v in told["told"].items()},
            str(told["problem"]),
        )


@dataclass(frozen=True)
class _Task:
    where: Where
    pid: int
    work: Work
    limits: Limits


def _collect(task: _Task, asked: Wish) -> dict[str, Any]:
    """Write blocks to files until the drain ends. Runs in a separate process, with the user's
    rights.
    """
    try:
        files = LogFiles(task.where, task.pid, task.limits.files, alias=task.limits.alias)
    except OSError as error:
        raise MemError(f"cannot write a log of events: {error.strerror}") from None
    read, write = os.pipe2(os.O_CLOEXEC)
    with contextlib.suppress(OSError):
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    with Child(
        lambda told_to_end: task.work.drain(task.limits, write, told_to_end),
        f"pid {task.pid}",
        keep=(write, *task.work.keep),
        enter=lambda: confine.enter(CPU_S),
        memory_bytes=MEMORY_BYTES,
    ) as child:
        os.close(write)
        pump = _Pump(read, files, task)
        problem = pump.run(child, asked)
        told: dict[str, int] = {}
        if not problem:
            try:
                told = child.result(END_LIMIT_S)
            except MemError as error:
                problem = str(error)
        files.close()
    return {"paths": files.paths, "dropped": files.dropped, "told": told, "problem": problem}


class _Pump:
    """From the pipe to the files."""

    def __init__(self, pipe: int, files: LogFiles, task: _Task) -> None:
        self._pipe = pipe
        self._files = files
        self._limits = task.limits
        self._note = task.work.note
        self._got = bytearray()

    def run(self, child: Child, asked: Wish) -> str:
        """Until the drain closes the pipe; returns why it ended earlier."""
        poll = select.poll()
        poll.register(self._pipe, select.POLLIN)
        asks = False
        while True:
            if not asks and asked():
                asks = True
                child.ask_to_stop(asked.words)
            if not poll.poll(WAKE_S * 1000):
                child.wake()
                continue
            part = os.read(self._pipe, PIPE_BYTES)
            if not part:
                return ""
            self._got += part
            try:
                self._write_whole()
            except OSError as error:
                return f"the log of events ends early: {error.strerror}"
            except ValueError:
                return "the log of events grew past its limit"

    def _write_whole(self) -> None:
        """Write all blocks that have come whole. Raises OSError, ValueError."""
        at, end = 0, len(self._got)
        while end - at >= 4:
            size = int.from_bytes(self._got[at : at + 4], "little")
            if size == 0:
                self._files.end_file()
            elif size == NOTE:
                body = self._noted(at + 4)
                if body is None:
                    break
                at += 4 + len(body)
                self._note(
                    [int.from_bytes(body[i : i + 8], "little") for i in range(0, len(body), 8)]
                )
                size = 0
            elif size > BLOCK_MAX_BYTES or (
                self._files.size_bytes + size > self._limits.hard_bytes
            ):
                raise ValueError
            elif end - at - 4 < size:
                break
            else:
                self._files.write(bytes(self._got[at + 4 : at + 4 + size]))
            at += 4 + size
        del self._got[:at]

    def _noted(self, at: int) -> bytes | None:
        """The numbers of a note whose count is at `at`; None: they have not come whole."""
        count = int.from_bytes(self._got[at : at + 4], "little")
        if count > RINGS_MAX:
            raise ValueError
        body = bytes(self._got[at + 4 : at + 4 + 8 * count])
        return body if len(self._got) >= at + 4 + 8 * count else None
