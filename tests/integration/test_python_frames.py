"""Python's frames in the sampled stack, against what Python itself says at the same moment."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from python_stacks_seen import BLOCK_BYTES, Stack, captured, stacks_of
from pythons import pythons
from sampler_run import TARGETS


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
