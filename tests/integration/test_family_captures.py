"""A capture of a process and those below it, which start and become others meanwhile."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller_tools import TIMEOUT_S, HeapFile, Stepper, start_command, wait_until
from mem_parser.errors import MemError
from mem_profiler.process import procfs
from mem_profiler.segment import discovery
from sampler_run import build

pytestmark = [pytest.mark.usefixtures("sampler", "segment_dir"), pytest.mark.timeout(120)]


def is_captured_by(asked: subprocess.Popen[str], pid: int) -> bool:
    with contextlib.suppress(MemError), discovery.open_process(pid) as segment:
        return int(segment.control().capture["owner_pid"]) == asked.pid
    return False


@contextlib.contextmanager
def family_capture(pid: int, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A capture of a process and its children that has begun, and does not end by itself."""
    words = ("-s", "600", "-c", "1", "--children", "-p", pid, "-o", folder / "p")
    asked = start_command(*words)
    try:
        wait_until(lambda: is_captured_by(asked, pid), "capture of the parent")
        yield asked
    finally:
        asked.kill()


@pytest.mark.parametrize("follow", ["0", "1"])
def test_workers_that_are_forked_during_the_capture_of_a_family_are_captured_too(
    stepper: Path, tmp_path: Path, follow: str
) -> None:
    with Stepper(stepper, MEM_PROFILER_FOLLOW_FORK=follow) as target:
        with family_capture(target.pid, tmp_path) as asked:
            target.tell("k")
            [child] = procfs.children(target.pid)
            wait_until(lambda: is_captured_by(asked, child), "capture of the child")
            target.tell("a 50 100")
            asked.send_signal(signal.SIGINT)
            said, _ = asked.communicate(timeout=TIMEOUT_S)
        assert (asked.returncode, "not in this capture" in said) == (0, False), said
        interrupted, heads, *rows = said.splitlines()
        assert interrupted.endswith("everything sampled up to then is in the files")
        assert heads.split()[0] == "PID"
        assert {int(row.split()[0]) for row in rows[:2]} == {target.pid, child}
        _, *step = said.split("next:")  # one, with both files
        files = step[0].replace("\\", "").split()[1:]
        assert len(step) == 1 and sorted(map(Path, files)) == sorted(tmp_path.glob("p.*.heap"))
        [own] = (HeapFile(path) for path in tmp_path.glob(f"p.{child}.*.heap"))
        assert own.header["end"] == "interrupted"
        assert own.total("alloc_blocks") >= 50
        assert len(list(tmp_path.glob("p.*.heap"))) == 2
        target.send("")


def test_a_server_that_becomes_its_new_version_is_captured_on_with_its_new_workers(
    stepper: Path, tmp_path: Path
) -> None:
    """As haproxy -W at a reload: for a while the old image has ended, and no worker is there."""
    with Stepper(stepper, LD_PRELOAD="") as target:
        with family_capture(target.pid, tmp_path) as asked:
            target.tell("a 10 100")
            target.tell(f"x {stepper}")
            wait_until(lambda: is_captured_by(asked, target.pid), "capture of the new image")
            target.tell("k")
            [child] = procfs.children(target.pid)
            wait_until(lambda: is_captured_by(asked, child), "capture of its worker")
            target.tell("a 50 100")
            asked.send_signal(signal.SIGINT)
            said, errors = asked.communicate(timeout=TIMEOUT_S)
        assert (asked.returncode, "error" in errors) == (0, False), errors
        assert f"note: pid {target.pid} became another program, stepper: one more capture" in errors
        assert errors.count("detached from") == 2, errors
        assert said.startswith("interrupted after")
        old, new, worker = (
            HeapFile(tmp_path / f"p.{name}.heap")
            for name in (f"{target.pid}.1", f"{target.pid}.2", f"{child}.1")
        )
        assert [one.header["end"] for one in (old, new, worker)] == [
            "target ended", "interrupted", "interrupted",
        ]  # fmt: skip
        assert old.total("alloc_blocks") == 10
        assert worker.total("alloc_blocks") >= 50
        target.send("")


def test_what_cannot_be_captured_on_is_an_error_and_the_rest_goes_on(
    stepper: Path, tmp_path: Path
) -> None:
    static = build("stepper.c", "-static", out="stepper-static")
    with Stepper(stepper, LD_PRELOAD="") as target:
        with family_capture(target.pid, tmp_path) as asked:
            target.tell(f"x {static}")
            assert asked.stderr is not None
            told = iter(asked.stderr.readline, "")
            error = next(line for line in told if line.startswith("error: left out:"))
            assert f"pid {target.pid}" in error and "statically linked" in error
            asked.send_signal(signal.SIGINT)
            said, rest = asked.communicate(timeout=TIMEOUT_S)
        assert (asked.returncode, "error" in rest) == (4, False), rest
        [only] = tmp_path.glob("p.*.heap")
        assert str(only) in said
        target.send("")
