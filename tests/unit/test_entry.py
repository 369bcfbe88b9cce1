"""The console scripts while they are still being imported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
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


@pytest.mark.parametrize("name", ["mem_profiler", "mem_parser"])
def test_ctrl_c_during_the_imports_ends_without_a_traceback(name: str) -> None:
    folders = [str(ROOT / part) for part in ("parser", "bindings", "cmd")]
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED.format(name=name)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(folders)},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == -signal.SIGINT
    assert done.stderr == ""
