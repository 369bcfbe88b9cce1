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
from mem_parser.errors import MemError, ProcessGone, TargetBusy, one_line
from mem_parser.heapfile.form import Form
from mem_profiler.capture import loop, session
from mem_profiler.capture.saving import Result
from mem_profiler.capture.session import Rates, Session
from mem_profiler.process import procfs

if TYPE_CHECKING:
    from mem_profiler.capture.device_choice import Choice


LOOK_S = 0.25


class LeftOut:
    """The processes of a command that have no file; ``code`` is its exit code for that."""

    def __init__(self) -> None:
        self.code = 0

    def among(self, pids: Sequence[int]) -> Callable[[MemError], None] | None:
        """Return who hears of one of them; None where it is the only one: then it is an error."""
        return self.add if len(pids) > 1 else None

    def add(self, error: MemError) -> None:
        """Say it. That one ended meanwhile is no failure."""
        say_left_out(error)
        if not isinstance(error, ProcessGone):
            self.code = self.code or error.exit_code


class _Newcomers:
    """The processes that a process and those below it start during their capture, and the programs
    that they become (exec): it goes on in each from when it is seen to the same end. Where the
    sampler follows forks, it has begun there.
    """

    def __init__(
        self,
        pids: Sequence[int],
        rates: Rates,
        stop: Stop,
        attached: attaching.Attached,
        left_out: LeftOut,
    ) -> None:
        """``pids``: the process and those known to be below it."""
        self.until = math.inf  # by `time.monotonic`
        self._root, self._known = pids[0], {(), *map(procfs.image, pids)}
        self._left_out = left_out
        self._rates, self._stop, self._attached = rates, stop, attached
        self._busy: set[int] = set()
        self._next = 0.0
        self._missed = 0

    def may_come(self) -> bool:
        """Tell whether there is a process whose newcomers are looked for."""
        return not procfs.is_gone(self._root)

    def look(self, sessions: list[Session]) -> None:
        """Add a session for each process that is new, and can be captured."""
        if time.monotonic() < self._next:
            return
        images = {pid: procfs.image(pid) for pid in procfs.family(self._root)}
        new = [pid for pid, image in images.items() if image not in self._known]
        self._known.update(images.values())
        new = [pid for pid in new if not self._has_session(pid, sessions)]
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
                    self._left_out.add(error)
        self._next = time.monotonic() + LOOK_S

    def _has_session(self, pid: int, sessions: list[Session]) -> bool:
        """Tell whether a process is captured as it is now; what it was before an exec has ended."""
        last = _last_of_each(sessions).get(pid)
        if last is None:
            return False
        last.check_now()
        if last.left is not None:
            last.notes += self._attached.forget(pid)
            name = one_line(procfs.program_name(pid)) or "?"
            note(f"note: pid {pid} became another program, {name}: one more capture", err=True)
        return not last.over

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


def _last_of_each(sessions: Sequence[Session]) -> dict[int, Session]:
    """Return of each process the session of the program that it is now."""
    return {one.pid: one for one in sessions}


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
    leave_out: Callable[[MemError], None] | None,
) -> tuple[list[Result], list[MemError]]:
    sessions = session.open_all(pids, leave_out)
    try:
        if newcomers is not None:
            newcomers.until = time.monotonic() + seconds
        for one in sessions:
            note(capture_view.target_line(one, rates.host_bytes), err=True)
        with capture_view.CaptureProgress(sessions, seconds) as progress:

            def on_tick(gone: float) -> None:
                progress.show(gone)
                if newcomers is not None:
                    newcomers.look(sessions)
                attached.tick()

            end = session.run(
                sessions, rates, seconds, stop.asked, on_tick, leave_out=leave_out,
                may_grow=newcomers.may_come if newcomers is not None else loop.never,
            )  # fmt: skip
        for pid, one in _last_of_each(sessions).items():
            one.check_now()
            one.notes += attached.notes(pid) if one.left is None else attached.forget(pid)
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
    left_out = LeftOut()
    newcomers = _Newcomers(pids, rates, stop, attached, left_out) if children else None
    there = attached.where_needed(pids, stop.asked, left_out.among(pids))
    try:
        results, errors = _capture_sessions(
            there, seconds, rates, prefix, form,
            newcomers=newcomers, stop=stop, attached=attached,
            leave_out=left_out.among(there),
        )  # fmt: skip
    finally:
        attached.detach()
    code = finish(results, errors, form, symbolize=symbolize, family=children, takes_all=children)
    return code or left_out.code
