"""Work in a child process that may crash without taking its parent with it.

Symbol tables, debug information and mangled names come from anywhere, and what reads them is partly
native code. The child is a fork, so it needs nothing handed over and starts at once; what it finds
comes back through a pipe, task by task. A child that dies costs the one task it was at: the rest is
done by another.
"""

from __future__ import annotations

import os
import pickle
import resource
import select
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

TASK_TIMEOUT_S = 600.0
"""What one task may take, debug information of a large program included."""
MEMORY_LIMIT_BYTES = 16 << 30
_HEAD_BYTES = 8

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Crash:
    """What became of a task; ``text`` says it without a subject: `crashed its reader (SIGSEGV)`."""

    text: str


def in_child(
    tasks: Sequence[Task], work: Callable[[Task], Result], timeout_s: float = TASK_TIMEOUT_S
) -> Iterator[Result | Crash]:
    """Yield ``work(task)`` for each task, in order, from a child process.

    Raises what ``work`` raises. Where no child can be made, the work is done here.
    """
    done = 0
    while done < len(tasks):
        try:
            child = _Child(tasks[done:], work, timeout_s)
        except OSError:
            yield from map(work, tasks[done:])
            return
        try:
            while done < len(tasks):
                found = child.next()
                done += 1
                yield found
                if isinstance(found, Crash):
                    break
        finally:
            child.end()


class _Child(Generic[Task, Result]):
    """One forked process at work on ``tasks``. Raises OSError if there can be none."""

    def __init__(
        self, tasks: Sequence[Task], work: Callable[[Task], Result], timeout_s: float
    ) -> None:
        self._timeout_s = timeout_s
        self._read, write = os.pipe()
        try:
            self._pid = os.fork()
        except OSError:
            os.close(self._read)
            os.close(write)
            raise
        if self._pid == 0:
            _serve(tasks, work, write)
        os.close(write)

    def next(self) -> Result | Crash:
        """Return the next result. Raises what the work raised."""
        deadline = time.monotonic() + self._timeout_s
        head = self._receive(_HEAD_BYTES, deadline)
        data = head and self._receive(int.from_bytes(head, "little"), deadline)
        if data is None or head is None:
            return self._crash(timed_out=time.monotonic() >= deadline)
        found: Result | BaseException = pickle.loads(data)  # noqa: S301 - our own child's
        if isinstance(found, BaseException):
            raise found
        return found

    def _receive(self, size: int, deadline: float) -> bytes | None:
        """Return ``size`` bytes; None if the child ends before or time runs out."""
        parts: list[bytes] = []
        while size:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._read], [], [], left)[0]:
                return None
            part = os.read(self._read, min(size, 1 << 20))
            if not part:
                return None
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _crash(self, *, timed_out: bool) -> Crash:
        if timed_out:
            return Crash(f"took longer than {self._timeout_s:.0f} s to read")
        status = self._wait()
        if os.WIFSIGNALED(status):
            return Crash(f"crashed its reader ({signal_name(os.WTERMSIG(status))})")
        return Crash("made its reader end")

    def _wait(self) -> int:
        pid, self._pid = self._pid, 0
        return os.waitpid(pid, 0)[1] if pid else 0

    def end(self) -> None:
        """End the child if it is still there."""
        os.close(self._read)
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            self._wait()


def signal_name(number: int) -> str:
    """Return a name such as `SIGSEGV`."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _serve(tasks: Sequence[Task], work: Callable[[Task], Result], pipe: int) -> None:
    """Do the work and end the process; nothing of the parent's is flushed or cleaned up twice."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        _limit_memory()
        for task in tasks:
            _send(pipe, _outcome(task, work))
        code = 0
    finally:
        os._exit(code)


def _limit_memory() -> None:
    with open("/proc/self/statm", encoding="ascii") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = now + MEMORY_LIMIT_BYTES
    resource.setrlimit(
        resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
    )


def _outcome(task: Task, work: Callable[[Task], Result]) -> bytes:
    try:
        return pickle.dumps(work(task), pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        return pickle.dumps(error)


def _send(pipe: int, data: bytes) -> None:
    view = memoryview(len(data).to_bytes(_HEAD_BYTES, "little") + data)
    while view:
        view = view[os.write(pipe, view) :]
