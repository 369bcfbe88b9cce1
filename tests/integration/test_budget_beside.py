"""Memory that a program has beside its heap is held against a limit, from end to end."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from controller_tools import run_apart

MAPPER = """
import mmap, sys
held = mmap.mmap(-1, 16 << 20, flags=getattr(mmap, sys.argv[1]) | mmap.MAP_ANONYMOUS)
for at in range(0, len(held), 4096):
    held[at] = 1
"""


@pytest.mark.parametrize("kind", ["MAP_PRIVATE", "MAP_SHARED"])
def test_what_a_program_maps_beside_its_heap_is_held_against_the_limit(
    tmp_path: Path, kind: str
) -> None:
    check = tmp_path / "check.toml"
    for mib, code in ((16, 7), (64, 0)):
        check.write_text(f'[budget]\npeak = "{mib} MiB"\n')
        words = ("run", "--budget", check, "-o", tmp_path / "p", "--", sys.executable, "-c", MAPPER)
        done = run_apart(*words, kind)
        assert done.returncode == code, done.stderr
        assert ("shared memory beside it" in " ".join(done.stderr.split())) == bool(code)
