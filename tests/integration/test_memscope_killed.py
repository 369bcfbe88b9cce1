"""A collection whose command is killed: what stays, and what the processes know that go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from controller_tools import command, command_environment
from mem_parser.memscope.settings import Settings
from mem_profiler.memscope import commanded
from memscope_run import WAIT_S

PROGRAM = """
import sys
from mem_profiler.memscope import collection
print(collection.current().by_command, flush=True)
sys.stdin.readline()
print(collection.Collection().by_command, flush=True)
"""


@pytest.mark.usefixtures("segment_dir")
def test_nothing_is_left_in_the_folder_of_temporary_files(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    child = subprocess.Popen(
        command("memscope", "-o", tmp_path / "out", "--", sys.executable, script), text=True,
        env=command_environment() | {"TMPDIR": str(temporary)}, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "True\n"
        os.kill(child.pid, signal.SIGKILL)
        child.wait(WAIT_S)
        assert list(temporary.iterdir()) == []
        # The program goes on, and nobody follows it.
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline() == "False\n"
    finally:
        child.kill()
        child.communicate(timeout=WAIT_S)


def test_a_process_knows_what_its_command_told(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(c_depth=7, output="/data/out")
    [(name, text)] = commanded.variables(settings, "123").items()
    monkeypatch.setenv(name, text)
    assert commanded.told() == commanded.Told(settings, "123")
    for text in ("", "{", "[]", '{"settings": 1}', "null"):
        monkeypatch.setenv(name, text)
        assert commanded.told() is None


def test_a_command_counts_as_ended_only_where_that_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    [(name, text)] = commanded.variables(Settings(), "123").items()
    told = json.loads(text)
    others = {
        "of an earlier process": (told | {"began": told["began"] - 1}, False),
        "of a pid that no process has": (told | {"command": (1 << 31) - 1}, False),
        "in other namespaces": (told | {"namespaces": [], "command": (1 << 31) - 1}, True),
    }
    for what, (changed, lives) in others.items():
        monkeypatch.setenv(name, json.dumps(changed))
        assert (commanded.told() is not None) is lives, what
