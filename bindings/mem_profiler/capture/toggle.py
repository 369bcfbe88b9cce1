"""Captures by hand: start, stop and snapshot of one running process.

Model: `start` leaves the capture running and the lock free, `stop` ends the running capture and
writes it, `snapshot` only reads, so it works beside another controller and after a stop too.
"""

from __future__ import annotations

from mem_parser.errors import TargetError
from mem_parser.heapfile.form import Form
from mem_profiler.capture import gate
from mem_profiler.capture.recording import Recording
from mem_profiler.capture.saving import Result
from mem_profiler.segment import discovery
from mem_profiler.segment.file import Control, Segment


def how_it_ended(control: Control) -> str:
    """The `end` of a capture that is over in a process that lives."""
    slot = control.capture
    stop = int(slot["stop_ns"])
    return "stopped" if 0 < stop < int(slot["deadline_ns"]) else "deadline"


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


def _write(segment: Segment, pid: int, prefix: str, form: Form, *, kind: str, end: str) -> Result:
    recording = Recording(segment, pid)
    recording.target.refresh()
    return recording.finish(prefix, pid, kind, end, form=form)


def stop(pid: int, prefix: str, form: Form = Form.AUTO) -> Result:
    """End the capture of a process and write its file. Raises MemError."""
    with discovery.open_process(pid) as segment:
        gate.lock(segment, pid)
        control = segment.control()
        number = control.number("capture_number")
        running = control.running(gate.target_now_ns(pid))
        if number == 0:
            raise TargetError(f"no capture of pid {pid} runs", hint=f"mem_profiler start {pid}")
        if not running and control.number("written_capture") == number:
            raise TargetError(
                f"capture {number} of pid {pid} has ended and is in a file already",
                hint=f"mem_profiler snapshot {pid} writes it once more",
            )
        gate.stop(segment, pid, number)
        end = "stopped" if running else how_it_ended(segment.control())
        result = _write(segment, pid, prefix, form, kind="capture", end=end)
        gate.mark_written(segment, number)
        return result


def snapshot(pid: int, prefix: str, form: Form = Form.AUTO) -> Result:
    """Write what the latest capture of a process has so far. Raises MemError."""
    with discovery.open_process(pid) as segment:
        control = segment.control()
        number = control.number("capture_number")
        if number == 0:
            raise TargetError(f"pid {pid} has had no capture yet", hint=f"mem_profiler start {pid}")
        running = control.running(gate.target_now_ns(pid))
        end = "running" if running else how_it_ended(control)
        result = _write(segment, pid, prefix, form, kind="snapshot", end=end)
        if not running:
            gate.mark_written(segment, number)
        return result
