"""Python's frames in the sampled stack, against what Python itself says at the same moment."""

from __future__ import annotations

from pathlib import Path

import pytest

from attach_run import Unprepared
from controller_tools import run_command
from mem_parser.readers import read_profile
from python_stacks_seen import RATE_BYTES, captured, check_against, noted
from pythons import pythons
from sampler_run import TARGETS


@pytest.mark.parametrize("python", pythons())
def test_frames_are_those_that_python_itself_sees(python: str, tmp_path: Path) -> None:
    out = tmp_path / "stacks.json"
    profile = captured(python, tmp_path, TARGETS / "python_stacks.py", out, 20000, 7)
    expected = noted(out)
    assert expected.total() >= 20000
    check_against(expected, profile)


def test_a_stack_that_finds_no_room_has_no_python_frames_rather_than_wrong_ones(
    tmp_path: Path,
) -> None:
    out = tmp_path / "stacks.json"
    words = (TARGETS / "python_stacks.py", out, 20000, 7)
    small = {"MEM_PROFILER_MAX_MEMORY": "4M"}
    profile = captured(pythons()[0], tmp_path, *words, variables=small)
    expected = noted(out)
    without = check_against(expected, profile, 1 << 30)
    assert expected.total() // 10 < without < expected.total() * 9 // 10


def storm(target: Unprepared, seed: int, out: Path) -> str:
    """Make, call and free functions; where the interpreter's way to free code leads then."""
    return target.ask(f"60 {seed} {out}")


@pytest.mark.usefixtures("sampler")
@pytest.mark.parametrize("python", pythons())
def test_functions_that_are_made_and_freed_have_their_own_frames_from_attach_to_detach(
    python: str, tmp_path: Path
) -> None:
    script = TARGETS / "python_made_code.py"
    with Unprepared([python, "-S", "-u", script], tmp_path) as target:
        assert target.line() == "ready"
        own = storm(target, 1, tmp_path / "unseen.json")
        for turn in range(3):
            out, prefix = tmp_path / f"{turn}.json", tmp_path / f"heap{turn}"
            done = run_command("attach", target.pid, "-c", RATE_BYTES)
            assert done.returncode == 0, done.stderr
            assert "libmem_sampler" in storm(target, 2 + turn, out)
            done = run_command("stop", target.pid, "-o", prefix)
            assert done.returncode == 0, done.stderr
            done = run_command("detach", target.pid)
            assert done.returncode == 0, done.stderr
            assert storm(target, 10 + turn, tmp_path / "unseen.json") == own
            [path] = tmp_path.glob(f"{prefix.name}*.heap")
            check_against(noted(out), read_profile(str(path)))
        target.finish()
