"""How far a pool's memory goes up and down in each step."""

from __future__ import annotations

from pathlib import Path

from mem_parser.memscope.gaps import find_gaps, table
from memscope_dumps import POOL_KEYS, Story

MIB = 1 << 20


def test_each_step_from_the_second_on_has_its_least_and_most(tmp_path: Path) -> None:
    story = Story()
    for step, values in enumerate(([1], [2, 8], [4, 5, 8], [3, 3]), 1):
        story.add("SYSTEM", "STEP", str(step))
        for used in values:
            row = (1, "0x1", 8, used * MIB, 9 * MIB)
            story.add("MALLOC", "PTA", address=1, attributes=(POOL_KEYS, row))
    (gaps,) = find_gaps(story.read(tmp_path))
    assert [(one.step, one.least_bytes // MIB, one.most_bytes // MIB) for one in gaps.steps] == [
        (2, 2, 8), (3, 4, 8), (4, 3, 3),
    ]  # fmt: skip
    assert (gaps.lowest.step, gaps.highest.step) == (2, 4)
    assert [one.split() for one in table(gaps)] == [
        [
            "=======",
            "Pytorch",
            "Caching",
            "memory",
            "Gap",
            "Analysis",
            "of",
            "Device",
            "0",
            "=======",
        ],
        ["MinAlloc/MaxAlloc(%)", "MinAllocMem(MB)", "StepId"],
        ["MinGap", "25.0000", "2.0000", "2"],
        ["MaxGap", "100.0000", "3.0000", "4"],
    ]


def test_a_dump_without_steps_has_no_gaps(tmp_path: Path) -> None:
    story = Story()
    story.malloc(1, 8, "PTA")
    assert find_gaps(story.read(tmp_path)) == []
