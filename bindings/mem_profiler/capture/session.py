"""Capture running processes for some time, and write one file for each.

Model: a `Session` is one process from the opening of its segment to the writing of its file. All
sessions of one command run in one loop (`loop`), which ends at the deadline, on request, or when
no process is left. A process that dies leaves its segment: the file has all samples up to then.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mem_parser.errors import MemError, ProcessGone
from mem_parser.heapfile.form import Form
from mem_profiler import system
from mem_profiler.capture import gate, guardrail, loop
from mem_profiler.capture.output import Where
from mem_profiler.capture.recorder import Pace
from mem_profiler.capture.recording import Recording
from mem_profiler.process.death import Watch
from mem_profiler.segment import discovery, layout, leftovers, presence
from mem_profiler.segment.file import Segment

if TYPE_CHECKING:
    from mem_profiler.capture.saving import Result
    from mem_profiler.events.collector import Log
    from mem_profiler.events.logs import Logging

ALIVE_CHECK_S = 1.0
TOO_LARGE_NOTE = (
    f"mem_profiler reached the limit of its own memory ({guardrail.VARIABLE}) and ended the capture"
)
EXEC_NOTE = "the process started another program (exec); the file has all samples from before"


@dataclass(frozen=True)
class Rates:
    """Bytes per sample of host and device memory; 1: every block. `depth_limit` is the frames of a
    stack, None: the process's setting. `logging`: events go to a log. `resident` as in `Recording`.
    """

    host_bytes: int
    device_bytes: int = 1
    depth_limit: int | None = None
    logging: Logging | None = None
    resident: bool = False


class Session:
    """One process under capture. `ended` says how the capture ended, once it has; `left`: why a
    living process no longer has the segment.
    """

    def __init__(
        self,
        pid: int,
        pace: Pace = Pace(),  # noqa: B008 - frozen
        *,
        continues: bool = False,
    ) -> None:
        """Open and lock the segment of a process; changes nothing in it yet. ``continues``: of one
        forked in a capture, which goes on there, that is taken over. Raises MemError.
        """
        self.pid = pid
        self.segment: Segment = discovery.open_process(pid)
        try:
            gate.check_state(self.segment, pid)
            gate.lock(self.segment, pid)
            self.control = self.segment.control()
            self._inherited = continues and gate.is_inherited(self.control, pid)
            if not self._inherited:
                gate.check_idle(self.segment, pid)
            self.recording = Recording(self.segment, pid, pace)
            self.watch = Watch(pid)
        except BaseException:
            self.segment.close()
            raise
        self.number = 0
        self.ended: str | None = None
        self.left: presence.Left | None = None
        self.notes: list[str] = []
        self._unwanted = False
        self._next_check = 0.0

    @property
    def over(self) -> bool:
        """Whether the process or its capture has ended."""
        return self.ended is not None

    def due_in(self) -> float:
        """Seconds until the next reading is due."""
        return self.recording.due_in()

    def start(self, rates: Rates, seconds: float | None) -> None:
        """Start the capture. Raises MemError."""
        logging, self.recording.resident = rates.logging, rates.resident
        if self._inherited:
            self.number = gate.take_over(self.segment, self.pid, seconds)
            return
        if logging is not None:
            self.recording.begin_log(self._next_number(), self.pid, logging)
        self.number = gate.start(
            self.segment,
            self.pid,
            rates.host_bytes,
            seconds,
            rates.device_bytes,
            depth_limit=rates.depth_limit,
            events_bytes=logging.ring_bytes if logging is not None else 0,
            launches=logging.launches if logging is not None else (),
        )

    def _next_number(self) -> int:
        return self.segment.load(("capture_number",), 32) + 1

    def check_now(self) -> None:
        """Check whether the process still has the segment, which `tick` does now and then."""
        self._next_check = 0.0
        if self.ended is None:
            self._check_target()

    def tick(self) -> None:
        """Check whether the process has ended, and take a reading when one is due."""
        if self.ended is None:
            self._check_target()
        if self.ended is not None:
            return
        try:
            self.recording.tick()
        except (MemError, MemoryError, OSError) as error:
            # Only this session ends: the others continue.
            self.ended = "unknown"
            self.notes.append(f"the capture ended early: {error or 'out of memory'}")
            return
        if self.recording.recorder.too_large:
            self._close_capture()
            self.ended = "stopped"
            self.notes.append(TOO_LARGE_NOTE)

    def _check_target(self) -> None:
        if self.watch.ended():
            self._close_capture()
            self.ended = self.watch.how()
            self.recording.target.gone()
            return
        if time.monotonic() < self._next_check:
            return
        self._next_check = time.monotonic() + ALIVE_CHECK_S
        control = self.segment.control()
        if control.number("state") == layout.STATE_REFUSED:
            self._close_capture()
            self.ended = "stopped"
            self.notes.append(f"the capture ended early: {control.text('state_text')}")
            return
        self.left = presence.left(self.pid, control)
        if self.left is not None:
            self._close_capture()
            self.ended = "target ended"
            self.notes.append(EXEC_NOTE)
            self.recording.target.gone()

    def _close_capture(self) -> None:
        try:
            gate.stop(self.segment, self.pid, self.number)
        except ProcessGone as error:
            self.notes.append(str(error))

    def stop(self) -> None:
        """End the capture, if the target still lives; `finish` writes its file."""
        if self.ended is None:
            self._check_target()
        if self.ended is None:
            self._close_capture()

    def finish(self, prefix: Where, end: str, form: Form = Form.AUTO) -> Result:
        """End the capture and write its file.

        `end` is the reason if the target still lives. Raises MemError.
        """
        self.stop()
        if self.ended is None:
            self.recording.target.refresh()
        why = self.ended or end
        result = self.recording.finish(
            prefix, self.pid, "capture", why, notes=self.notes, form=form
        )
        gate.mark_written(self.segment, self.number)
        self._unwanted = self.ended is not None
        return result

    def discard(self) -> Log | None:
        """End the capture without a file, and close: its data is not wanted. Returns the outcome of
        its log.
        """
        try:
            if self.number:
                self.stop()
                log = self.recording.end_log(self.ended or "stopped")
                gate.mark_written(self.segment, self.number)
                self._unwanted = self.ended is not None
                return log
        finally:
            self.close()
        return None

    def leave(self, how: str) -> Log | None:
        """End the log and close; the capture continues, and others write its file. Returns the
        outcome of the log.
        """
        try:
            return self.recording.end_log(how)
        finally:
            self.close()

    def abandon(self) -> None:
        """Abandon the capture before any file: restore the target."""
        if self.number and self.ended is None:
            self._close_capture()
        self.close()

    def close(self) -> None:
        """Close the segment and release its lock; remove it if its process has ended and nobody
        needs it.
        """
        self.recording.close()
        self.watch.close()
        inode = os.fstat(self.segment.fd).st_ino if self._unwanted else 0
        self.segment.close()
        if self._unwanted:
            self._unwanted = False
            _remove_dead(inode)


def _remove_dead(inode: int) -> None:
    """Remove a segment that no process, this one included, has mapped."""
    for found in leftovers.in_folders():
        if not found.alive and found.inode == inode:
            leftovers.remove(found)


def open_all(pids: list[int], leave_out: Callable[[MemError], None] | None = None) -> list[Session]:
    """Sessions for all processes, or an error: checks every one before any starts.

    `leave_out` gets the error of each process that cannot be captured, and the others continue, if
    there are any. Raises MemError.
    """
    system.allow_descriptors()
    sessions: list[Session] = []
    failed: list[MemError] = []
    try:
        for pid in pids:
            try:
                sessions.append(Session(pid))
            except MemError as error:
                if leave_out is None:
                    raise
                failed.append(error)
        if failed and not sessions:
            raise failed[0]
        if leave_out is not None:
            for one in failed:
                leave_out(one)
    except BaseException:
        for session in sessions:
            session.close()
        raise
    return sessions


def run(
    sessions: list[Session],
    rates: Rates,
    seconds: float,
    asked_to_end: Callable[[], bool],
    on_tick: Callable[[float], None],
    *,
    leave_out: Callable[[MemError], None] | None = None,
    may_grow: Callable[[], bool] = loop.never,
) -> str:
    """Capture until the deadline, until a request to end, or until no process is left and
    `on_tick` adds no more (`may_grow`).

    `on_tick` gets the elapsed seconds. `leave_out` gets the error of each session that cannot
    start, which is removed from `sessions` if others are left. Returns the `end` of the sessions
    whose process lives. Raises MemError.
    """
    for session in list(sessions):
        try:
            session.start(rates, seconds)
        except MemError as error:
            if leave_out is None or len(sessions) == 1:
                raise
            leave_out(error)
            sessions.remove(session)
            session.abandon()
    return loop.follow(
        sessions,
        wait=lambda pause_s: _wait(sessions, pause_s),
        on_tick=on_tick,
        seconds=seconds,
        asked_to_end=asked_to_end,
        may_grow=may_grow,
    )


def _wait(sessions: list[Session], seconds: float) -> None:
    """Wait for some time, or for the end of the only process."""
    living = [session for session in sessions if session.ended is None]
    if len(living) == 1:
        living[0].watch.ended(seconds)
    else:
        time.sleep(seconds)


def write_all(
    sessions: list[Session], prefix: Where, end: str, form: Form = Form.AUTO
) -> tuple[list[Result], list[MemError]]:
    """Write a file for every session.

    A failure does not stop the others.
    """
    results: list[Result] = []
    errors: list[MemError] = []
    for session in sessions:
        try:
            results.append(session.finish(prefix, end, form))
        except MemError as error:
            errors.append(error)
        finally:
            session.close()
    return results, errors
