"""Files of several processes, or the folder of a capture: one answer for the service."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from json_outputs import checked_json
from mem_parser.heapfile.writer import write_heap
from parser_run import parse
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
    assert lines[1].startswith("leaks of their own: 1 of 3 processes; 12 grows fastest, ")
    rows = [line.split()[0] for line in lines if line.endswith(".heap")]
    assert rows[0] == "12" and sorted(rows) == ["11", "12", "13", "14"]
    [other] = [line.split() for line in lines if line.endswith("p.14.1.heap")]
    assert other[1:6] == ["cc1", "a14.c", "≥", "14.00", "MiB"] and other[-3:-1] == ["-", "-"]
    assert "note: 1 of 4 files are of another time, not added" in done.stderr
    few = parse(folder, "-n", "1").stdout.splitlines()
    assert len([line for line in few if line.endswith(".heap")]) == 1
    assert "3 more hidden. Use -n 0 to show all." in few

    files = [folder / f"p.{pid}.1.heap" for pid in (11, 12, 13)]
    assert parse(*files).stdout.splitlines()[:2] == lines[:2]
    found = checked_json("summary", parse(folder, "--json").stdout)
    assert [one["leaks"] for one in found["processes"]] == [1, 0, 0, None]
    each = [json.loads(parse(file, "--json").stdout)["total"] for file in files]
    assert [one["pid"] for one in found["processes"] if not one["added"]] == [14]
    assert found["total"] == pytest.approx(sum(each), abs=0.01)


def test_files_of_one_process_are_no_service(folder: Path) -> None:
    file, again = folder / "p.11.1.heap", folder / "p.11.2.heap"
    again.write_bytes(file.read_bytes())
    for words in ((file, again), (folder,)):
        done = parse(*words)
        assert (done.returncode, done.stdout) == (2, "")
        assert "profiles given: a report is of one" in done.stderr


def test_a_folder_without_profiles_is_one_line(tmp_path: Path) -> None:
    done = parse(tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.splitlines() == [f"error: {tmp_path}: no .heap file in this folder"]
