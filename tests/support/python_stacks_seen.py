"""The Python stacks of a capture, as names and lines, by the size of what they allocated."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from controller_tools import run_command
from mem_parser.model import Profile
from mem_parser.readers import read_profile

BLOCK_BYTES = 3000001
RATE_BYTES = 65536  # so that each of them is a sample, and few others are
Stack = tuple[tuple[str, str, int], ...]


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
