"""After sudden death: what is left becomes a profile, and parser and jeprof read it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sampler_run import WAIT_S, Target, build, environment, segments


def command(name: str, *args: object, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run one of the project's commands from the source tree."""
    script = f"from mem_cli import entry; entry.{name}()"
    paths = os.pathsep.join(sys.path)
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, args)],
        env={**os.environ, "MEM_PROFILER_DIR": str(folder), "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )


@pytest.fixture
def killed(segment_dir: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A program that was killed in the middle of a capture, and the file recovered from it."""
    program = build("blocks.c")
    with Target([program], environment(segment_dir, rate=1)) as target:
        target.line()
        target.ask("alloc 1000 1")
        target.ask("churn 50 100")
        target.tell("churn 100000000 0")
        target.kill()
    result = command(
        "mem_profiler", "recover", target.pid, "-o", tmp_path / "r", folder=segment_dir
    )
    assert result.returncode == 0, result.stderr
    [heap] = tmp_path.glob(f"r.{target.pid}.*.heap")
    return program, heap


def test_a_killed_program_is_recovered_whole(killed: tuple[Path, Path], segment_dir: Path) -> None:
    program, heap = killed
    result = command("mem_parser", "-p", program, "-f", heap, "-t", folder=segment_dir)
    assert result.returncode == 0, result.stderr
    [row] = [line for line in result.stdout.splitlines() if line.endswith("alloc_kept")]
    assert row.split()[:2] == ["1000", "B"], result.stdout


@pytest.mark.skipif(shutil.which("jeprof") is None, reason="jeprof is not installed")
def test_jeprof_reads_what_was_recovered(killed: tuple[Path, Path]) -> None:
    program, heap = killed
    text = subprocess.run(
        ["jeprof", "--text", "--show_bytes", program, heap],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    ).stdout
    flat = {line.split()[-1]: int(line.split()[0]) for line in text.splitlines() if "%" in line}
    assert flat["alloc_kept"] == 1000, text


def test_what_was_recovered_can_be_cleaned(killed: tuple[Path, Path], segment_dir: Path) -> None:
    result = command("mem_profiler", "clean", folder=segment_dir)
    assert result.returncode == 0, result.stderr
    assert segments(segment_dir) == []
