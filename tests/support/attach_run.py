"""Processes that nobody prepared, and attaching to them from this process.

Model: an `Unprepared` is a `Target` without the sampler in its environment. The attaching itself is
called here, not through the command, which takes a third of a second to start; the commands have
tests of their own. A controller that dies is a forked child of the test.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import mem_profiler
from mem_parser.errors import TargetBusy
from mem_profiler.attach import kill_points, remote, threads
from mem_profiler.process import procfs
from sampler_run import Target, build

SPAN_MS = 400


class Unprepared(Target):
    """A running program without the sampler. Use as a context manager."""

    def __init__(self, argv: Sequence[str | Path], folder: Path, **options: Any) -> None:
        super().__init__(argv, {**os.environ, "MEM_PROFILER_DIR": str(folder)}, **options)


def waits(kind: str, folder: Path, span_ms: int = SPAN_MS) -> Unprepared:
    """waits.c in one kind of system call; its main thread has begun."""
    target = Unprepared([build("waits.c"), kind, str(span_ms)], folder)
    assert target.line() == "ready"
    return target


def storm(kind: str, folder: Path, *arguments: Path) -> Unprepared:
    target = Unprepared([build("storm.c"), kind, *arguments], folder)
    assert target.line() == "ready"
    return target


def end_storm(target: Target) -> int:
    """Let a storm end; how many rounds it made, none of them with a wrong result."""
    words = target.finish().split()
    assert words[0] == "rounds"
    assert words[3] == "0", words
    return int(words[1])


@contextlib.contextmanager
def only_thread(monkeypatch: pytest.MonkeyPatch, tid: int) -> Iterator[None]:
    """Only this thread may be borrowed."""
    with monkeypatch.context() as patch:
        patch.setattr(threads, "waiting", lambda _pid: [tid])
        patch.setattr(remote, "RUNNING_FROM_ROUND", 10**9)
        yield


def begin(pid: int) -> None:
    """Put the sampler into a process by what an attach does there, without what it asks before."""
    _ordered(pid, remote.BEGIN)


def end(pid: int) -> None:
    """Take it out by what a detach does there."""
    _ordered(pid, remote.DETACH)


def _ordered(pid: int, number: int) -> None:
    library, folder = str(mem_profiler.library_path()), os.environ["MEM_PROFILER_DIR"]
    command = remote.Command(number, library, folder)
    try:
        answer = remote.run(pid, command)
    except TargetBusy:  # the machine is busy, too: all is as before
        answer = remote.run(pid, command)
    assert answer.result == 0, answer


def await_threads(pid: int, count: int) -> None:
    """Wait until the process has so many threads: a loader ends a moment after its answer."""
    give_up = time.monotonic() + 30
    while len(threads.ids(pid)) != count:
        assert time.monotonic() < give_up, threads.ids(pid)
        time.sleep(0.001)


def signal_masks(pid: int, count: int) -> dict[int, tuple[str, str]]:
    """Blocked signals, and those that wait for them to be unblocked, by thread; `count` of them."""
    await_threads(pid, count)
    found = {}
    for tid in threads.ids(pid):
        words = procfs.status_words(f"{pid}/task/{tid}")
        found[tid] = words["SigBlk"], words["SigPnd"]
    return found


def mappings(pid: int) -> set[str]:
    """Names of what a process has mapped."""
    return {mapping.path for mapping in procfs.maps(pid)}


def die_at(point: str, pid: int) -> None:
    """Attach in a child that is killed at `point`; fails if it was not."""
    child = os.fork()
    if child == 0:
        os.environ[kill_points.VARIABLE] = point
        try:
            begin(pid)
        except TargetBusy as error:
            if "ended by SIGKILL" in str(error):  # the part of it that was at work
                os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(99)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), (point, status)
    assert os.WTERMSIG(status) == signal.SIGKILL
