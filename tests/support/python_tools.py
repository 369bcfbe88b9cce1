"""Interpreters of this machine, captured, and the Python stacks of a profile."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from pathlib import Path

from controller_tools import ROOT, run_command
from mem_parser.model import Profile
from mem_parser.readers import read_profile

TARGETS = ROOT / "tests" / "targets"
BLOCK_BYTES = 3000001
RATE_BYTES = 65536  # so that each of them is a sample, and few others are
MINORS = (9, 10, 11, 12, 13, 14)
Stack = tuple[tuple[str, str, int], ...]


def pythons() -> list[str]:
    """One interpreter of each version that this machine has, and the system's own."""
    found = {sys.executable: None, "/usr/bin/python3": None}
    for minor in MINORS:
        kept = sorted(Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python3.{minor}"))
        named = shutil.which(f"python3.{minor}")
        found |= dict.fromkeys(str(path) for path in kept[-1:])
        found |= {named: None} if named and "pyenv" not in named else {}
    real: dict[str, str] = {}
    for path in found:
        if Path(path).exists():
            real.setdefault(str(Path(path).resolve()), path)
    return list(real.values())


def captured(python: str, folder: Path, *arguments: object) -> Profile:
    """The profile of a run in which every block of BLOCK_BYTES is sampled."""
    done = run_command("run", "-c", RATE_BYTES, "-o", folder / "x", "--", python, *arguments)
    assert done.returncode == 0, done.stderr
    [path] = folder.glob("x*.heap")
    return read_profile(str(path))


def stacks_of(profile: Profile, block_bytes: int) -> Counter[Stack]:
    """How often each Python stack allocated blocks of that size; innermost first."""
    python, sites = profile.python, profile.sites
    assert python is not None
    chosen = sites.alloc_bytes == block_bytes * sites.alloc_blocks
    found: Counter[Stack] = Counter()
    numbers = profile.stacks.interpreters[sites.stack[chosen]]
    for number, blocks in zip(numbers.tolist(), sites.alloc_blocks[chosen].tolist(), strict=True):
        nodes = python.outwards(number)
        rows = ((python.codes[int(python.code[k])], int(python.line[k])) for k in nodes)
        found[tuple((code.qualname, code.file, line) for code, line in rows)] += blocks
    return found
