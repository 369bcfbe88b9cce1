"""Segments as files: which are dead, which may go, and how many are looked at."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fake_segment import FakeSegment
from mem_profiler.process import procfs
from mem_profiler.segment import folders, layout, leftovers
from mem_profiler.segment.leftovers import Found

GONE = 2**22 - 3


def left(
    base: Path, pid: int = GONE, *, captures: int = 0, written: int = 0, **fields: int
) -> Path:
    fake = FakeSegment()
    values = {"pid": pid, "start_ticks": 1, "capture_number": captures, "written_capture": written}
    for name, value in (values | fields).items():
        fake.control[name] = value
    fake.control["capture"][captures & 1]["number"] = captures
    path = fake.save(base)
    os.utime(path, (0, 0))
    return path


def only(base: Path) -> Found:
    [found] = leftovers.in_folders()
    return found


def test_no_process_is_read_where_no_segment_is_left(
    segment_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    monkeypatch.setattr(procfs, "raw_maps", lambda pid: read.append(pid) or b"")
    assert leftovers.in_folders() == []
    assert read == []
    left(segment_dir)
    only(segment_dir)
    assert os.getpid() in read


def test_of_a_run_only_a_segment_in_use_is_looked_for_in_other_processes(
    segment_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    monkeypatch.setattr(procfs, "raw_maps", lambda pid: read.append(pid) or b"")
    path = left(segment_dir)
    [found] = leftovers.in_folders(folders.everywhere(), ours=True)
    assert (found.alive, found.pid) == (False, None)
    assert os.getpid() not in read
    with path.open("r+b"):
        leftovers.in_folders(folders.everywhere(), ours=True)
    assert os.getpid() in read


def test_a_segment_of_a_process_that_is_gone_is_dead(segment_dir: Path) -> None:
    path = left(segment_dir, captures=2, written=1)
    found = only(segment_dir)
    assert (found.alive, found.captured, found.written) == (False, True, False)
    assert (found.path, found.pid, found.uid) == (str(path), None, os.getuid())
    assert found.held_bytes == path.stat().st_blocks * 512


def test_a_fresh_file_of_a_living_process_may_not_be_mapped_yet(
    segment_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = procfs.start_ticks(os.getpid())
    path = left(segment_dir, os.getpid(), start_ticks=own or 0)
    assert not only(segment_dir).alive  # old, and we have not mapped it
    os.utime(path)
    monkeypatch.setattr(leftovers, "SETTLE_S", 600)  # however busy the machine is
    assert only(segment_dir).alive
    left(segment_dir, os.getpid(), start_ticks=own or 0, captures=1)
    os.utime(path)
    assert not only(segment_dir).alive


def test_the_pid_of_another_start_is_another_process(segment_dir: Path) -> None:
    path = left(segment_dir, os.getpid(), start_ticks=1)
    os.utime(path)
    assert not only(segment_dir).alive


def test_what_another_namespace_may_hide_counts_as_alive(
    segment_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left(segment_dir, pidns_inode=5)
    monkeypatch.setattr(procfs, "sees_all_processes", lambda: False)
    assert only(segment_dir).alive
    monkeypatch.setattr(procfs, "sees_all_processes", lambda: True)
    assert not only(segment_dir).alive


def test_an_exited_process_is_dead_whatever_else_the_page_says(segment_dir: Path) -> None:
    left(segment_dir, os.getpid(), state=layout.STATE_EXITED, pidns_inode=5)
    assert not only(segment_dir).alive


def test_a_sweep_removes_only_what_nobody_needs(segment_dir: Path) -> None:
    needless = [left(segment_dir, GONE), left(segment_dir, GONE - 1, captures=3, written=3)]
    needed = left(segment_dir, GONE - 2, captures=3, written=2)
    rest = leftovers.sweep(leftovers.in_folders())
    assert [found.path for found in rest] == [str(needed)]
    assert needed.exists() and not any(path.exists() for path in needless)


def test_a_file_that_took_the_place_of_another_is_not_removed(segment_dir: Path) -> None:
    path = left(segment_dir)
    found = only(segment_dir)
    kept = path.with_name("kept")
    path.rename(kept)
    path.write_bytes(b"new")
    assert leftovers.remove_all([found]) == []
    assert not leftovers.remove(found)
    assert path.read_bytes() == b"new"


def test_a_search_is_bounded_and_says_how_much_it_left_out(segment_dir: Path) -> None:
    for k in range(5):
        left(segment_dir, GONE - k, start_ticks=k)
    found = leftovers.in_folders(most=2)
    assert [one.control.number("start_ticks") for one in found] == [4, 3]  # the latest
    assert leftovers.count_beyond(2) == 3
    assert leftovers.count_beyond() == 0


def test_a_file_that_is_no_segment_hides_no_other(segment_dir: Path) -> None:
    path = left(segment_dir)
    path.with_name("1-2-3").write_bytes(b"nonsense")
    assert only(segment_dir).path == str(path)


def test_a_folder_that_is_gone_is_an_error_and_no_removal(segment_dir: Path) -> None:
    path = left(segment_dir)
    found = only(segment_dir)
    path.unlink()
    path.parent.rmdir()
    assert not leftovers.remove(found)
    with pytest.raises(OSError, match="its folder is gone"):
        leftovers.opened(found, writable=False)
