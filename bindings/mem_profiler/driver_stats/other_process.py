"""The record of another process: an open capture of every block.

Model: each call opens the segment of the process, does one thing, and leaves. The capture is open
(without deadline), so it continues until it is closed, or the process ends. It needs a helper only
for a log (`keeper`).
"""

from __future__ import annotations

from mem_parser.errors import MemError, NoSampler, TargetBusy, TargetError
from mem_parser.records.linereport import LineReport
from mem_profiler import attach as attaching
from mem_profiler.capture import gate
from mem_profiler.capture.session import Rates
from mem_profiler.driver_stats import keeper, record, reporting
from mem_profiler.driver_stats.record import Wanted
from mem_profiler.segment import discovery, layout, reserve
from mem_profiler.segment.file import Control, Segment

EVERY_BLOCK = Rates(1)


def is_record(control: Control, pid: int) -> bool:
    """Whether the capture that runs in a process is a record: of every block, without deadline."""
    slot = control.capture
    return (
        control.running(gate.target_now_ns(pid))
        and int(slot["rate_bytes"]) == EVERY_BLOCK.host_bytes
        and int(slot["deadline_ns"]) == layout.U64_MAX
    )


def enable(pid: int, wanted: Wanted) -> bool:
    """Begin the record of a process, or go on with another mode.

    Returns whether it was attached to for that. Raises MemError.
    """
    wanted.rates()  # refuses before anything begins
    attached = attach_where_needed(pid)
    with discovery.open_process(pid) as segment:
        gate.check_state(segment, pid)
        control = segment.control()
        runs = is_record(control, pid)
        if runs and has_log(control) is not wanted.mode.is_log:
            close(pid)
            runs = False
        if not (runs and has_log(control)):
            gate.lock(segment, pid)
        if not runs:
            gate.check_idle(segment, pid)
        if wanted.mode.is_fast:
            record.reserve_tables(segment, pid, wanted.reserve_bytes)
        if not runs and not wanted.mode.is_log:
            gate.start(segment, pid, EVERY_BLOCK.host_bytes, None, EVERY_BLOCK.device_bytes)
    if not runs and wanted.mode.is_log:
        keeper.start(pid, wanted)
    return attached


def has_log(control: Control) -> bool:
    """Whether the latest capture writes events."""
    number = control.number("capture_number")
    return number > 0 and int(control["events"]["capture"]) == number


def attach_where_needed(pid: int) -> bool:
    """Attach to a process whose sampler, if it has one, does not see its own malloc; whether that
    was so. Raises MemError.
    """
    needed = attaching.need(pid)
    if needed is attaching.Need.NOTHING:
        return False
    try:
        attaching.attach(pid, lambda: False)
    except MemError:
        if needed is attaching.Need.ALL:
            raise
        return False
    return True


def close(pid: int) -> None:
    """End the record of a process, if it has one. Raises MemError."""
    try:
        segment = discovery.open_process(pid)
    except NoSampler:
        return
    with segment:
        control = segment.control()
        if not control.running(gate.target_now_ns(pid)):
            return
        _check_record(control, pid)
        number = control.number("capture_number")
        if has_log(control) and keeper.keeps(segment):
            gate.stop(segment, pid, number)
            keeper.wait_for_end(segment, pid)
            return
        gate.lock(segment, pid)
        gate.stop(segment, pid, number)
        gate.mark_written(segment, number)


def report(pid: int) -> LineReport:
    """Memory in use, by line. Raises MemError."""
    with _open_record(pid) as segment:
        return reporting.of_segment(segment, pid)


def room_bytes(pid: int) -> int:
    """Bytes that the tables of a record have. Raises MemError."""
    with _open_record(pid) as segment:
        return reserve.reserved_bytes(segment.control())


def _open_record(pid: int) -> Segment:
    """The segment of a process that has a record. Raises MemError."""
    try:
        segment = discovery.open_process(pid)
    except NoSampler:
        raise _none(pid) from None
    try:
        control = segment.control()
        if not control.running(gate.target_now_ns(pid)):
            raise _none(pid)
        _check_record(control, pid)
    except BaseException:
        segment.close()
        raise
    return segment


def _none(pid: int) -> MemError:
    return TargetError(
        f"pid {pid} has no record of its memory", hint=f"mem_profiler driver-stats on {pid}"
    )


def _check_record(control: Control, pid: int) -> None:
    """Raises TargetBusy where another capture runs."""
    if is_record(control, pid):
        return
    rate = int(control.capture["rate_bytes"])
    what = f"one sample in {rate} bytes" if rate > 1 else "for a time"
    raise TargetBusy(
        f"pid {pid} is being captured, {what}: that is no record of every block",
        hint=f"mem_profiler stop {pid} ends that capture",
    )
