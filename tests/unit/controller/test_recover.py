"""What dead processes left: written once, whoever else's segment fails, or removed."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from controller_tools import run_command
from fake_segment import FakeSegment, site_key
from mem_parser.errors import InputFileError, NotAProfile, TargetBusy, TargetError
from mem_parser.readers import read_profile
from mem_profiler.capture import recover
from mem_profiler.process import procfs
from mem_profiler.segment import layout
from mem_profiler.segment.file import Segment

GONE = 2**22 - 3  # above what this machine gives to processes


def dead(
    base: Path,
    pid: int = GONE,
    *,
    captured: bool = True,
    program: bytes = b"",
    began_s: int = 0,
    samples: int = 5,
) -> Path:
    """The segment that a dead process left; ``program``: in a container, where it began then."""
    fake = FakeSegment()
    if program:
        fake.control["pidns_inode"] += 1
        for field in ("comm", "exe", "command"):
            fake.control[field] = program
    fake.control["pid"], fake.control["start_ticks"] = pid, 1
    if captured:
        fake.begin(rate=1)
        if samples:
            fake.site(site_key(fake.stack([1, 2])), (samples, 500), (2, 200))
        fake.control["capture"]["start_realtime_ns"] = began_s * 10**9
    path = fake.save(base)
    os.utime(path, (0, 0))
    return path


def test_each_dead_capture_becomes_a_file_and_its_segment_goes(segment_dir: Path) -> None:
    segments = [dead(segment_dir, GONE - k) for k in range(3)]
    results, errors = recover.recover_all(str(segment_dir / "r"))
    assert errors == []
    assert {result.pid for result in results} == {GONE, GONE - 1, GONE - 2}
    for result in results:
        profile = read_profile(result.path)
        assert profile.capture.kind == "recovered"
        assert profile.sites.inuse_bytes.tolist() == [300]
    assert not any(path.exists() for path in segments)
    assert recover.recover_all(str(segment_dir / "r")) == ([], [])


def test_of_processes_without_samples_files_are_written_only_when_asked_for(
    segment_dir: Path, tmp_path: Path
) -> None:
    def left() -> None:
        for pid in (GONE, GONE - 1):
            dead(segment_dir, pid)
        for pid in (GONE - 2, GONE - 3):
            dead(segment_dir, pid, samples=0)

    left()
    done = run_command("recover", "--all", "-o", tmp_path / "a")
    table, _, then = done.stdout.partition("next:\n")
    first, head, *rows = table.splitlines()
    assert first == "2 profiles without a sample: no file, which --empty would write"
    assert head.split() == [
        "PID", "PROGRAM", "LAST", "SEEN", "SAMPLES", "LOST", "≈IN", "USE", "FILE",
    ]  # fmt: skip
    files = [str(tmp_path / f"a.{pid}.1.heap") for pid in (GONE, GONE - 1)]
    assert sorted(row.split()[-1] for row in rows) == sorted(files)
    [row] = [row.split() for row in rows if row.endswith(files[0])]
    assert (row[:2], row[-5:-1]) == ([str(GONE), "prog"], ["5", "0", "300", "B"])
    assert any(path in then for path in files)
    assert {str(path) for path in tmp_path.iterdir()} == set(files)
    assert not any((segment_dir / f"mem_profiler.{os.getuid()}").glob("*-*-*"))
    left()
    assert run_command("recover", "--all", "--empty", "-o", tmp_path / "b").returncode == 0
    assert len(list(tmp_path.glob("b.*.heap"))) == 4


def test_a_segment_that_somebody_writes_costs_the_others_nothing(segment_dir: Path) -> None:
    held, free = dead(segment_dir), dead(segment_dir, GONE - 1)
    with Segment.open(held, writable=False) as segment:
        assert segment.try_lock()
        results, [error] = recover.recover_all(str(segment_dir / "r"))
    assert isinstance(error, TargetBusy)
    assert [result.pid for result in results] == [GONE - 1]
    assert held.exists() and not free.exists()


def test_a_pid_that_left_nothing_and_one_that_runs_are_told_apart(segment_dir: Path) -> None:
    prefix = str(segment_dir / "r")
    nothing = rf"{GONE} \(it has ended\) left nothing to recover in {segment_dir}"
    with pytest.raises(TargetError, match=nothing) as raised:
        recover.recover_pid(GONE, prefix)
    assert "MEM_PROFILER_DIR=FOLDER" in str(raised.value.hint)
    dead(segment_dir, captured=False)
    with pytest.raises(TargetError, match="left nothing to recover"):
        recover.recover_pid(GONE, prefix)
    fake = FakeSegment()
    fake.begin()
    fake.save(segment_dir)
    alive = "mem_profiler.segment.leftovers._is_alive"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alive, lambda *_: True)
        with pytest.raises(TargetError, match="is running"):
            recover.recover_pid(os.getpid(), prefix)


def test_the_number_that_a_dead_container_had_outside_leads_to_the_one_inside(
    segment_dir: Path,
) -> None:
    fake = FakeSegment()
    fake.control["pid"], fake.control["start_ticks"], fake.control["pidns_inode"] = 1, 1, 7
    fake.begin(rate=1)
    os.utime(fake.save(segment_dir), (0, 0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mem_profiler.process.procfs.sees_all_processes", lambda: True)
        with pytest.raises(TargetError) as raised:
            recover.recover_pid(GONE, str(segment_dir / "r"))
    hint = str(raised.value.hint)
    assert "listed by its number inside, mem_profiler ps --all: 1 (prog)" in hint
    assert hint.endswith("mem_profiler recover 1")


def test_the_number_outside_is_enough_while_nobody_has_waited_for_a_process(
    segment_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for inode in (7, 8):
        fake = FakeSegment()
        fake.control["pid"], fake.control["start_ticks"], fake.control["pidns_inode"] = 42, 1, inode
        fake.begin(rate=1)
        fake.control["state"] = layout.STATE_EXITED
        path = fake.save(segment_dir)
        path.rename(path.with_name(f"42-{inode}-0"))
    facts = procfs.Status(uids=(0,), inner_pid=42, seccomp=False, sizes={})
    monkeypatch.setattr(procfs, "status", lambda pid: facts if pid == GONE else None)
    monkeypatch.setattr(procfs, "pidns_inode", lambda pid="self": 8 if pid == GONE else 1)
    [result] = recover.recover_pid(GONE, str(segment_dir / "r"))
    assert result.pid == 42
    assert [one.name for one in path.parent.glob("42-*")] == ["42-7-0"]


def test_a_copy_of_a_segment_is_written_and_stays(segment_dir: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copy(dead(segment_dir), copy)
    for number in (1, 2):
        result = recover.recover_file(str(copy), str(tmp_path / "r"))
        assert result.path == str(tmp_path / f"r.{GONE}.{number}.heap")
    assert copy.exists()


def test_a_segment_in_its_place_is_written_and_goes(segment_dir: Path) -> None:
    path = dead(segment_dir)
    recover.recover_file(str(path), str(segment_dir / "r"))
    assert not path.exists()


@pytest.mark.parametrize("below", ["", "data", "volumes/shop/_data"])
def test_a_folder_stands_for_the_segments_below_it(
    segment_dir: Path, tmp_path: Path, below: str
) -> None:
    volume = tmp_path / "vol" / below
    volume.mkdir(parents=True)
    elsewhere, here = dead(segment_dir), dead(volume, 1)
    (here.parent / "room").touch()
    (tmp_path / "vol" / "link").symlink_to(segment_dir)
    [result], errors = recover.recover_all(str(tmp_path / "r"), root=str(tmp_path / "vol"))
    assert (result.pid, errors) == (1, [])
    assert elsewhere.exists() and not here.exists()
    assert recover.recover_all("r", root=str(tmp_path / "vol")) == ([], [])


def test_programs_of_containers_are_told_apart_by_name_and_time(
    segment_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(procfs, "sees_all_processes", lambda: True)
    monkeypatch.setattr(time, "localtime", time.gmtime)
    began = [(b"shop", 0), (b"shop", 3661), (b"shop", 3661), (b"../x y", 0)]
    for number, (program, began_s) in enumerate(began):
        (tmp_path / str(number)).mkdir()
        dead(tmp_path / str(number), 1, program=program, began_s=began_s)
    _, errors = recover.recover_all(str(tmp_path / "r"), root=str(tmp_path))
    assert errors == []
    assert {path.name for path in tmp_path.glob("*.heap")} == {
        "r.shop-19700101-000000.1.1.heap",
        "r.shop-19700101-010101.1.1.heap",
        "r.shop-19700101-010101.1.2.heap",
        "r._x_y-19700101-000000.1.1.heap",
    }


def test_the_folder_of_a_user_may_be_named_itself(segment_dir: Path, tmp_path: Path) -> None:
    path = dead(tmp_path)
    [result], _ = recover.recover_all(str(tmp_path / "r"), root=str(path.parent))
    assert result.pid == GONE and not path.exists()


def test_files_that_hold_no_capture_are_refused_by_name(segment_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="No such file"):
        recover.recover_file(str(tmp_path / "nowhere"), "r")
    (tmp_path / "room").touch()
    with pytest.raises(NotAProfile, match="room is not a segment") as raised:
        recover.recover_file(str(tmp_path / "room"), "r")
    assert "recover FOLDER" in str(raised.value.hint)
    copy = tmp_path / "copy"
    shutil.copy(dead(segment_dir, captured=False), copy)
    with pytest.raises(InputFileError, match="never had a capture"):
        recover.recover_file(str(copy), str(tmp_path / "r"))


def test_cleaning_keeps_what_is_in_no_file_unless_told_otherwise(segment_dir: Path) -> None:
    unwritten, empty = dead(segment_dir), dead(segment_dir, GONE - 1, captured=False)
    size = empty.stat().st_blocks * 512
    count, held, kept = recover.clean(everything=False)
    assert (count, held, [one.path for one in kept]) == (1, size, [str(unwritten)])
    assert unwritten.exists() and not empty.exists()
    count, _, kept = recover.clean(everything=True)
    assert (count, kept, unwritten.exists()) == (1, [], False)


@pytest.mark.parametrize(
    ("stop_ns", "state", "end"),
    [
        (5, layout.STATE_READY, "stopped"),
        (0, layout.STATE_EXITED, "exited"),
        (0, layout.STATE_READY, "target ended"),
    ],
)
def test_the_end_is_what_the_segment_says(
    segment_dir: Path, stop_ns: int, state: int, end: str
) -> None:
    fake = FakeSegment()
    fake.begin()
    fake.control["state"], fake.control["capture"][1]["stop_ns"] = state, stop_ns
    with Segment.open(fake.save(segment_dir), writable=False) as segment:
        assert recover._end_of(segment.control()) == end
