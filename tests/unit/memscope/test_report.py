"""How far a pool's memory goes up and down in each step."""

from __future__ import annotations

from pathlib import Path

from mem_parser.memscope.report import find_gaps, table
from memscope_dumps import POOL_KEYS, Story

MIB = 1 << 20


def test_each_step_from_the_second_on_has_its_least_and_most(tmp_path: Path) -> None:
    story = Story()
    for step, values in enumerate(([1], [2, 8], [4, 5, 8], [3, 3], [1, 9]), 1):
        for used in values:
            row = (1, "0x1", 8, used * MIB, 9 * MIB)
            story.add("MALLOC", "PTA", address=1, attributes=(POOL_KEYS, row))
        if step < 5:  # the last one goes on
            story.add("SYSTEM", "STEP", str(step))
    (gaps,) = find_gaps(story.read(tmp_path))
    assert [(one.step, one.least_bytes // MIB, one.most_bytes // MIB) for one in gaps.steps] == [
        (2, 2, 8), (3, 4, 8), (4, 3, 3),
    ]  # fmt: skip
    assert (gaps.lowest.step, gaps.highest.step) == (2, 4)
    assert table(gaps) == [
        "======= Pytorch Caching memory pool Gap Analysis of Device 0 =======",
        "        MinAlloc/MaxAlloc(%)     MinAllocMem(MB)          StepId",
        "MinGap  25.0000                  2.0000                   2",
        "MaxGap  100.0000                 3.0000                   4",
    ]


def test_what_is_between_two_ranges_is_in_no_step(tmp_path: Path) -> None:
    story = Story()
    for values in ([1], [2, 4]):
        story.add("MSTX", "Range_start", "step start", device="N/A")
        for used in values:
            row = (1, "0x1", 8, used, 9)
            story.add("MALLOC", "PTA", address=1, attributes=(POOL_KEYS, row))
        story.add("MSTX", "Range_end", "step start", device="N/A")
        story.add("MALLOC", "PTA", address=1, attributes=(POOL_KEYS, (1, "0x1", 8, 99, 9)))
    (gaps,) = find_gaps(story.read(tmp_path))
    assert [(one.step, one.least_bytes, one.most_bytes) for one in gaps.steps] == [(2, 2, 4)]


def test_a_dump_without_steps_has_no_gaps(tmp_path: Path) -> None:
    story = Story()
    story.malloc(1, 8, "PTA")
    assert find_gaps(story.read(tmp_path)) == []
