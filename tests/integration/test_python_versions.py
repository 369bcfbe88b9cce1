"""Python's frames in interpreters of an unknown version: found by what they say, or absent."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from controller_tools import run_command
from mem_parser.readers import read_profile
from python_stacks_seen import BLOCK_BYTES, RATE_BYTES, Stack, stacks_of
from pythons import interpreter
from sampler_run import TARGETS

LATER = 0x031000F0  # 3.16.0


def file_with_runtime(program: Path) -> Path:
    """The interpreter's own file: the program, or the library beside it."""
    libraries = program.resolve().parents[1].glob("lib/libpython3.*.so.1.0")
    return next(libraries, program.resolve())


def place_of(elf: ELFFile, name: str) -> int:
    """Where the data of an exported symbol is in the file."""
    [symbol] = elf.get_section_by_name(".dynsym").get_symbol_by_name(name)
    [place] = elf.address_offsets(symbol["st_value"])
    return int(place)


def later(program: Path, folder: Path) -> tuple[Path, list[str]]:
    """A copy of the interpreter that says it is of a later version, and how to start it."""
    original = file_with_runtime(program)
    copy = folder / original.name
    shutil.copy(original, copy)
    with copy.open("r+b") as file:
        elf = ELFFile(file)
        places = place_of(elf, "Py_Version"), place_of(elf, "_PyRuntime") + len("xdebugpy")
        for place in places:
            file.seek(place)
            file.write(struct.pack("<Q", LATER))
    home = subprocess.run(
        [program, "-c", "import sys; print(sys.base_prefix)"],
        capture_output=True, text=True, timeout=30, check=True,
    ).stdout.strip()  # fmt: skip
    variables = [f"PYTHONHOME={home}", f"LD_LIBRARY_PATH={folder}"]
    return (copy if original == program.resolve() else program), variables


@pytest.mark.parametrize("version", ["3.13", "3.14", "3.15"])
def test_a_later_version_is_read_as_it_says_or_has_native_frames_alone(
    version: str, tmp_path: Path
) -> None:
    program, variables = later(interpreter(version), tmp_path)
    out = tmp_path / "stacks.json"
    done = run_command(
        "run", "-c", RATE_BYTES, "-o", tmp_path / "x", "--",
        "env", *variables, program, TARGETS / "python_stacks.py", out, 4000, 7,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [path] = tmp_path.glob("x*.heap")
    profile = read_profile(str(path))
    expected: Counter[Stack] = Counter()
    for frames, count in json.loads(out.read_text()):
        expected[tuple((name, file, line) for name, file, line in frames)] += count
    notes = " ".join(profile.capture.notes)
    if version != "3.15":  # its offsets are not where the newest known version has them
        assert profile.python is None
        assert re.search(r"Python 3\.16 is not known: .* native frames alone", notes)
        return
    found = stacks_of(profile, BLOCK_BYTES)
    without = found.pop((), 0)
    callers = Counter({stack[1:]: count for stack, count in found.items()})
    assert callers.total() + without == expected.total() >= 4000
    assert not callers - expected, list((callers - expected).items())[:3]
    assert without < 200
    assert "Python 3.16 is not known: Python frames are where it says itself" in notes
