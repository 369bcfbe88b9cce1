"""A capture that is followed: its listeners, its file, and what is no peak."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fake_segment import FakeSegment, site_key
from mem_parser.readers import read_profile
from mem_profiler.capture.recorder import Pace
from mem_profiler.capture.recording import Recording
from mem_profiler.process import cgroup, procfs
from mem_profiler.segment.file import Segment


@pytest.fixture
def segment(tmp_path: Path) -> Segment:
    fake = FakeSegment()
    fake.begin(rate=1)
    fake.site(site_key(fake.stack([1, 2])), (3, 300), (1, 100))
    return Segment.open(fake.save(tmp_path), writable=True)


def test_listeners_hear_of_each_reading_and_of_nothing_else(segment: Segment) -> None:
    heard: list[float] = []

    def listen(recording: Recording) -> None:
        latest = recording.recorder.latest
        assert latest is not None
        heard.append(latest.estimate_bytes)

    with segment:
        recording = Recording(segment, 0, Pace(tick_s=3600.0))
        recording.listeners.append(listen)
        recording.tick()
        assert recording.due_in() > 3000
        recording.tick()
    assert heard == [200.0]


def test_its_file_has_what_the_segment_has(segment: Segment, tmp_path: Path) -> None:
    with segment:
        recording = Recording(segment, 0)
        result = recording.finish(
            str(tmp_path / "x"), os.getpid(), "snapshot", "running", notes=["one"]
        )
    profile = read_profile(result.path)
    assert (profile.capture.kind, profile.capture.end) == ("snapshot", "running")
    assert profile.capture.notes == result.notes == ["one"]
    assert profile.sites.inuse_bytes.tolist() == [200]


def test_each_reading_tells_the_kinds_of_memory(
    segment: Segment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroup, "use", lambda _pid: cgroup.Use(64 << 20, 20 << 20))
    pid = os.getpid()
    if not procfs.kinds(pid)["anon_bytes"]:
        pytest.skip("before Linux 4.5")
    with segment:
        recording = Recording(segment, pid)
        result = recording.finish(str(tmp_path / "x"), pid, "snapshot", "running")
    profile = read_profile(result.path)
    told, read = profile.capture.memory, profile.series[-1]
    assert told.rss_bytes and told.anon_bytes and told.file_bytes and told.shmem_bytes is not None
    assert (read.group_bytes, told.group_bytes) == (20 << 20, 20 << 20)
    assert told.limit_bytes == 64 << 20
    assert told.rss_bytes == told.anon_bytes + told.file_bytes + told.shmem_bytes
    assert (read.rss_bytes, read.anon_bytes) == (told.rss_bytes, told.anon_bytes)
    assert (read.file_bytes, read.shmem_bytes) == (told.file_bytes, told.shmem_bytes)
