"""Switch captures on and off in a segment, one controller at a time.

Model: a capture is a number, a slot with its parameters, and the gate that makes it visible to the
target's threads. The controller writes the slot before the gate, with release order. The deadline
is in the slot, so the target stops by itself when no controller is left to shut the gate.

Times are CLOCK_MONOTONIC in nanoseconds as the target sees it: add its `clock_offset_ns`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection

from mem_parser.errors import MemError, NoSampler, ProcessGone, TargetBusy, TargetUnsupported
from mem_profiler.process import procfs
from mem_profiler.segment import births, devices, discovery, layout, reserve, usable
from mem_profiler.segment.file import Control, Segment
from mem_profiler.system import clock_time

STARTING_WAIT_S = 2.0


def target_now_ns(pid: int) -> int:
    """CLOCK_MONOTONIC as a process sees it."""
    return time.monotonic_ns() + procfs.clock_offset_ns(pid)


def runs(pid: int) -> bool:
    """Whether a capture of a process goes on."""
    try:
        with discovery.open_process(pid, writable=False) as segment:
            return segment.control().running(target_now_ns(pid))
    except MemError:
        return False


def check_state(segment: Segment, pid: int) -> Control:
    """The control page of a process in which capture can be started.

    Waits while the constructor still runs. Raises NoSampler, TargetUnsupported, ProcessGone.
    """
    give_up = time.monotonic() + STARTING_WAIT_S
    control = segment.control()
    while control.number("state") == layout.STATE_STARTING and time.monotonic() < give_up:
        time.sleep(0.005)
        control = segment.control()
    state = control.number("state")
    why = control.text("state_text")
    obstacle = usable.obstacle(control, pid)
    if obstacle is not None:
        kind = TargetUnsupported if state == layout.STATE_REFUSED else NoSampler
        raise kind(f"pid {pid}: {obstacle.text}", hint=obstacle.cure or None)
    if state == layout.STATE_EXITED and why and control.number("capture_number") == 0:
        raise NoSampler(
            f"pid {pid}: the sampler was shadowed by {why}, which got the calls of malloc first"
        )
    if state == layout.STATE_EXITED:
        raise ProcessGone(f"pid {pid} is ending")
    if state != layout.STATE_READY:
        raise TargetUnsupported(f"the sampler in pid {pid} has not finished starting")
    return control


def lock(segment: Segment, pid: int) -> None:
    """Become the controller of a segment. Raises TargetBusy with its holder and its start."""
    if segment.try_lock():
        return
    raise _held(segment, pid)


def _held(segment: Segment, pid: int) -> TargetBusy:
    holder = segment.lock_holder()
    who = f"mem_profiler (pid {holder})" if holder else "another mem_profiler"
    control = segment.control()
    start = int(control.capture["start_realtime_ns"])
    when = f" since {clock_time(start / 1e9)}" if control.gate_capture else ""
    return TargetBusy(
        f"pid {pid} is being captured by {who}{when}",
        hint=f"mem_profiler snapshot {pid} writes what it has so far",
    )


def check_idle(segment: Segment, pid: int) -> None:
    """Raise TargetBusy if another controller is capturing in the segment."""
    control = segment.control()
    if not control.running(target_now_ns(pid)):
        return
    slot = control.capture
    owner = int(slot["owner_pid"])
    who = f"mem_profiler start (pid {owner})" if owner else "MEM_PROFILER_START"
    if owner and int(slot["deadline_ns"]) != layout.U64_MAX:
        who = f"mem_profiler -s (pid {owner}), which has ended,"
    began = clock_time(int(slot["start_realtime_ns"]) / 1e9)
    raise TargetBusy(
        f"pid {pid} already has a capture, by {who} since {began}",
        hint=usable.captured_hint(pid),
    )


def check_free(segment: Segment, pid: int) -> None:
    """Raise TargetBusy if another controller has the segment; changes nothing in it."""
    if not segment.try_lock():
        raise _held(segment, pid)
    check_idle(segment, pid)


def update_flags(segment: Segment, pid: int) -> None:
    """Tell the sampler whether the process has a seccomp filter."""
    facts = procfs.status(pid)
    if facts is None:
        return
    flags = segment.load(("controller_flags",), 32)
    wanted = flags | layout.FLAG_SECCOMP if facts.seccomp else flags
    if wanted != flags:
        segment.store(("controller_flags",), wanted, 32)


def start(
    segment: Segment,
    pid: int,
    rate_bytes: int,
    seconds: float | None,
    device_rate_bytes: int = 1,
    *,
    depth_limit: int | None = None,
    events_bytes: int = 0,
    launches: Collection[str] = (),
) -> int:
    """Start the next capture and return its number. The caller holds the lock and checked the
    state.

    `device_rate_bytes` is the rate of device memory, 1: every block. `seconds` None: no deadline.
    `depth_limit` None: that of the process, which its environment may name. `events_bytes`: of the
    rings of events; 0: the capture writes none. `launches`: which launches they include. Raises
    TargetError if the segment has no space.
    """
    number = segment.load(("capture_number",), 32) + 1
    if number > layout.CAPTURE_MAX:
        raise TargetUnsupported(f"pid {pid} has had {layout.CAPTURE_MAX} captures; restart it")
    reserve.first_pieces(segment)
    update_flags(segment, pid)
    for cause in range(len(segment.control()["lost"])):
        segment.store(("lost", cause), 0)
        segment.store(("device_lost", cause), 0)
    now = target_now_ns(pid)
    segment.store(("events", "capture"), 0, 32)
    wants = sum(layout.LAUNCH_WANTS[name] for name in launches)
    segment.store(("events", "launches"), wants, 32)
    if events_bytes:
        reserve.rings(segment, number, events_bytes)
    slot: tuple[str | int, ...] = ("capture", number & 1)
    segment.store((*slot, "number"), number, 32)
    segment.store((*slot, "owner_pid"), os.getpid(), 32)
    segment.store((*slot, "rate_bytes"), rate_bytes)
    segment.store(("device_rate_bytes", number & 1), device_rate_bytes)
    segment.store(("capture_depth_limit",), depth_limit or 0, 32)
    segment.store(("marks_before", number & 1), segment.load(("mark_count",)))
    peak: tuple[str | int, ...] = ("peak", number & 1)
    segment.store((*peak, "capture"), 0, 32)
    segment.store((*peak, "epoch"), 0, 32)
    for name in ("live_parts", "high_parts", "high_ns"):
        segment.store((*peak, name), 0)
    segment.store((*peak, "capture"), number, 32)
    devices.begin_peaks(segment, number)
    segment.store((*slot, "start_ns"), now)
    deadline = layout.U64_MAX if seconds is None else now + int(seconds * 1e9)
    segment.store((*slot, "deadline_ns"), deadline)
    segment.store((*slot, "stop_ns"), 0)
    segment.store((*slot, "start_realtime_ns"), time.time_ns())
    segment.store((*slot, "birth_unit_ns"), births.unit_ns(seconds))
    resident = procfs.resident(pid)
    segment.store((*slot, "start_anon_bytes"), resident.anon_bytes if resident else 0)
    segment.store(("capture_number",), number, 32)
    segment.store(("gate",), number << layout.GATE_SHIFT)
    return number


def is_inherited(control: Control, pid: int) -> bool:
    """Whether a capture goes on that a child forked in its parent's has continued by itself."""
    begun = control.number("parent_pid") and not int(control.capture["owner_pid"])
    return bool(begun) and control.running(target_now_ns(pid))


def take_over(segment: Segment, pid: int, seconds: float | None) -> int:
    """End such a capture in some seconds, None: not by itself; returns its number."""
    number = segment.load(("capture_number",), 32)
    slot: tuple[str | int, ...] = ("capture", number & 1)
    deadline = layout.U64_MAX if seconds is None else target_now_ns(pid) + int(seconds * 1e9)
    segment.store((*slot, "owner_pid"), os.getpid(), 32)
    segment.store((*slot, "deadline_ns"), deadline)
    return number


def stop(segment: Segment, pid: int, number: int) -> None:
    """Shut the gate of capture `number` if it is still open, and note when it ended."""
    open_gate = number << layout.GATE_SHIFT
    segment.swap(("gate",), open_gate, layout.GATE_OFF)
    slot: tuple[str | int, ...] = ("capture", number & 1)
    end = min(target_now_ns(pid), segment.load((*slot, "deadline_ns")))
    segment.swap((*slot, "stop_ns"), 0, end)


def how_it_ended(control: Control) -> str:
    """The `end` of a finished capture in a living process."""
    slot = control.capture
    stop_ns = int(slot["stop_ns"])
    return "stopped" if 0 < stop_ns < int(slot["deadline_ns"]) else "deadline"


def mark_written(segment: Segment, number: int) -> None:
    """Record in the segment that capture `number` has been saved."""
    segment.store(("written_capture",), number, 32)
