"""The Python stacks of a capture, as names and lines, by the size of what they allocated."""

import json
from collections import Counter
from pathlib import Path

from controller_tools import run_command
from mem_parser.model import Profile
from mem_parser.readers import read_profile

BLOCK_BYTES = 3000001
RATE_BYTES = 65536  # so that each of them is a sample, and few others are
MOST_WITHOUT = 200
Stack = tuple[tuple[str, str, int], ...]


def captured(
    python: str, folder: Path, *arguments: object, variables: dict[str, str] | None = None
) -> Profile:
    """The profile of a run in which every block of BLOCK_BYTES is sampled."""
    words = ("run", "-c", RATE_BYTES, "-o", folder / "x", "--", python, *arguments)
    done = run_command(*words, variables=variables)
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


def noted(out: Path) -> Counter[Stack]:
    """What a target of the tests wrote down: how often each stack of callers of `grab` came."""
    expected: Counter[Stack] = Counter()
    for frames, count in json.loads(out.read_text()):
        expected[tuple((name, file, line) for name, file, line in frames)] += count
    return expected


def check_against(
    expected: Counter[Stack], profile: Profile, most_without: int = MOST_WITHOUT
) -> int:
    """Each stack as often as Python itself saw it; few blocks have none. How many have none."""
    found = stacks_of(profile, BLOCK_BYTES)
    without = found.pop((), 0)
    assert {stack[0][0].rpartition(".")[2] for stack in found} == {"grab"}
    callers = Counter({stack[1:]: count for stack, count in found.items()})
    assert callers.total() + without == expected.total()
    assert not callers - expected, list((callers - expected).items())[:3]
    lost = profile.capture.lost  # a busy machine may give the segment its pages too late
    counted = lost["python"] + lost["stack_table_full"] + lost["stack_sites_full"]
    assert without <= counted < most_without, (without, lost)
    return without
