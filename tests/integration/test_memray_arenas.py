"""Small objects in `mem_profiler.memray_api` beside memray itself: the arenas they lie in."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from mem_parser.readers import read_profile

pytestmark = [
    pytest.mark.usefixtures("sampler", "segment_dir", "quick_helper"),
    pytest.mark.timeout(180),
]

SMALL = """
import json
def work():
    return [(str(k), str(-k)) for k in range(200_000)]
with memray.Tracker("out.bin"):
    kept = work()
    more = [float(k) for k in range(200_000)]
    del more
with memray.FileReader("out.bin") as r:
    single = list(r.get_allocation_records())
    left = {}
    for one in r.get_leaked_allocation_records(merge_threads=True):
        line = one.stack_trace()[0][2]
        left[line] = left.get(line, 0) + one.size
    given_back = [one for one in single if one.allocator == memray.AllocatorType.MUNMAP]
    arenas = [one for one in single if one.allocator == memray.AllocatorType.MMAP]
    print(json.dumps([
        sum(one.size for one in arenas), {one.size for one in arenas} == {arenas[0].size},
        bool(given_back), left.get(6, 0), r.metadata.peak_memory,
        r.metadata.trace_python_allocators,
    ]))
"""


@pytest.mark.skipif(importlib.util.find_spec("memray") is None, reason="memray is missing")
def test_small_objects_are_in_the_arenas_that_memray_shows(tmp_path: Path) -> None:
    theirs, ours = map(json.loads, both(tmp_path, SMALL))
    some = 3 << 20  # what is free in arenas that are there before
    assert ours[1:3] == theirs[1:3] == [True, True]
    assert ours[5] is theirs[5] is False
    for of_theirs, of_ours in zip((theirs[0], *theirs[3:5]), (ours[0], *ours[3:5]), strict=True):
        assert of_theirs > 10 * some
        assert abs(of_theirs - of_ours) < some, (theirs, ours)
    profile = read_profile(str(tmp_path / "mem_profiler.memray_api" / "out.bin"))
    assert "as the arenas taken for them" in profile.capture.notes[0]
