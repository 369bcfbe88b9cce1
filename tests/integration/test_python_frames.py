"""Python's frames in the sampled stack, against what Python itself says at the same moment: in
interpreters, in programs that embed them, and in those of an unknown version.
"""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from attach_run import Unprepared
from controller_tools import run_command
from mem_parser.readers import read_profile
from python_embedding import FORMS, build
from python_stacks_seen import BLOCK_BYTES, RATE_BYTES, captured, check_against, noted, stacks_of
from pythons import interpreter, of_pythons, of_versions
from sampler_run import TARGETS

BLOCKS = 8000
ROUNDS = 5
LATER = 0x031000F0  # 3.16.0


def home_of(python: str | Path) -> str:
    """What PYTHONHOME is for it."""
    asked = [python, "-c", "import sys; print(sys.base_prefix)"]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("python", of_pythons(ends=True))
def test_frames_are_those_that_python_itself_sees(python: str, tmp_path: Path) -> None:
    out = tmp_path / "stacks.json"
    profile = captured(python, tmp_path, TARGETS / "python_stacks.py", out, BLOCKS, 7)
    expected = noted(out)
    assert expected.total() >= BLOCKS
    check_against(expected, profile)


def test_a_stack_that_finds_no_room_has_no_python_frames_rather_than_wrong_ones(
    tmp_path: Path,
) -> None:
    out = tmp_path / "stacks.json"
    words = (TARGETS / "python_stacks.py", out, 20000, 7)
    small = {"MEM_PROFILER_MAX_MEMORY": "4M"}
    profile = captured(sys.executable, tmp_path, *words, variables=small)
    expected = noted(out)
    without = check_against(expected, profile, 1 << 30)
    assert expected.total() // 10 < without < expected.total() * 9 // 10


def storm(target: Unprepared, seed: int, out: Path) -> str:
    """Make, call and free functions; where the interpreter's way to free code leads then."""
    return target.ask(f"60 {seed} {out}")


@pytest.mark.usefixtures("sampler")
@pytest.mark.parametrize("python", of_pythons())
def test_functions_that_are_made_and_freed_have_their_own_frames_from_attach_to_detach(
    python: str, tmp_path: Path
) -> None:
    script = TARGETS / "python_made_code.py"
    with Unprepared([python, "-S", "-u", script], tmp_path) as target:
        assert target.line() == "ready"
        own = storm(target, 1, tmp_path / "unseen.json")
        for turn in range(2):
            out, prefix = tmp_path / f"{turn}.json", tmp_path / f"heap{turn}"
            done = run_command("attach", target.pid, "-c", RATE_BYTES)
            assert done.returncode == 0, done.stderr
            assert "libmem_sampler" in storm(target, 2 + turn, out)
            for words in (("stop", target.pid, "-o", prefix), ("detach", target.pid)):
                done = run_command(*words)
                assert done.returncode == 0, done.stderr
            assert storm(target, 10 + turn, tmp_path / "unseen.json") == own
            [path] = tmp_path.glob(f"{prefix.name}*.heap")
            check_against(noted(out), read_profile(str(path)))
        target.finish()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("python", of_pythons())
def test_interpreters_that_begin_again_have_their_own_frames(
    python: str, form: str, tmp_path: Path
) -> None:
    profile = captured(str(build(python, tmp_path, form)), tmp_path, ROUNDS, home_of(python))
    found = stacks_of(profile, BLOCK_BYTES)
    assert found.pop((), 0) == ROUNDS  # without an interpreter
    seen: dict[str, list[tuple[int, ...]]] = {}
    for stack, count in found.items():
        assert [name for name, _, _ in stack] == ["work", "<module>"]
        [file] = {file for _, file, _ in stack}
        seen.setdefault(file, []).extend([tuple(line for _, _, line in stack)] * count)
    assert {file: sorted(lines) for file, lines in seen.items()} == {
        f"/made/round_{k}.py": sorted(
            [(3, 5 + k % 2), (4 + k % 2, 5 + k % 2)] * (2 if k >= 2 else 1)
        )
        for k in range(ROUNDS)
    }
    assert profile.capture.lost["python"] == 0


def place_of(elf: ELFFile, name: str) -> int:
    """Where the data of an exported symbol is in the file."""
    [symbol] = elf.get_section_by_name(".dynsym").get_symbol_by_name(name)
    [place] = elf.address_offsets(symbol["st_value"])
    return int(place)


def later(program: Path, folder: Path) -> list[str]:
    """The words that start a copy of the interpreter that says it is of a later version."""
    libraries = program.resolve().parents[1].glob("lib/libpython3.*.so.1.0")
    original = next(libraries, program.resolve())
    copy = folder / original.name
    shutil.copy(original, copy)
    with copy.open("r+b") as file:
        elf = ELFFile(file)
        places = place_of(elf, "Py_Version"), place_of(elf, "_PyRuntime") + len("xdebugpy")
        for place in places:
            file.seek(place)
            file.write(struct.pack("<Q", LATER))
    variables = [f"PYTHONHOME={home_of(program)}", f"LD_LIBRARY_PATH={folder}"]
    return [*variables, str(copy if original == program.resolve() else program)]


@pytest.mark.parametrize("version", of_versions(["3.13", "3.14", "3.15"], ends=True))
def test_a_later_version_is_read_as_it_says_or_has_native_frames_alone(
    version: str, tmp_path: Path
) -> None:
    out = tmp_path / "stacks.json"
    started = later(interpreter(version), tmp_path)
    script = (TARGETS / "python_stacks.py", out, 4000, 7)
    profile = captured("env", tmp_path, *started, *script)
    notes = " ".join(profile.capture.notes)
    if version != "3.15":  # its offsets are not where the newest known version has them
        assert profile.python is None
        assert re.search(r"Python 3\.16 is not known: .* native frames alone", notes)
        return
    check_against(noted(out), profile)
    assert "Python 3.16 is not known: Python frames are where it says itself" in notes
