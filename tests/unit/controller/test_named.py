"""Programs that a command names: found in wrappers and scripts, whatever these hold."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_profiler.process import named

SH, CAT = "/bin/sh", str(Path("/bin/cat").resolve())


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program beside the scripts of a test, in no folder of PATH."""
    path = tmp_path / "the-program"
    shutil.copy("/bin/cat", path)
    return path


def script(folder: Path, text: str, name: str = "start.sh") -> str:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    "words",
    [
        ["-c", "exec {}"],
        ["-c", "cd / && A=1 exec '{}' --flag; true"],
        ["-c", "x={}; exec $x"],
        ["-c", "exec {}>/dev/null"],
        ["{}"],
        ["-k", "5", "60", "{}", "argument"],
        ["A=b", "{}"],
    ],
)
def test_the_program_of_a_wrapper_is_named(program: Path, words: list[str]) -> None:
    arguments = ["wrapper", *(word.format(program) for word in words)]
    assert str(program) in named.programs(SH, arguments)


@pytest.mark.parametrize(
    "text",
    [
        'exec {0} "$@"',
        'HERE="$(dirname "$(readlink -f "$0")")"\nexec "$HERE/the-program" "$@"',
        'HERE="`dirname "$0"`"\nexec -a "$0" "${{HERE}}/the-program" "$@"',
        'NAME=the-program\nexec "$HERE/$NAME"',
        "exec ./the-program",
    ],
)
def test_the_program_of_a_start_script_is_named(program: Path, text: str) -> None:
    path = script(program.parent, text.format(program))
    assert named.programs(path, [path])[0] == str(program)
    other = script(program.parent, f"exec {path}", "other.sh")
    assert str(program) in named.programs(other, [other])
    assert str(program) in named.programs(SH, ["sh", path])


def test_folders_that_a_script_names_are_searched(program: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    text = f'HOME_OF_IT={program.parent}\nexec "$HOME_OF_IT/the-program"'
    path = script(other, text)
    assert named.programs(path, [path]) == [str(program)]


def test_names_in_path_come_after_paths(program: Path) -> None:
    found = named.programs(SH, ["sh", "-c", f"cat x | exec {program}"])
    assert found == [str(program), CAT]


def test_what_is_no_program_is_not_named(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_text("cat")
    os.mkfifo(tmp_path / "fifo")
    for word in (data, tmp_path, tmp_path / "fifo", tmp_path / "absent", "", "$X", "/", "\0"):
        assert named.programs(SH, ["sh", str(word)]) == []


def test_scripts_that_name_each_other_end(tmp_path: Path) -> None:
    for i in range(20):
        script(tmp_path, f"exec ./{(i + 1) % 20}.sh {i}.sh", f"{i}.sh")
    assert named.programs(str(tmp_path / "0.sh"), ["0.sh"]) == []


def test_the_list_is_bounded(tmp_path: Path) -> None:
    for i in range(100):
        shutil.copy("/bin/true", tmp_path / f"p{i}")
    words = " ".join(f"./p{i}" for i in range(100))
    path = script(tmp_path, words)
    assert len(named.programs(path, [path])) == named.PROGRAMS_MAX


@given(st.lists(st.text(max_size=40), max_size=8))
def test_any_arguments_are_looked_up(arguments: list[str]) -> None:
    for path in named.programs(SH, ["sh", *arguments]):
        assert os.access(path, os.X_OK)
