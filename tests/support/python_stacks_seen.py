"""The Python stacks of a capture, as names and lines, by the size of what they allocated."""

from __future__ import annotations

from collections import Counter

from mem_parser.model import Profile

BLOCK_BYTES = 3000001
RATE_BYTES = 65536  # so that each of them is a sample, and few others are
Stack = tuple[tuple[str, str, int], ...]


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
