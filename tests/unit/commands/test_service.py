"""Files of several processes, or the folder of a capture: one answer for the service."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from json_outputs import checked_json
from mem_parser.heapfile.writer import write_heap
from mem_parser.model import Count, Unit
from mem_parser.readers import read_profile
from mem_parser.units import format_bytes
from parser_run import parse, told
from simulated import worker


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three workers, of which the second leaks most, and a process of another time."""
    random = np.random.default_rng(9)
    rates = {11: 0.4, 12: 20.0, 13: 0.4, 14: 6.0}
    for pid, rate in rates.items():
        profile = worker(random, rate=rate, shift_s=50.0 * (pid == 14))
        memory = dataclasses.replace(profile.capture.memory, peak_rss_bytes=pid << 20)
        command = f"/usr/bin/cc1 -quiet a{pid}.c"
        profile.capture = dataclasses.replace(
            profile.capture, pid=pid, comm="cc1", command=command, memory=memory
        )
        (tmp_path / f"p.{pid}.1.heap").write_bytes(write_heap(profile))
    (tmp_path / "notes.txt").write_text("no profile")
    return tmp_path


def test_a_folder_tells_of_the_service_first_then_of_each_process_the_worst_first(
    folder: Path,
) -> None:
    done = parse(folder)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert lines[0].startswith("1 leak, ") and lines[0].endswith("in leak, target.c:1")
    assert lines[1].split()[:2] == ["mem_parser", "leaks"]
    assert lines[2].startswith("leaks of their own: 1 of 3 processes; 12 grows fastest, ")
    rows = [line.split()[0] for line in lines[3:] if line.endswith(".heap")]
    assert rows[0] == "12" and sorted(rows) == ["11", "12", "13", "14"]
    [other] = [line.split() for line in lines[3:] if line.endswith("p.14.1.heap")]
    assert other[1:6] == ["cc1", "a14.c", "≥", "14.00", "MiB"] and other[-3:-1] == ["-", "-"]
    [said] = [line for line in done.stderr.splitlines() if "note: 1 of 4 files" in line]
    assert "are not added: their processes began or" in said
    held = [
        read_profile(str(one)).total(Count.INUSE, Unit.SPACE).value
        for one in folder.iterdir()
        if one.suffix == ".heap"
    ]
    assert said.endswith(f"; all together held {format_bytes(sum(held))} or more")
    few = parse(folder, "-n", "1").stdout.splitlines()
    assert len([line for line in few[2:] if line.endswith(".heap")]) == 1
    assert "3 more hidden. Use -n 0 to show all." in few
    files = [folder / f"p.{pid}.1.heap" for pid in (11, 12, 13)]
    assert parse(*files).stdout.splitlines()[:2] == lines[:2]
    found = checked_json("summary", parse(folder, "--json").stdout)
    assert [one["leaks"] for one in found["processes"]] == [1, 0, 0, None]
    each = [json.loads(parse(file, "--json").stdout)["total"] for file in files]
    assert [one["pid"] for one in found["processes"] if not one["added"]] == [14]
    assert found["total"] == pytest.approx(sum(each), abs=0.01)


def test_a_process_without_a_sample_is_of_no_other_time(folder: Path) -> None:
    profile = read_profile(str(folder / "p.14.1.heap"))
    none = profile.where(np.zeros(len(profile.sites), np.bool_))
    (folder / "p.14.1.heap").write_bytes(write_heap(none))
    assert "not added" not in parse(folder).stderr


def test_processes_that_lived_one_after_another_are_not_added_up(tmp_path: Path) -> None:
    """Of a parent and workers of 9 s those of one moment are, and short ones show no leaks."""
    random = np.random.default_rng(9)
    totals = {}
    for k in range(5):
        profile = worker(random, rate=0.01, shift_s=12.0 * k)
        length = 9.0 if k else 60.0
        ends = [(e or 60.0) * length / 60 for e in profile.capture.bucket_end_s]
        facts = {"pid": k + 1, "duration_s": length, "bucket_end_s": ends, "end": "exited"}
        profile.capture = dataclasses.replace(profile.capture, **facts)
        (tmp_path / f"p.{k + 1}.1.heap").write_bytes(write_heap(profile))
        totals[k + 1] = profile.total(Count.INUSE, Unit.SPACE).value
    done = parse(tmp_path, "--json")
    found = checked_json("summary", done.stdout)
    largest = max(range(2, 6), key=lambda pid: totals[pid])
    assert {one["pid"] for one in found["processes"] if one["added"]} == {1, largest}
    assert found["total"] == pytest.approx(totals[1] + totals[largest], abs=1)
    assert "note: 3 of 5 files are not added: their processes had ended" in done.stderr
    first = "no verdict on leaks: 1 of 2 processes were watched for less than 30 s"
    assert parse(tmp_path).stdout.splitlines()[0] == first


def test_the_command_under_the_leaks_of_a_service_shows_them_all(folder: Path) -> None:
    files = [folder / f"p.{pid}.1.heap" for pid in (11, 12, 13)]
    assert parse(folder).stdout.splitlines()[1].split() == ["mem_parser", "leaks", *map(str, files)]
    (folder / "p.14.1.heap").unlink()
    assert parse(folder).stdout.splitlines()[1].split() == ["mem_parser", "leaks", str(folder)]
    for words in (files, [folder]):
        done = parse("leaks", *words, "--fail-on", "leak")
        assert done.returncode == 6, done.stderr
        assert done.stdout.splitlines()[0].startswith("1 leak, ")
    command = parse("leaks", *files).stdout.partition("next:")[2].replace("\\", "").split()
    assert command == ["mem_parser", "tree", str(files[1]), "--focus", "'^leak$'"]


def test_leaks_of_processes_of_different_times_are_not_added_up(folder: Path) -> None:
    done = parse("leaks", folder, "--fail-on", "leak")
    assert (done.returncode, done.stdout) == (2, "")
    assert "not captured at one time: their leaks cannot be added up" in done.stderr
    files = [str(folder / f"p.{pid}.1.heap") for pid in (11, 12, 13)]
    assert f"hint:  mem_parser leaks {' '.join(files)} shows those of some" in done.stderr


def test_of_a_capture_its_latest_file_counts_and_sums_count_not_at_all(folder: Path) -> None:
    expected = parse(folder, "--json").stdout
    profile = read_profile(folder / "p.12.1.heap")
    profile.capture.duration_s = 30.0
    (folder / "p.12.0.heap").write_bytes(write_heap(profile))
    every = sorted(folder.glob("p.*.heap"))
    assert told("merge", *every, "-o", folder / "all.heap") is not None
    done = parse(folder, "--json")
    assert done.stdout == expected
    assert "note: 1 of 5 files are earlier ones of the same capture, not added" in done.stderr


def test_files_of_one_process_are_no_service(folder: Path) -> None:
    file, again = folder / "p.11.1.heap", folder / "p.11.2.heap"
    again.write_bytes(file.read_bytes())
    done = parse(file, again)
    assert (done.returncode, done.stdout) == (2, "")
    assert "2 profiles given: a report is of one" in done.stderr
    assert "shows the latest" in done.stderr and "merge" not in done.stderr
    merged = folder / "all.heap"
    assert told("merge", file, folder / "p.12.1.heap", "-o", merged) is not None
    done = parse(merged, file)
    assert (done.returncode, done.stdout) == (2, "")
    assert "adds them up" in done.stderr


def test_a_folder_without_profiles_is_one_line(tmp_path: Path) -> None:
    done = parse(tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.splitlines() == [f"error: {tmp_path}: no .heap file in this folder"]
