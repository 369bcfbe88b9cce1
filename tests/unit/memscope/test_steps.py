"""Leaks by steps."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mem_parser.memscope.form import KERNEL_LAUNCH, canonical_event
from mem_parser.memscope.steps import find_step_leaks, lines, step_spans
from memscope_dumps import Story

MIB = 1 << 20


def begin(story: Story) -> None:
    story.add("MSTX", "Range_start", "step start")


def end(story: Story) -> None:
    story.add("MSTX", "Range_end", "step start")


def training() -> Story:
    """Four steps: a weight before, a warm-up block, a cache for two steps, and a leak."""
    story = Story()
    story.malloc(0x1000, 8 * MIB, "PTA", 1)
    for step in range(1, 5):
        begin(story)
        story.add("KERNEL_LAUNCH", "KERNEL_LAUNCH", "matmul")
        if step == 1:
            story.malloc(0x2000, MIB, "PTA", 2)
        if step == 2:
            story.malloc(0x3000, MIB, "PTA", 3)
            story.malloc(0x4000, 2 * MIB, "ATB", 4)
        if step == 4:
            story.free(0x3000, MIB, "PTA", 3)
        story.malloc(0x9000, MIB, "PTA", 10 + step)
        story.free(0x9000, MIB, "PTA", 10 + step)
        end(story)
    return story


def test_what_outlives_a_step_is_a_candidate_until_it_is_freed(tmp_path: Path) -> None:
    rows = training().read(tmp_path)
    (found,) = find_step_leaks(rows)
    assert (found.device, found.steps) == ("0", 4)
    assert [(int(rows.allocation[one.row]), one.step, one.seen_steps, one.freed) for one in
            found.candidates] == [(3, 2, 1, True), (4, 2, 2, False)]  # fmt: skip
    assert [int(rows.allocation[one.row]) for one in found.leaks] == [4]


def test_the_lines_are_those_of_the_tool(tmp_path: Path) -> None:
    rows = training().read(tmp_path)
    assert canonical_event("kernel_launch") == KERNEL_LAUNCH
    assert lines(rows, find_step_leaks(rows)) == [
        "====== ERROR: Detected memory leaks on device 0 ======",
        "Direct ATB memory pool leak of 2.000000 Mb(s) at 0x4000 in kernel_2 at step 2.",
        "====== SUMMARY: 2.000000 Mb(s) leaked in 1 allocation(s) ======",
    ]


def test_steps_of_the_python_interface_end_the_one_before(tmp_path: Path) -> None:
    story = Story()
    for step in range(1, 5):
        story.add("SYSTEM", "STEP", str(step))
        story.malloc(0x1000 * step, MIB, "PTA", step)
    rows = story.read(tmp_path)
    (found,) = find_step_leaks(rows)
    assert [(one.step, one.seen_steps) for one in found.leaks] == [(2, 1)]


events = st.lists(st.sampled_from(["step", "m1", "m2", "f1", "f2", "m1", "f1"]), max_size=30)


@settings(deadline=None)
@given(events)
def test_candidates_are_those_of_the_definition(
    tmp_path_factory: pytest.TempPathFactory, told: list[str]
) -> None:
    story = Story()
    live: dict[int, tuple[int, int]] = {}
    candidates: dict[int, tuple[int, int]] = {}
    freed: set[int] = set()
    step = 0
    for what in told:
        address = int(what[1:]) if what[1:].isdigit() else 0
        if what == "step":
            if step:
                for number, made in live.values():
                    if made > 1 and step - made >= 1:
                        candidates[number] = (made, step - made)
            step += 1
            story.add("SYSTEM", "STEP", str(step))
        elif what[0] == "m":
            if address in live:
                freed.add(live[address][0])
            live[address] = (story.malloc(address, 8, "PTA"), step)
        else:
            story.free(address, 8, "PTA")
            if address in live:
                freed.add(live.pop(address)[0])
    rows = story.read(tmp_path_factory.mktemp("x"))
    found = {
        int(rows.id[one.row]): (one.step, one.seen_steps, one.freed)
        for device in find_step_leaks(rows)
        for one in device.candidates
    }
    assert found == {k: (*v, k in freed) for k, v in candidates.items()}


def test_spans_of_steps_that_calls_end_begin_with_the_dump(tmp_path: Path) -> None:
    story = Story()
    story.malloc(0x1000, 8, "PTA")
    first = story.add("SYSTEM", "STEP", "5", device="N/A")
    story.malloc(0x2000, 8, "PTA")
    second = story.add("SYSTEM", "STEP", "6", device="N/A")
    story.malloc(0x3000, 8, "PTA")
    assert step_spans(story.read(tmp_path)) == [("5", -1, first), ("6", first, second)]


def test_spans_of_ranges_are_the_ranges(tmp_path: Path) -> None:
    story = Story()
    bounds = []
    for _ in range(2):
        story.malloc(0x1000, 8, "PTA")
        begin = story.add("MSTX", "Range_start", "step start", device="N/A")
        bounds.append((begin, story.add("MSTX", "Range_end", "step start", device="N/A")))
    story.add("MSTX", "Range_start", "step start", device="N/A")
    assert step_spans(story.read(tmp_path)) == [("1", *bounds[0]), ("2", *bounds[1])]
