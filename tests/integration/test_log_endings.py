"""How logs of events end: what their END says, and what reports make of it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from controller_tools import Stepper, run_command
from mem_parser.memlog.profiles import read_part
from mem_parser.memlog.run import read_log
from mem_parser.model import Count
from mem_parser.readers import read_profile
from parser_run import told

pytestmark = pytest.mark.usefixtures("sampler", "segment_dir")
ENDS = """
import os, signal, sys
kept = [bytes(100_000) for _ in range(20)]
del kept
{}
"""


def run_python(folder: Path, last: str, *options: str) -> tuple[Path, Path]:
    """The `.heap` file and the log of a program that ends so."""
    script = folder / "ends.py"
    script.write_text(ENDS.format(last), encoding="ascii")
    run_command("run", "-c", "4096", "--events", *options, "-o", "out.heap", script, cwd=folder)
    [log] = folder.glob("*.memlog")
    return folder / "out.heap", log


@pytest.mark.parametrize(
    ("last", "how"),
    [
        ("", "exited"),
        ("sys.exit(3)", "exited"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "signal 9 SIGKILL"),
    ],
)
def test_a_log_ends_as_its_program_did(last: str, how: str, tmp_path: Path) -> None:
    heap, log = run_python(tmp_path, last)
    with read_log([log]) as run:
        assert run.how_ended == how
        assert run.files[-1].end is not None
    of_heap, [of_log] = read_profile(heap), read_part([log])
    assert of_log.capture.end == of_heap.capture.end == how
    assert of_log.default_count is of_heap.default_count
    assert of_log.default_count is (Count.PEAK if how == "exited" else Count.INUSE)


def test_reports_of_a_log_and_of_a_file_count_the_same(tmp_path: Path) -> None:
    heap, log = run_python(tmp_path, "", "-c", "1")
    of_file, of_log = (told("top", path).splitlines() for path in (heap, log))
    assert "at the peak" in of_log[0]
    assert of_log[1:] == of_file[1:]


def test_a_capture_that_ends_before_its_program_says_so(stepper: Path, tmp_path: Path) -> None:
    with Stepper(stepper) as target:
        done = run_command(
            "-s", "0.3", "-c", "1", "--events", "-o", tmp_path / "x", "-p", target.pid
        )
        assert done.returncode == 0, done.stderr
        [log] = tmp_path.glob("*.memlog")
        with read_log([log]) as run:
            assert run.how_ended == "deadline"
        [profile] = read_part([log])
        assert profile.default_count is Count.INUSE


def test_the_last_events_of_a_killed_program_say_that_it_ended(
    stepper: Path, tmp_path: Path
) -> None:
    with Stepper(stepper, MEM_PROFILER_START="1", MEM_PROFILER_EVENTS="1M") as target:
        target.tell("a 10 100")
        snapshot = run_command("snapshot", target.pid, "-o", tmp_path / "now")
        assert snapshot.returncode == 0, snapshot.stderr
        target.tell("a 10 100")
        os.kill(target.pid, signal.SIGKILL)
        target.child.wait(30)
        done = run_command("recover", target.pid, "-o", tmp_path / "last")
        assert done.returncode == 0, done.stderr
    for name, how in (("now", "running"), ("last", "target ended")):
        [log] = tmp_path.glob(f"{name}.*.memlog")
        with read_log([log]) as run:
            assert run.how_ended == how
