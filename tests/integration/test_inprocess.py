"""A process that captures itself, through the API."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mem_parser.budget.baseline import basis
from mem_parser.model import Count, Unit
from mem_parser.readers import read_profile
from mem_profiler import inprocess

pytestmark = [pytest.mark.usefixtures("sampler", "segment_dir"), pytest.mark.timeout(120)]

PROGRAM = """
import sys
from mem_profiler import inprocess

assert inprocess.is_loaded(), inprocess.why_not()
with inprocess.capture(sys.argv[1], rate_bytes=1) as captured:
    kept = [bytes(10_000) for _ in range(100)]
again = [bytes(10_000) for _ in range(100)]
print(captured.path)
try:
    with inprocess.capture(sys.argv[1], rate_bytes=1) as second:
        raise ValueError
except ValueError:
    print(second.path)
"""


def test_what_the_block_allocates_is_in_its_file_and_nothing_later(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path / "step"],
        env=inprocess.environment(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    profile = read_profile(first)
    held = profile.total(Count.INUSE, Unit.SPACE).value
    assert 100 * 10_000 <= held < 150 * 10_000
    assert profile.capture.kept_peak_bytes is not None
    assert profile.capture.end == "section ended"
    assert basis(profile) is Count.PEAK
    assert read_profile(second).capture.kind == "capture"


def test_a_process_without_the_sampler_says_why() -> None:
    assert not inprocess.is_loaded()
    assert "sampler" in inprocess.why_not()
