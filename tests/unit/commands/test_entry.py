"""The console scripts while they are still being imported, and with closed streams."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
INTERRUPTED = """
import os, signal, sys
class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "click":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
sys.argv = ["x", "--version"]
from mem_cli import entry
entry.{name}()
"""


def environment() -> dict[str, str]:
    """One in which a child finds the packages of this tree."""
    folders = [str(ROOT / part) for part in ("parser", "bindings", "cmd")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_error(tmp_path: Path, closed: str) -> None:
    profile = tmp_path / "x.folded"
    profile.write_text("main;f 5000\n")
    line = f'"$0" -c "from mem_cli import entry; entry.mem_parser()" top "$1" {closed}'
    done = subprocess.run(
        ["sh", "-c", line, sys.executable, profile],
        env=environment(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["mem_profiler", "mem_parser"])
def test_ctrl_c_during_the_imports_ends_without_a_traceback(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED.format(name=name)],
        env=environment(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == -signal.SIGINT
    assert done.stderr == ""
