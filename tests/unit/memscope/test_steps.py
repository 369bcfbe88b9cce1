"""Leaks by steps."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mem_parser.memscope.decompose import decomposed
from mem_parser.memscope.form import KERNEL_LAUNCH, canonical_event
from mem_parser.memscope.report import find_gaps
from mem_parser.memscope.steps import ended, find_step_leaks, lines, steps_of
from memscope_dumps import POOL_KEYS, Story

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
        "====== SUMMARY: 2 Mb(s) leaked in 1 allocation(s) ======",
    ]


def test_all_analyses_have_the_same_steps(tmp_path: Path) -> None:
    """A block of 1 MiB more is there at the end of each step."""
    story = Story()
    for step in range(1, 5):
        story.malloc(0x1000 * step, MIB, "PTA", step)
        story.add("SYSTEM", "STEP", str(step), device="N/A")
    rows = story.read(tmp_path)
    [pool] = decomposed(rows)
    assert [(step.name, step.end.total // MIB) for step in pool.sums.steps] == [
        ("1", 1), ("2", 2), ("3", 3), ("4", 4),
    ]  # fmt: skip
    [gaps] = find_gaps(rows)
    assert [(one.step, one.most_bytes // MIB) for one in gaps.steps] == [(2, 2), (3, 3), (4, 4)]
    [leaks] = find_step_leaks(rows)
    births = {one.step: int(rows.size[one.row]) // MIB for one in leaks.candidates}
    assert births == {2: 1, 3: 1}


class Told(NamedTuple):
    """An event of the definition: what, and where."""

    what: str
    device: str
    pid: int
    pool: str
    address: int


told_events = st.lists(
    st.builds(
        Told,
        what=st.sampled_from(["step", "end", "malloc", "malloc", "free", "shadow", "gone"]),
        device=st.sampled_from(["0", "1"]),
        pid=st.sampled_from([100, 101]),
        pool=st.sampled_from(["PTA", "ATB", "MINDSPORE", "HAL"]),
        address=st.integers(1, 2),
    ),
    max_size=40,
)


def by_definition(
    told: list[Told], device: str, *, calls: bool
) -> dict[int, tuple[int, int, bool]]:
    """Candidates of a device by the ID of the allocation: step, steps that it lasted, freed; from
    the tool's algorithm, event by event. A free takes back what it frees, up to the last end.
    """
    live: dict[tuple[object, ...], tuple[int, int, bool]] = {}
    candidates: dict[int, tuple[int, int]] = {}
    freed: set[int] = set()
    sure: set[int] = set()
    current = done = 0
    inside = False

    def ends(step: int) -> None:
        sure.update(freed)
        for number, made, counts in live.values():
            if counts and made > 1 and step - made >= 1:
                candidates[number] = (made, step - made)

    for number, event in enumerate(told, 1):
        if event.what == "step" and calls:
            done += 1
            ends(done)
            current = done + 1
        elif event.what == "step" and not inside:
            done += 1
            current, inside = done, True
        elif event.what == "end" and not calls and inside:
            ends(done)
            inside = False
        elif event.what in {"malloc", "shadow", "free"} and event.device == device:
            key = (event.pid, event.pool, event.address)
            if key in live:
                freed.add(live.pop(key)[0])
            if event.what != "free":
                counts = event.what == "malloc" and event.pool != "HAL"
                live[key] = (number, current, counts)
    return {k: (*v, k in sure) for k, v in candidates.items()}


def as_rows(told: list[Told], *, calls: bool) -> Story:
    """The same as rows; those of steps belong to no device."""
    story = Story()
    done, inside = 0, False
    for event in told:
        where = "N/A"
        keys, values = POOL_KEYS, (1, hex(event.address), 8, 8, 8)
        if event.what == "step" and (calls or not inside):
            done, inside = done + 1, True
            kinds = (
                ("SYSTEM", "STEP", str(done)) if calls else ("MSTX", "Range_start", "step start")
            )
            story.add(*kinds, device=where)
        elif event.what == "end" and not calls and inside:
            inside = False
            story.add("MSTX", "Range_end", "step start", device=where)
        elif event.what in {"free", "gone"}:
            if event.what == "gone":  # at the end of the collection, by the conversion
                keys, values = ("allocation_id", "addr", "size", "shadow"), (1, "0x1", 8, "true")
            story.add("FREE", event.pool, address=event.address, attributes=(keys, values),
                      device=event.device, pid=event.pid)  # fmt: skip
        elif event.what in {"malloc", "shadow"}:
            if event.what == "shadow":
                keys, values = ("allocation_id", "addr", "size", "shadow"), (1, "0x1", 8, "true")
            story.add("MALLOC", event.pool, address=event.address, attributes=(keys, values),
                      device=event.device, pid=event.pid)  # fmt: skip
        else:
            story.add("MSTX", "Mark", "other", device=where)
    return story


STEP = Told("step", "0", 100, "PTA", 1)
HELD, FREED, OF_BEFORE, GONE = (
    STEP._replace(what=what) for what in ("malloc", "free", "shadow", "gone")
)


@example([STEP, HELD, STEP, STEP, FREED], True, Random(1))
@example([STEP, STEP, OF_BEFORE, STEP, STEP], True, Random(1))
@example([STEP, HELD, STEP, STEP, OF_BEFORE, GONE], True, Random(1))
@example([STEP, HELD, STEP, GONE, STEP], True, Random(1))
@given(told_events, st.booleans(), st.randoms())
def test_candidates_are_those_of_the_definition(
    tmp_path_factory: pytest.TempPathFactory, told: list[Told], calls: bool, random: Random
) -> None:
    """Pools, addresses that come again, blocks from before, devices and processes in one file."""
    story = as_rows(told, calls=calls)
    random.shuffle(story.rows)
    rows = story.read(tmp_path_factory.mktemp("x"))
    found = {
        device.device: {
            int(rows.id[one.row]): (one.step, one.seen_steps, one.freed)
            for one in device.candidates
        }
        for device in find_step_leaks(rows)
    }
    assert found == {device: by_definition(told, device, calls=calls) for device in found}
    assert set(found) == {e.device for e in told if e.what in {"malloc", "free", "shadow", "gone"}}


def test_a_step_of_another_device_is_none_of_this_one(tmp_path: Path) -> None:
    story = Story()
    for step in range(1, 4):
        for device in ("0", "1"):
            story.malloc(0x1000 * step, MIB, "PTA", step)
            story.rows[-1] = story.rows[-1]._replace(device=device)
            story.add("SYSTEM", "STEP", str(step), device=device)
    rows = story.read(tmp_path)
    assert [(one.device, one.steps, [c.step for c in one.leaks])
            for one in find_step_leaks(rows)] == [("0", 3, [2]), ("1", 3, [2])]  # fmt: skip


def spans(story: Story, folder: Path) -> list[tuple[str, int, int]]:
    return [(step.name, step.begin, end) for step, end in ended(steps_of(story.read(folder)))]


def test_spans_of_steps_that_calls_end_begin_with_the_dump(tmp_path: Path) -> None:
    story = Story()
    story.malloc(0x1000, 8, "PTA")
    first = story.add("SYSTEM", "STEP", "5", device="N/A")
    story.malloc(0x2000, 8, "PTA")
    second = story.add("SYSTEM", "STEP", "6", device="N/A")
    story.malloc(0x3000, 8, "PTA")
    assert spans(story, tmp_path) == [("5", -1, first), ("6", first, second)]
    assert [step.number for step in steps_of(story.read(tmp_path))] == [5, 6, 7]


def test_spans_of_ranges_are_the_ranges(tmp_path: Path) -> None:
    story = Story()
    bounds = []
    for _ in range(2):
        story.malloc(0x1000, 8, "PTA")
        begin = story.add("MSTX", "Range_start", "step start", device="N/A")
        bounds.append((begin, story.add("MSTX", "Range_end", "step start", device="N/A")))
    story.add("MSTX", "Range_start", "step start", device="N/A")
    assert spans(story, tmp_path) == [("1", *bounds[0]), ("2", *bounds[1])]
