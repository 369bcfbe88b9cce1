"""Captures are switched on and off in the right order, by one controller at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from fake_segment import FakeSegment
from forked import forked
from mem_parser.errors import MemError, NoSampler, ProcessGone, TargetBusy, TargetUnsupported
from mem_profiler.capture import gate
from mem_profiler.segment import layout
from mem_profiler.segment.file import Segment
from mem_profiler.system import clock_time


def test_the_gate_opens_after_everything_else_is_in_place_and_shuts_once(tmp_path: Path) -> None:
    fake = FakeSegment()
    fake.control["lost"][:3] = 9
    with Segment.open(fake.save(tmp_path), writable=True) as segment:
        number = gate.start(segment, os.getpid(), 512, 8.0)
        control = segment.control()
        slot = control.capture
        assert (number, control.gate_capture, int(slot["rate_bytes"])) == (1, 1, 512)
        assert int(slot["deadline_ns"]) - int(slot["start_ns"]) == 8 * 10**9
        assert int(slot["birth_unit_ns"]) == 10**9 // 16
        assert control["lost"].sum() == 0
        gate.stop(segment, os.getpid(), number)
        first = int(segment.control().capture["stop_ns"])
        assert segment.control().gate_capture == 0
        gate.stop(segment, os.getpid(), number)
        assert int(segment.control().capture["stop_ns"]) == first
        assert gate.start(segment, os.getpid(), 1, None) == 2


@pytest.fixture
def fake() -> FakeSegment:
    return FakeSegment()


@pytest.fixture
def segment(fake: FakeSegment, tmp_path: Path) -> Iterator[Segment]:
    """A segment of this process."""
    with Segment.open(fake.save(tmp_path), writable=True) as opened:
        yield opened


# state, its text -> error and words
STATES: dict[str, tuple[int, bytes, type[MemError], str]] = {
    "shadowed": (layout.STATE_SHADOWED, b"libx.so", NoSampler, "is shadowed by libx.so"),
    "refused": (layout.STATE_REFUSED, b"a tool", TargetUnsupported, "be captured: a tool"),
    "was shadowed": (layout.STATE_EXITED, b"libx.so", NoSampler, "was shadowed by libx.so"),
    "ending": (layout.STATE_EXITED, b"", ProcessGone, "is ending"),
    "starting": (layout.STATE_STARTING, b"", TargetUnsupported, "has not finished starting"),
}


@pytest.mark.parametrize("name", STATES)
def test_a_state_in_which_nothing_can_be_captured_is_said(
    name: str, fake: FakeSegment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, text, kind, words = STATES[name]
    monkeypatch.setattr(gate, "STARTING_WAIT_S", 0.02)
    fake.control["state"], fake.control["state_text"] = state, text
    with (
        Segment.open(fake.save(tmp_path), writable=False) as segment,
        pytest.raises(kind, match=words),
    ):
        gate.check_state(segment, os.getpid())


def test_a_process_that_is_ready_can_be_captured(segment: Segment) -> None:
    assert gate.check_state(segment, os.getpid()).number("state") == layout.STATE_READY


def test_a_running_capture_of_another_names_it_and_the_ways_out(segment: Segment) -> None:
    pid = os.getpid()
    gate.check_idle(segment, pid)
    number = gate.start(segment, pid, 1024, None)
    with pytest.raises(TargetBusy, match=rf"by mem_profiler start \(pid {pid}\)") as raised:
        gate.check_idle(segment, pid)
    assert f"mem_profiler stop {pid}" in str(raised.value.hint)
    gate.stop(segment, pid, number)
    gate.check_idle(segment, pid)
    gate.start(segment, pid, 1024, 60.0)
    with pytest.raises(TargetBusy, match="which has ended"):
        gate.check_idle(segment, pid)
    segment.store(("capture", 0, "owner_pid"), 0, 32)
    with pytest.raises(TargetBusy, match="by MEM_PROFILER_START"):
        gate.check_idle(segment, pid)


def test_a_capture_whose_deadline_has_passed_is_over(segment: Segment) -> None:
    number = gate.start(segment, os.getpid(), 1024, 1e-6)
    gate.check_idle(segment, os.getpid())
    gate.stop(segment, os.getpid(), number)
    slot = segment.control().capture
    assert int(slot["stop_ns"]) == int(slot["deadline_ns"])


def test_the_second_controller_is_told_of_the_first(
    fake: FakeSegment, segment: Segment, tmp_path: Path
) -> None:
    path = tmp_path / f"mem_profiler.{os.getuid()}" / fake.identity()
    gate.lock(segment, os.getpid())
    with (
        Segment.open(path, writable=True) as second,
        pytest.raises(TargetBusy, match="is being captured by"),
    ):
        gate.lock(second, os.getpid())


def test_numbers_run_out_at_the_last_capture(segment: Segment) -> None:
    segment.store(("capture_number",), layout.CAPTURE_MAX, 32)
    with pytest.raises(TargetUnsupported, match="restart it"):
        gate.start(segment, os.getpid(), 1024, None)
    assert segment.control().number("gate") == layout.GATE_OFF


def test_every_capture_begins_its_peak_anew(segment: Segment) -> None:
    for _ in range(3):
        number = gate.start(segment, os.getpid(), 64, None)
        kept = segment.control()["peak"][number & 1]
        assert [int(kept[name]) for name in kept.dtype.names] == [number, 0, 0, 0, 0]
        for name in ("live_parts", "high_parts", "high_ns"):
            segment.store(("peak", number & 1, name), 77)
        segment.store(("peak", number & 1, "epoch"), 77, 32)
        gate.stop(segment, os.getpid(), number)


def test_a_moment_of_another_day_has_its_date() -> None:
    now = datetime.now().replace(microsecond=0)
    assert clock_time(now.timestamp()) == now.strftime("%H:%M:%S")
    before = now - timedelta(days=2)
    assert clock_time(before.timestamp()) == before.strftime("%Y-%m-%d %H:%M:%S")
    assert clock_time(2**64 / 1e9)  # what a target wrote may be any number


def test_a_lock_ends_with_the_controller_while_a_child_still_has_its_file(
    fake: FakeSegment, tmp_path: Path
) -> None:
    path = fake.save(tmp_path)
    with Segment.open(path, writable=True) as first:
        gate.lock(first, os.getpid())
        of_a_child = os.dup(first.fd)  # what a fork leaves open: the same open file
    try:
        with Segment.open(path, writable=True) as second:
            gate.lock(second, os.getpid())
    finally:
        os.close(of_a_child)


def test_a_child_that_closes_a_segment_leaves_its_parent_the_lock(segment: Segment) -> None:
    gate.lock(segment, os.getpid())
    with (
        forked(segment.close),
        Segment.open(segment.path, writable=True) as other,
        pytest.raises(TargetBusy, match="is being captured by mem_profiler"),
    ):
        gate.lock(other, os.getpid())
