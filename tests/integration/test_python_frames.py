"""Python's frames in the sampled stack, against what Python itself says at the same moment."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from controller_tools import run_command
from mem_parser.model import Profile
from mem_parser.readers import read_profile
from python_stacks_seen import BLOCK_BYTES, RATE_BYTES, Stack, stacks_of
from pythons import pythons

TARGETS = Path(__file__).resolve().parents[1] / "targets"


def captured(python: str, folder: Path, *arguments: object) -> Profile:
    """The profile of a run in which every block of BLOCK_BYTES is sampled."""
    done = run_command("run", "-c", RATE_BYTES, "-o", folder / "x", "--", python, *arguments)
    assert done.returncode == 0, done.stderr
    [path] = folder.glob("x*.heap")
    return read_profile(str(path))


@pytest.mark.parametrize("python", pythons())
def test_frames_are_those_that_python_itself_sees(python: str, tmp_path: Path) -> None:
    out = tmp_path / "stacks.json"
    profile = captured(python, tmp_path, TARGETS / "python_stacks.py", out, 20000, 7)
    expected: Counter[Stack] = Counter()
    for frames, count in json.loads(out.read_text()):
        expected[tuple((name, file, line) for name, file, line in frames)] += count
    found = stacks_of(profile, BLOCK_BYTES)
    without = found.pop((), 0)
    assert {stack[0][0].rpartition(".")[2] for stack in found} == {"grab"}
    callers = Counter({stack[1:]: count for stack, count in found.items()})
    assert callers.total() + without == expected.total() >= 20000
    assert not callers - expected, list((callers - expected).items())[:3]
    lost = profile.capture.lost  # a busy machine may give the segment its pages too late
    assert without <= lost["python"] + lost["stack_table_full"] < 200
