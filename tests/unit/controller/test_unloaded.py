"""Which program a process is: the segment's own, or one that a wrapper became."""

from __future__ import annotations

from pathlib import Path

import pytest

from fake_segment import FakeSegment
from mem_parser.model import Memory
from mem_parser.unseen import WITHOUT_FILE
from mem_profiler.capture.recording import Recording
from mem_profiler.capture.unloaded import Follower, Strays, Unloaded
from mem_profiler.process import procfs
from mem_profiler.segment import layout
from mem_profiler.segment.file import Control, Segment

PROG, OTHER = "/usr/bin/prog", "/bin/cat"


@pytest.fixture
def control(tmp_path: Path) -> Control:
    """The page of a segment of /usr/bin/prog, whose process is called prog."""
    with Segment.open(FakeSegment().save(tmp_path), writable=False) as segment:
        return segment.control()


@pytest.fixture
def follower(monkeypatch: pytest.MonkeyPatch) -> Follower:
    """Follows a process that no longer maps a segment."""
    monkeypatch.setattr(procfs, "raw_maps", lambda _pid: b"")
    monkeypatch.setattr(procfs, "environment", lambda _pid: {"A": "b"})
    monkeypatch.setattr(procfs, "comm", lambda _pid: "prog")
    monkeypatch.setattr(procfs, "exe", lambda _pid: PROG)
    return Follower(1, PROG, ["prog"])


def test_a_segment_that_was_found_after_a_look_is_the_programs(
    follower: Follower, control: Control
) -> None:
    follower.look(None)
    follower.end()
    assert follower.unloaded(control, 0) is None


def test_a_program_without_a_segment_is_the_one_that_was_seen(follower: Follower) -> None:
    follower.look(None)
    seen = follower.unloaded(None, 0)
    assert seen is not None
    assert (seen.path, seen.environment) == (PROG, {"A": "b"})
    assert Follower(1, PROG, ["prog"]).unloaded(None, 0) == Unloaded(PROG)


def test_what_a_wrapper_became_is_seen_while_it_runs(
    follower: Follower, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(procfs, "exe", lambda _pid: OTHER)
    follower.look(control)
    found = follower.unloaded(control, 0)
    assert found is not None
    assert found.path == OTHER
    assert follower.unloaded(control, 1 << 62) is None  # a later image has the sampler


def test_another_path_of_what_maps_the_sampler_is_no_other_program(
    follower: Follower, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(procfs, "exe", lambda _pid: "/elsewhere/prog")
    monkeypatch.setattr(
        procfs, "raw_maps", lambda _pid: b"7f00-7f01 r-xp 0 0:0 1 /libmem_sampler.so"
    )
    follower.look(control)
    follower.end()
    assert follower.unloaded(control, 0) is None


@pytest.mark.parametrize(("name", "path"), [("cat", "cat"), ("no-such-program", None), ("", None)])
def test_of_a_short_program_the_name_counts_if_a_program_has_it(
    follower: Follower,
    control: Control,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    path: str | None,
) -> None:
    monkeypatch.setattr(procfs, "comm", lambda _pid: name)
    follower.end()
    found = follower.unloaded(control, 0)
    assert (found and Path(found.path).name) == path


@pytest.mark.parametrize(("at_exit", "said"), [(0, True), (40, True), (150, False), (195, False)])
def test_a_large_child_that_no_file_explains_is_said(
    at_exit: int, *, said: bool, tmp_path: Path
) -> None:
    fake, shadowed = FakeSegment(), FakeSegment()
    for one, mib in ((fake, at_exit), (shadowed, 200)):
        one.begin()
        one.control["exited_ns"] = one.control["capture"][1]["start_ns"] if mib else 0
        for name, share in (("high", 1), ("anon", 2), ("file", 4), ("shmem", 8)):
            one.control["at_exit"][f"{name}_bytes"] = (mib << 20) // share
    shadowed.control["state"] = layout.STATE_SHADOWED
    shadowed.control["state_text"] = shadowed.control["exe"]
    with Segment.open(fake.save(tmp_path), writable=False) as segment:
        recording = Recording(segment, 0)
        strays = Strays(1, tree_bytes=200 << 20)
        strays.judge(recording, [recording])
        assert (recording.target.memory.tree_peak_rss_bytes is not None) == said
        assert [WITHOUT_FILE in note for note in strays.notes] == [True] * said
        recording.target.memory = Memory()
        (tmp_path / "behind").mkdir()
        with Segment.open(shadowed.save(tmp_path / "behind"), writable=False) as behind:
            strays.judge(recording, [recording, Recording(behind, 0)])
        named = "; it may be prog, which ended without a capture"
        # One that is known to be in no file may be any that is larger than the files tell.
        assert [note.endswith(named) for note in strays.notes] == [True] * (at_exit < 195)
        recording.recorder.tick(recording.now_ns(), final=True)
        read = recording.recorder.readings.host.series[-1].anon_bytes
        assert read == ((at_exit << 19) or None)
