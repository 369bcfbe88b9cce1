"""How long an attach stopped threads of the program: printed, and in the file of each capture."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from attach_run import end_storm, storm
from controller_tools import HeapFile, run_command
from mem_cli.parser.group import cli
from mem_parser.readers import read_profile
from mem_parser.reports.header import NOTED_STOP_S
from mem_profiler import attach as attaching
from sampler_run import Target, build, environment

STOPPED = re.compile(r"paused one thread for ([\d.]+) ms|paused threads (\d+) times.* ms in all")


def report(name: str, path: Path) -> str:
    """What mem_parser prints of a file."""
    done = CliRunner().invoke(cli, [name, str(path)])
    assert done.exit_code == 0, done.output
    return done.stdout


def only_heap(folder: Path) -> Path:
    [path] = folder.glob("*.heap")
    return path


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_capture_after_an_attach_says_how_long_threads_stood_still(
    segment_dir: Path, tmp_path: Path, by_hand: bool
) -> None:
    with storm("malloc", segment_dir) as target:
        printed = ""
        if by_hand:
            said = run_command("attach", target.pid)
            assert said.returncode == 0, said.stderr
            printed = said.stdout
        done = run_command("-s", "0.1", "-c", "1024", "-p", target.pid, "-o", tmp_path / "p")
        assert done.returncode == 0, done.stderr
        printed = printed or done.stderr
        assert by_hand or "detached from storm" in done.stderr
        assert attaching.is_attached(target.pid) is by_hand
        end_storm(target)
    assert re.search(r"attached to \S+ \(pid \d+\): \d+ hooks placed in \d+ modules", printed)
    header = HeapFile(only_heap(tmp_path)).header
    assert header["samples"] > 0
    stops = header["attach"]
    assert stops["times"] >= 1
    assert 0 < stops["longest_s"] <= stops["total_s"] < 60  # seconds, not milliseconds
    assert STOPPED.search(printed), printed
    assert f"{stops['total_s'] * 1e3:.1f} ms" in printed
    capture = read_profile(str(only_heap(tmp_path))).capture
    assert capture.attach is not None
    shown = report("summary", only_heap(tmp_path))
    noted = f"attached while the program ran: {capture.attach.text()}" in shown
    assert noted is (capture.attach.longest_s >= NOTED_STOP_S)


def test_a_capture_of_a_program_that_began_with_the_sampler_says_nothing_of_it(
    segment_dir: Path, tmp_path: Path
) -> None:
    with Target([build("blocks.c")], environment(segment_dir)) as target:
        target.line()
        done = run_command("-s", "0.2", "-c", "1", "-p", target.pid, "-o", tmp_path / "p")
        assert done.returncode == 0, done.stderr
        target.finish()
    assert HeapFile(only_heap(tmp_path)).header["attach"] is None
    assert "attached" not in report("summary", only_heap(tmp_path))
