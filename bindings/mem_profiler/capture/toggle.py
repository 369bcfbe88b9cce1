"""Manual captures: start, stop and snapshot of one running process.

Model: `start` leaves the capture running and the lock free, or held by a helper that writes its
events (`logkeeper`). `stop` ends the running capture and writes it. `snapshot` only reads, so it
works during another controller's capture and after a stop.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from mem_parser.errors import MemError, NoSampler, TargetError
from mem_parser.heapfile.form import Form
from mem_profiler.capture import gate, logkeeper
from mem_profiler.capture.loop import PAUSE_MIN_S
from mem_profiler.capture.recording import Recording
from mem_profiler.process import mounts, procfs
from mem_profiler.segment import discovery
from mem_profiler.segment.file import Segment

if TYPE_CHECKING:
    from mem_profiler.capture.saving import Result

LEFT_BEHIND_S = 5.0


def _starts(pid: int) -> str:
    return f"mem_profiler start {pid} starts one"


def start(
    pid: int, rate_bytes: int, device_rate_bytes: int = 1, depth_limit: int | None = None
) -> int:
    """Start an open-ended capture; returns its number. Raises MemError."""
    with discovery.open_process(pid) as segment:
        gate.check_state(segment, pid)
        gate.lock(segment, pid)
        gate.check_idle(segment, pid)
        return gate.start(
            segment, pid, rate_bytes, None, device_rate_bytes, depth_limit=depth_limit
        )


def ends_with_container(pid: int) -> bool:
    """Whether the segment of a process is lost with the container that it is in."""
    try:
        with discovery.open_process(pid, writable=False) as segment:
            return mounts.ends_with_namespace(pid, os.fstat(segment.fd).st_dev)
    except MemError:
        return False


def _write(
    segment: Segment,
    pid: int,
    prefix: str,
    form: Form,
    *,
    kind: str,
    end: str,
    with_events: bool = True,
    resident: bool = False,
) -> Result:
    recording = Recording(segment, pid)
    recording.resident = resident
    recording.target.refresh()
    return recording.finish(prefix, pid, kind, end, form=form, with_events=with_events)


def stop(pid: int, prefix: str, form: Form = Form.AUTO, *, resident: bool = False) -> Result:
    """End the capture of a process and write its file, or that of the capture which it was detached
    from; `resident` as in `Recording`. Raises MemError.
    """
    try:
        opened = discovery.open_process(pid)
    except NoSampler:
        from mem_profiler.capture import recover

        left = recover.save_left(pid, prefix, form)
        if left is None:
            raise
        return left
    with opened as segment:
        control = segment.control()
        running = control.running(gate.target_now_ns(pid))
        alone = logkeeper.state(segment, control, gate.target_now_ns(pid)) == logkeeper.LOG_ENDED
        log = logkeeper.end(segment, pid)
        lock(segment, pid)
        control = segment.control()
        number = control.latest_capture
        if number == 0:
            raise TargetError(f"No capture of pid {pid} is running.", hint=_starts(pid))
        if not running and control.number("written_capture") == number:
            raise TargetError(
                f"capture {number} of pid {pid} has ended and is in a file already",
                hint=f"mem_profiler snapshot {pid} writes it once more",
            )
        gate.stop(segment, pid, number)
        end = "stopped" if running else gate.how_it_ended(segment.control())
        whole = log is not None and not log.problem
        result = _write(
            segment, pid, prefix, form,
            kind="capture", end=end, with_events=not whole, resident=resident,
        )  # fmt: skip
        gate.mark_written(segment, number)
        if log is not None:
            result.log = log.joined(result.log)
        elif alone:
            result.notes.append(logkeeper.ENDED_NOTE)
        return result


def lock(segment: Segment, pid: int) -> None:
    """Become the controller; children of a killed one hold the lock for a moment longer. Raises
    TargetBusy.
    """
    give_up = time.monotonic() + LEFT_BEHIND_S
    while not segment.try_lock():
        holder = segment.lock_holder()
        if (holder is not None and not procfs.is_gone(holder)) or time.monotonic() > give_up:
            break
        time.sleep(PAUSE_MIN_S)
    gate.lock(segment, pid)


def snapshot(pid: int, prefix: str, form: Form = Form.AUTO, *, resident: bool = False) -> Result:
    """Save the present state of a process's latest capture; `resident` as in `Recording`. Raises
    MemError.
    """
    with discovery.open_process(pid) as segment:
        control = segment.control()
        number = control.latest_capture
        if number == 0:
            raise TargetError(f"pid {pid} has had no capture yet", hint=_starts(pid))
        running = control.running(gate.target_now_ns(pid))
        end = "running" if running else gate.how_it_ended(control)
        # The lock's holder may be writing a log of the events; a saved capture had its log.
        alone = control.number("written_capture") != number and segment.try_lock()
        result = _write(
            segment, pid, prefix, form,
            kind="snapshot", end=end, with_events=alone, resident=resident,
        )  # fmt: skip
        if not running:
            gate.mark_written(segment, number)
        return result
