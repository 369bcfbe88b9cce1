"""A process that captures itself, through the API."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mem_parser.budget.baseline import basis
from mem_parser.model import Count, Unit
from mem_parser.readers import read_profile
from mem_profiler import inprocess

pytestmark = [
    pytest.mark.usefixtures("sampler", "segment_dir", "quick_helper"),
    pytest.mark.timeout(120),
]

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
    program = "from mem_profiler import inprocess as i; print(i.is_loaded(), i.why_not())"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.startswith("False ")
    assert "The sampler is not loaded" in done.stdout


@pytest.mark.parametrize("state", ["idle", "capturing"])
def test_the_process_beside_ends_with_its_process_whoever_has_the_pipe_too(
    state: str, tmp_path: Path
) -> None:
    """Its standard error, which the fork child closes, ends with the process beside."""
    program = """
import os, sys
from mem_profiler import inprocess
sidecar = inprocess.Sidecar()
sidecar.start(1024)
if sys.argv[1] == "idle":
    sidecar.stop("x")
if os.fork() == 0:
    os.close(1)
    os.close(2)
    os.read(0, 1)
    os._exit(0)
os.kill(os.getpid(), 9)
"""
    held, end = os.pipe()
    try:
        done = subprocess.run(
            [sys.executable, "-c", program, state], cwd=tmp_path, stdin=held,
            env=inprocess.environment(), capture_output=True, text=True, timeout=30,
        )  # fmt: skip
    finally:
        os.close(held)
        os.close(end)
    assert (done.returncode, done.stderr) == (-9, "")


WAYS = {
    "a section": "from mem_profiler import inprocess\nwith inprocess.capture('x'): pass\n",
    "a tracker": "from mem_profiler import Tracker\nwith Tracker('x.heap'): pass\n",
    "a log": "from mem_profiler.capture import gate, logkeeper, toggle\n"
    "from mem_profiler.capture.session import Rates\nfrom mem_profiler.events.logs import Logging\n"
    "import os\nlogkeeper.start(os.getpid(), Rates(1024, logging=Logging('x')))\n",
}


@pytest.mark.parametrize("way", WAYS)
def test_no_module_of_the_folder_takes_the_place_of_another(way: str, tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('a json of the folder')\n")
    done = subprocess.run(
        [sys.executable, "-P", "-c", WAYS[way]], cwd=tmp_path, capture_output=True, text=True,
        env=inprocess.environment() | {"MEM_PROFILER_PYTHON": ""}, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
