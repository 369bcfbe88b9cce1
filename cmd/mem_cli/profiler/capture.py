"""The default form of `mem_profiler`: capture running processes for some seconds."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mem_cli.console import note
from mem_cli.profiler import attaching, capture_view
from mem_cli.profiler.outcome import finish, say_left_out
from mem_cli.profiler.signals import Stop, on_signals
from mem_cli.profiler.target import SAMPLED
from mem_parser.errors import MemError, TargetBusy
from mem_parser.heapfile.form import Form
from mem_profiler.capture import session
from mem_profiler.capture.saving import Result
from mem_profiler.capture.session import Rates, Session
from mem_profiler.process import procfs

if TYPE_CHECKING:
    from mem_profiler.capture.device_choice import Choice


def leave_out_of(pids: list[int]) -> Callable[[MemError], None] | None:
    """Return who hears of a process that cannot be captured; None where it is the only one."""
    return None if len(pids) == 1 else say_left_out


LOOK_S = 0.25


class _Newcomers:
    """The processes that a process and those below it start during their capture, which goes on in
    each from when it is seen to the same end. Where the sampler follows forks, it has begun there.
    """

    def __init__(
        self, pids: Sequence[int], rates: Rates, stop: Stop, attached: attaching.Attached
    ) -> None:
        """``pids``: the process and those known to be below it."""
        self.until = math.inf  # by `time.monotonic`
        self._root, self._known = pids[0], set(pids)
        self._rates, self._stop, self._attached = rates, stop, attached
        self._busy: set[int] = set()
        self._next = 0.0
        self._missed = 0

    def look(self, sessions: list[Session]) -> None:
        """Add a session for each process that is new, and can be captured."""
        if time.monotonic() < self._next:
            return
        new = [pid for pid in procfs.family(self._root) if pid not in self._known]
        self._known.update(new)
        for pid in [*filter(SAMPLED.fits, self._busy), *new]:
            self._busy.discard(pid)
            if len(sessions) >= procfs.FAMILY_MAX:
                self._missed += 1
                continue
            try:
                sessions.append(self._begun(pid))
            except KeyboardInterrupt:
                break  # the time is over, or somebody asked
            except TargetBusy:
                self._busy.add(pid)
            except MemError as error:
                if procfs.is_gone(pid):
                    self._missed += 1
                else:
                    say_left_out(error)
        self._next = time.monotonic() + LOOK_S

    def _begun(self, pid: int) -> Session:
        """Raises MemError, KeyboardInterrupt."""

        def over() -> bool:
            return self._stop.asked() or time.monotonic() >= self.until

        self._attached.add(pid, over)
        one = Session(pid, continues=True)
        try:
            one.start(self._rates, max(self.until - time.monotonic(), 0.0))
        except BaseException:
            one.abandon()
            raise
        return one

    def say_missed(self) -> None:
        """Say how many ended too soon."""
        if self._missed:
            more = "1 more process" if self._missed == 1 else f"{self._missed} more processes"
            why = f"ended too soon, or came after {procfs.FAMILY_MAX} others"
            note(f"note: {more} of them started meanwhile, without a file: {why}", err=True)


def _capture_sessions(
    pids: list[int],
    seconds: float,
    rates: Rates,
    prefix: str,
    form: Form,
    *,
    newcomers: _Newcomers | None,
    stop: Stop,
    attached: attaching.Attached,
) -> tuple[list[Result], list[MemError]]:
    leave_out = leave_out_of(pids)
    sessions = session.open_all(pids, leave_out)
    try:
        if newcomers is not None:
            newcomers.until = time.monotonic() + seconds
        for one in sessions:
            note(capture_view.target_line(one, rates.host_bytes), err=True)
        with capture_view.CaptureProgress(sessions, seconds) as progress:

            def on_tick(gone: float) -> None:
                progress.show(gone)
                attached.tick()
                if newcomers is not None:
                    newcomers.look(sessions)

            end = session.run(sessions, rates, seconds, stop.asked, on_tick, leave_out=leave_out)
        for one in sessions:
            one.notes += attached.notes(one.pid)
        if newcomers is not None:
            newcomers.say_missed()
    except BaseException:
        for one in sessions:
            one.abandon()
        raise
    return session.write_all(sessions, prefix, end, form)


def capture(
    pids: list[int],
    seconds: float,
    rates: Rates,
    prefix: str,
    form: Form,
    *,
    children: bool,
    symbolize: bool,
    devices: Choice | None = None,
) -> int:
    """Capture processes for ``seconds`` and write their files. ``children``: they are the first and
    all below it; those that come meanwhile too. Raises `MemError`.

    Returns the exit code.
    """
    stop = Stop()
    on_signals((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), stop)
    attached = attaching.Attached(devices)
    there = attached.where_needed(pids, stop.asked, leave_out_of(pids))
    newcomers = _Newcomers(pids, rates, stop, attached) if children else None
    try:
        results, errors = _capture_sessions(
            there, seconds, rates, prefix, form,
            newcomers=newcomers, stop=stop, attached=attached,
        )  # fmt: skip
    finally:
        attached.detach()
    return finish(results, errors, form, symbolize=symbolize, family=children, takes_all=children)
