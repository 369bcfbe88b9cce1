"""Work in a child process that may crash without taking its parent with it.

Symbol tables, debug information and mangled names are untrusted, and their readers are partly
native code. The child is a fork, so it has all data and starts at once. It may read files, since
only the data tells their names, and change none but those of the cache (`mem_sandbox.confine`). It
sends its results through a pipe, task by task, as JSON: a child that a hostile file controls can
send wrong names, and nothing else. A child that dies costs only its current task: another child
does the rest.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from mem_parser import errors
from mem_parser.allowance import bound_bytes
from mem_parser.errors import MemError
from mem_parser.inherited_signals import wait_for
from mem_sandbox import confine
from mem_sandbox.child import (
    let_go_of_all_but,
    limit_memory,
    read_only_descriptors,
    signal_name,
)
from mem_sandbox.syscalls import die_with_parent

TASK_TIMEOUT_S = 600.0
"""What one task may take, debug information of a large program included."""
LARGEST_ANSWER_BYTES = 1 << 28
LARGEST_FILE_BYTES = 1 << 30
LARGEST_MEMORY_BYTES = 16 << 30
MEMORY_FLOOR_BYTES = 1 << 30
"""What libraries take by themselves, and small files that are honest."""
NO_MEMORY = 3
"""Exit code of a reader that needs more memory than it may take."""
_HEAD_BYTES = 8
_END_S = 1.0
_RESULT, _ERROR, _CRASH = "result", "error", "crash"

Task = TypeVar("Task")
Result = TypeVar("Result")
Json = Any
"""What `json` can write: texts, numbers, None, and lists and objects of these."""


@dataclass(frozen=True, slots=True)
class Crash:
    """A task's failure; ``text`` says it without a subject: `crashed its reader (SIGSEGV)`."""

    text: str


@dataclass(frozen=True, slots=True)
class Job(Generic[Task, Result]):
    """The work on each task.

    ``work`` runs in the child and returns JSON; ``understand`` makes the result of it here, and
    must trust nothing: what it raises for JSON of another shape (ValueError, TypeError,
    LookupError, AttributeError) is a crash. ``stored_bytes`` returns in the child the stored bytes
    of the task's files, which bound memory. ``folders`` are those that the work changes, of caches;
    ``helpers``: it starts programs; ``network``: it asks servers.
    """

    work: Callable[[Task], Json]
    understand: Callable[[Json], Result]
    stored_bytes: Callable[[Task], int] = lambda _: 0
    timeout_s: float = TASK_TIMEOUT_S
    folders: Sequence[str] = ()
    helpers: bool = False
    network: bool = False


def in_child(tasks: Sequence[Task], job: Job[Task, Result]) -> Iterator[Result | Crash]:
    """Yield the result of each task, in order, from a child process.

    Raises the `MemError` that the work raises; anything else it raises is a crash. If fork fails,
    all tasks are crashes: this process reads nothing foreign.
    """
    done = 0
    while done < len(tasks):
        try:
            child = _Child(tasks[done:], job)
        except OSError as error:
            text = f"was not read: cannot start a process for it ({error.strerror})"
            yield from (Crash(text) for _ in tasks[done:])
            return
        try:
            while done < len(tasks):
                found = child.next()
                done += 1
                yield found
                if child.is_lost:
                    break
        finally:
            child.end()


class _Child(Generic[Task, Result]):
    """One forked process that works on ``tasks``. Raises OSError if fork fails."""

    def __init__(self, tasks: Sequence[Task], job: Job[Task, Result]) -> None:
        self._job = job
        self.is_lost = False
        self._read, write = os.pipe()
        parent = os.getpid()
        try:
            self._pid = os.fork()
        except OSError:
            os.close(self._read)
            os.close(write)
            raise
        if self._pid == 0:
            _serve(tasks, job, write, parent)
        os.close(write)

    def next(self) -> Result | Crash:
        """Return the next result. Raises the `MemError` that the work raised."""
        deadline = time.monotonic() + self._job.timeout_s
        head = self._receive(_HEAD_BYTES, deadline)
        size = 0 if head is None else int.from_bytes(head, "little")
        if size > LARGEST_ANSWER_BYTES:
            return self._not_understood()
        data = None if head is None else self._receive(size, deadline)
        if data is None:
            return self._crash(timed_out=time.monotonic() >= deadline)
        try:
            return self._result_of(json.loads(data))
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            return self._not_understood()

    def _not_understood(self) -> Crash:
        self.is_lost = True
        return Crash("made its reader give an invalid answer")

    def _result_of(self, answer: Json) -> Result | Crash:
        if _ERROR in answer:
            name, text, hint = (str(x) for x in answer[_ERROR])
            kind = getattr(errors, name)
            if not (isinstance(kind, type) and issubclass(kind, MemError)):
                raise ValueError(name)
            raise kind(text, hint=hint or None)
        if _CRASH in answer:
            return Crash(errors.one_line(str(answer[_CRASH])))
        return self._job.understand(answer[_RESULT])

    def _receive(self, size: int, deadline: float) -> bytes | None:
        """Return ``size`` bytes; None if the child ends first or time runs out."""
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
        self.is_lost = True
        if timed_out:
            return Crash(f"took longer than {self._job.timeout_s:.0f} s to read")
        status = self._wait()
        if os.WIFSIGNALED(status):
            return Crash(f"crashed its reader ({signal_name(os.WTERMSIG(status))})")
        return Crash("ended its reader")

    def _wait(self) -> int:
        """Return how the child ended; kills one that does not end by itself."""
        pid, self._pid = self._pid, 0
        if not pid:
            return 0
        with contextlib.suppress(OSError):
            end = os.pidfd_open(pid)
            select.select([end], [], [], _END_S)
            os.close(end)
        os.kill(pid, signal.SIGKILL)  # does nothing to one that ended
        return wait_for(pid)[1]

    def end(self) -> None:
        """End the child if it still runs."""
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            wait_for(self._pid)
            self._pid = 0
        os.close(self._read)


def _serve(tasks: Sequence[Task], job: Job[Task, Result], pipe: int, parent: int) -> None:
    """Do the work and end, without flushing or cleaning up anything of the parent's."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        die_with_parent(parent)
        let_go_of_all_but((pipe, *read_only_descriptors()))
        confine.limit_files(LARGEST_FILE_BYTES)
        confine.enter_reader(job.folders, helpers=job.helpers, network=job.network)
        for task in tasks:
            _send(pipe, _outcome(task, job))
        code = 0
    finally:
        os._exit(code)


def _outcome(task: Task, job: Job[Task, Result]) -> bytes:
    answer: Json
    try:
        confine.limit_time(job.timeout_s)
        wanted = bound_bytes(job.stored_bytes(task), MEMORY_FLOOR_BYTES)
        limit_memory(min(wanted, LARGEST_MEMORY_BYTES))
        answer = {_RESULT: job.work(task)}
        return json.dumps(answer).encode()
    except MemError as error:
        answer = {_ERROR: [type(error).__name__, str(error), error.hint or ""]}
    except MemoryError:
        answer = {_CRASH: "needs too much memory to read for a file of its size"}
    except Exception as error:
        answer = {_CRASH: f"made its reader fail ({type(error).__name__})"}
    return json.dumps(answer).encode()


def _send(pipe: int, data: bytes) -> None:
    view = memoryview(len(data).to_bytes(_HEAD_BYTES, "little") + data)
    while view:
        view = view[os.write(pipe, view) :]
