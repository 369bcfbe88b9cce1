"""Python's frames in programs that embed it: begun again, threads of C, copied types."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from controller_tools import run_command
from mem_parser.readers import read_profile
from python_embedding import FORMS, build
from python_stacks_seen import BLOCK_BYTES, stacks_of
from pythons import pythons

ROUNDS = 5


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("python", pythons())
def test_interpreters_that_begin_again_have_their_own_frames(
    python: str, form: str, tmp_path: Path
) -> None:
    program = build(python, tmp_path, form)
    home = subprocess.run(
        [python, "-c", "import sys; print(sys.base_prefix)"],
        capture_output=True, text=True, timeout=30, check=True,
    ).stdout.strip()  # fmt: skip

    done = run_command(
        "run", "-c", 65536, "-o", tmp_path / "x", "--", program, ROUNDS, home
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    [path] = tmp_path.glob("x*.heap")
    profile = read_profile(str(path))
    found = stacks_of(profile, BLOCK_BYTES)
    assert found.pop((), 0) == ROUNDS  # without an interpreter
    seen: dict[str, list[tuple[int, ...]]] = {}
    for stack, count in found.items():
        assert [name for name, _, _ in stack] == ["work", "<module>"]
        [file] = {file for _, file, _ in stack}
        seen.setdefault(file, []).extend([tuple(line for _, _, line in stack)] * count)
    expected = {
        f"/made/round_{k}.py": [(3, 5 + k % 2), (4 + k % 2, 5 + k % 2)] * (2 if k >= 2 else 1)
        for k in range(ROUNDS)
    }
    assert {file: sorted(lines) for file, lines in seen.items()} == {
        file: sorted(lines) for file, lines in expected.items()
    }
    assert profile.capture.lost["python"] == 0
