"""After sudden death: what is left becomes a profile, and parser and jeprof read it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from controller_tools import run_command
from parser_run import parse
from sampler_run import Target, build, environment, run, segments


def test_a_killed_program_is_recovered_whole_and_its_file_is_read_by_us_and_by_jeprof(
    segment_dir: Path, tmp_path: Path
) -> None:
    program = build("blocks.c")
    with Target([program], environment(segment_dir, rate=1)) as target:
        target.line()
        target.ask("alloc 1000 1")
        target.ask("churn 50 100")
        target.tell("churn 100000000 0")
        target.kill()
    result = run_command("recover", target.pid, "-o", tmp_path / "r")
    assert result.returncode == 0, result.stderr
    [heap] = tmp_path.glob(f"r.{target.pid}.*.heap")
    assert run_command("clean").returncode == 0
    assert segments(segment_dir) == []
    table = parse("-p", program, "-f", heap, "-t")
    [row] = [line for line in table.stdout.splitlines() if line.endswith("alloc_kept")]
    assert row.split()[:2] == ["1,000", "B"], table.stdout
    if shutil.which("jeprof") is None:
        pytest.skip("jeprof is not installed")
    text = run(["jeprof", "--text", "--show_bytes", program, heap], dict(os.environ)).stdout
    flat = {line.split()[-1]: int(line.split()[0]) for line in text.splitlines() if "%" in line}
    assert flat["alloc_kept"] == 1000, text
