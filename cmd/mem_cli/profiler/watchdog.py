"""Leaves processes as they were found where a viewer is killed.

Model: a viewer ends its captures and detaches by itself, but for SIGKILL and the like. So it has a
`Watchdog` beside, a process that knows which processes it watches, and waits for the end of a pipe
that the viewer holds. It ends only a capture that this viewer began and that nobody controls since,
and detaches only from what this viewer attached to. What such a capture has is kept, and
`mem_profiler stop` writes it; that of a process from which it detaches is dropped, as the viewer
would.

It is made before the viewer has threads. It has no terminal, and no descriptor but its pipe.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
from typing import NamedTuple, NoReturn, Self

from mem_parser.errors import MemError
from mem_profiler import attach as attaching
from mem_profiler.attach import Stopped
from mem_profiler.capture import gate, toggle
from mem_profiler.process import procfs
from mem_profiler.segment import discovery
from mem_sandbox.child import let_go_of_all_but

END_S = 10.0
_WATCHED, _ATTACHED, _LEFT = b"watched", b"attached", b"left"


class Watchdog:
    """The process beside. Use as a context manager."""

    def __init__(self) -> None:
        """Start it. Raises MemError."""
        owner = os.getpid()
        try:
            told, self._tell = os.pipe2(os.O_CLOEXEC)
            self._pid = os.fork()
        except OSError as error:
            raise MemError(f"cannot start a child process: {error.strerror}") from None
        if self._pid == 0:
            _wait(owner, told)
        os.close(told)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def watched(self, pid: int) -> None:
        """A capture may be begun in this process from now on."""
        self._say(_WATCHED, pid)

    def attached(self, pid: int) -> None:
        """The viewer has attached to this process."""
        self._say(_ATTACHED, pid)

    def left(self, pid: int) -> None:
        """The viewer has left this process as it was."""
        self._say(_LEFT, pid)

    def _say(self, word: bytes, pid: int) -> None:
        with contextlib.suppress(OSError):  # somebody has killed it
            os.write(self._tell, b"%s %d\n" % (word, pid))

    def close(self) -> None:
        """End it; it first leaves what the viewer has not left. A second call does nothing."""
        pid, self._pid = self._pid, 0
        if not pid:
            return
        os.close(self._tell)
        with contextlib.suppress(OSError):
            end = os.pidfd_open(pid)
            ended, _, _ = select.select([end], [], [], END_S)
            os.close(end)
            if not ended:
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _wait(owner: int, told: int) -> NoReturn:
    """In the process beside: wait for the end of the viewer, and clean up behind it."""
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)  # the viewer gets them, and closes its end
        gc.freeze()
        let_go_of_all_but((told,))
        known: dict[int, _Known] = {}
        with open(told, "rb") as words:
            for line in words:
                _note(known, line)
        for pid, one in known.items():
            if one.started != procfs.start_ticks(pid):
                continue  # it has ended, and another process may have its number
            with contextlib.suppress(MemError, Stopped, OSError):
                _leave(pid, owner, attached=one.attached)
    finally:
        os._exit(0)


class _Known(NamedTuple):
    """A process that the viewer has told of: when it started, in ticks, and whether the viewer
    attached to it.
    """

    started: int | None
    attached: bool


def _note(known: dict[int, _Known], line: bytes) -> None:
    """Note what the viewer says in ``known``, by pid."""
    word, _, number = line.strip().partition(b" ")
    pid = int(number)
    if word == _LEFT:
        known.pop(pid, None)
    else:
        started = procfs.start_ticks(pid)
        before = known.get(pid)
        is_same = before is not None and before.started == started
        had = before is not None and is_same and before.attached
        known[pid] = _Known(started, had or word == _ATTACHED)


def _leave(pid: int, owner: int, *, attached: bool) -> None:
    """End a capture that ``owner`` began, where it runs and nobody else controls it, and detach
    where ``owner`` attached and nobody captures. Raises MemError, Stopped.
    """
    with discovery.open_process(pid) as segment:
        toggle.lock(segment, pid)
        control = segment.control()
        number = control.number("capture_number")
        is_own = int(control.capture["owner_pid"]) == owner
        if is_own and control.running(gate.target_now_ns(pid)):
            gate.stop(segment, pid, number)
            if attached:
                gate.mark_written(segment, number)
        gate.check_idle(segment, pid)
    if attached:
        attaching.detach(pid)
