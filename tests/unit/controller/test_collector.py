"""Files of a log of events: their names, and when there is none."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from unittest import mock

import pytest

from controller_tools import run_command
from mem_parser.errors import UsageProblem
from mem_profiler.capture.output import ExactFile
from mem_profiler.events import collector
from mem_profiler.events.collector import Limits, Log, LogFiles, check_names


def written(where: str | ExactFile, blocks: int, keep: int = Limits().files) -> list[str]:
    """Write a log with one block in each file; the names of those that stay."""
    files = LogFiles(where, 7, keep)
    try:
        for k in range(blocks):
            files.write(b"%d" % k)
            files.end_file()
    finally:
        files.close()
    return [os.path.basename(path) for path in files.paths]


def test_a_log_never_meets_the_files_of_an_older_one_whose_first_are_gone(tmp_path: Path) -> None:
    prefix = str(tmp_path / "a")
    assert written(prefix, 3, keep=1) == ["a.7.1-2.memlog"]
    assert written(prefix, 4) == [f"a.7.2-{k}.memlog" for k in range(4)]
    assert written(prefix, 1) == ["a.7.3-0.memlog"]
    (tmp_path / "a.7.4-x.memlog").touch()
    (tmp_path / "a.77.4-0.memlog").touch()
    assert written(prefix, 1) == ["a.7.4-0.memlog"]


def test_a_file_without_a_block_does_not_stay(tmp_path: Path) -> None:
    files = LogFiles(str(tmp_path / "a"), 7, Limits().files)
    full = OSError(errno.ENOSPC, "No space left on device")
    with (
        mock.patch.object(collector, "write_all", side_effect=full),
        pytest.raises(OSError, match="No space left"),
    ):
        files.write(b"block")
    files.close()
    assert files.paths == []
    assert list(tmp_path.iterdir()) == []


def test_a_name_whose_log_would_meet_other_files_is_refused(tmp_path: Path) -> None:
    exact = ExactFile(str(tmp_path / "out.heap"))
    for other in ("out.memlog", "out-x.memlog", "my-out-0.memlog", "out-0.memlogs"):
        (tmp_path / other).touch()
    check_names(exact)
    written(exact, 3, keep=1)
    with pytest.raises(UsageProblem, match=r"and out-2\.memlog exists already"):
        check_names(exact)
    check_names(ExactFile(exact.path, replace=True))


def test_a_run_is_refused_before_it_begins_where_its_log_has_no_names(tmp_path: Path) -> None:
    (tmp_path / "out-0.memlog").write_bytes(b"another")
    words = ["run", "--events", "-o", "out.heap", "touch", "began"]
    refused = run_command(*words, cwd=tmp_path)
    assert refused.returncode == 2
    assert "out-0.memlog exists already" in " ".join(refused.stderr.split())
    assert not (tmp_path / "began").exists()
    assert not (tmp_path / "out.heap").exists()
    replaced = run_command(*words[:2], "-f", *words[2:], cwd=tmp_path)
    assert replaced.returncode == 0, replaced.stderr
    assert (tmp_path / "out-0.memlog").read_bytes() != b"another"


def test_what_is_written_later_is_joined_to_a_log() -> None:
    log = Log(["a"], 1, {"events": 3, "lost": 1}, "why")
    assert log.joined(None) is log
    assert log.joined(Log(["b"], 2, {"events": 4, "senseless": 5}, "")) == Log(
        ["a", "b"], 3, {"events": 7, "lost": 1, "senseless": 5}, "why"
    )


def test_files_have_a_second_name_that_goes_with_them(tmp_path: Path) -> None:
    files = LogFiles(ExactFile(str(tmp_path / "memlog1.memlog")), 1, 2, alias=".txt")
    for number in range(3):
        files.write(b"block %d" % number)
        files.end_file()
    files.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "memlog1-1.memlog", "memlog1-1.txt", "memlog1-2.memlog", "memlog1-2.txt",
    ]  # fmt: skip
    assert (tmp_path / "memlog1-2.txt").samefile(tmp_path / "memlog1-2.memlog")


def test_a_second_name_that_is_taken_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "memlog1-0.txt").write_text("mine")
    files = LogFiles(ExactFile(str(tmp_path / "memlog1.memlog")), 1, 1, alias=".txt")
    for _ in range(2):
        files.write(b"block")
        files.end_file()
    files.close()
    assert (tmp_path / "memlog1-0.txt").read_text() == "mine"
