"""Captures by hand: what each half says where there is nothing to stop or to write."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fake_segment import FakeSegment, site_key
from mem_parser.errors import TargetError
from mem_parser.readers import read_profile
from mem_profiler.capture import gate, toggle
from mem_profiler.segment import discovery
from mem_profiler.segment.file import Segment

PID = os.getpid()


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A segment of this process, which every command opens."""
    fake = FakeSegment()
    fake.site(site_key(fake.stack([1, 2])), (5, 500), (2, 200))
    saved = fake.save(tmp_path)

    def open_process(_pid: int, *, writable: bool = True) -> Segment:
        return Segment.open(saved, writable=writable)

    monkeypatch.setattr(discovery, "open_process", open_process)
    return saved


def number_written(path: Path) -> int:
    with Segment.open(path, writable=False) as segment:
        return segment.control().number("written_capture")


def test_without_a_capture_there_is_nothing_to_stop_or_write(path: Path, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="No capture of pid"):
        toggle.stop(PID, str(tmp_path / "p"))
    with pytest.raises(TargetError, match="has had no capture yet"):
        toggle.snapshot(PID, str(tmp_path / "p"))
    assert not list(tmp_path.glob("*.heap"))


def test_a_snapshot_leaves_the_capture_running_and_a_stop_ends_it(
    path: Path, tmp_path: Path
) -> None:
    assert toggle.start(PID, 1) == 1
    shot = toggle.snapshot(PID, str(tmp_path / "p"))
    assert (shot.kind, shot.end, number_written(path)) == ("snapshot", "running", 0)
    stopped = toggle.stop(PID, str(tmp_path / "p"))
    assert (stopped.kind, stopped.end, number_written(path)) == ("capture", "stopped", 1)
    profiles = [read_profile(one.path) for one in (shot, stopped)]
    assert [p.capture.capture for p in profiles] == [1, 1]
    assert [p.sites.inuse_bytes.tolist() for p in profiles] == [[300], [300]]


def test_what_is_in_a_file_is_not_stopped_again_but_may_be_written_again(
    path: Path, tmp_path: Path
) -> None:
    toggle.start(PID, 1)
    toggle.stop(PID, str(tmp_path / "p"))
    with pytest.raises(TargetError, match="is in a file already"):
        toggle.stop(PID, str(tmp_path / "p"))
    assert toggle.snapshot(PID, str(tmp_path / "p")).end == "stopped"


@pytest.mark.parametrize(("stop_ns", "end"), [(0, "deadline"), (50, "stopped"), (100, "deadline")])
def test_a_capture_that_is_over_was_stopped_or_reached_its_deadline(
    tmp_path: Path, stop_ns: int, end: str
) -> None:
    fake = FakeSegment()
    fake.begin()
    slot = fake.control["capture"][1]
    slot["deadline_ns"], slot["stop_ns"] = 100, stop_ns
    with Segment.open(fake.save(tmp_path), writable=False) as segment:
        assert gate.how_it_ended(segment.control()) == end
