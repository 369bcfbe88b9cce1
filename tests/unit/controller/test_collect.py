"""Tables of a segment as arrays: rows that are one site, rows that make no sense, live blocks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_segment import FakeSegment, site_key
from mem_profiler.segment import arena, collect, layout
from mem_profiler.segment.file import Segment


@contextlib.contextmanager
def read(fake: FakeSegment, folder: Path) -> Iterator[Segment]:
    with Segment.open(fake.save(folder), writable=False) as segment:
        yield segment


@pytest.fixture
def fake() -> FakeSegment:
    segment = FakeSegment()
    segment.begin(rate=512)
    return segment


counts = st.tuples(st.integers(1, 100), st.integers(0, 10_000))
rows = st.tuples(st.integers(1, 3), st.integers(0, 2), st.integers(0, 7), counts, counts)


@given(st.lists(rows, max_size=30))
def test_rows_of_one_site_add_up_and_never_free_more_than_they_took(
    tmp_path: Path, rows: list[tuple[int, int, int, tuple[int, int], tuple[int, int]]]
) -> None:
    fake = FakeSegment()
    fake.begin()
    sums: dict[tuple[int, int], list[int]] = {}
    for stack, size_class, shard, alloc, freed in rows:
        fake.site(site_key(100 + stack, size_class, shard=shard), alloc, freed)
        total = sums.setdefault((100 + stack, size_class), [0, 0, 0, 0])
        # Frees that were read before their allocations leave no block of their row.
        total[0], total[1] = total[0] + alloc[0], total[1] + alloc[1]
        total[2], total[3] = total[2] + min(freed[0], alloc[0]), total[3] + freed[1]
    with read(fake, tmp_path) as segment:
        found = collect.read_sites(segment, segment.control(), 1)
        quick = collect.read_quick(segment, segment.control(), 1)

    assert found.keys.tolist() == sorted({site_key(*k) & layout.SITE_MASK for k in sums})
    assert found.skipped == 0
    assert int(found.alloc_blocks.sum()) == quick.samples == sum(v[0] for v in sums.values())

    for k, key in enumerate(found.keys.tolist()):
        alloc_blocks, alloc_bytes, freed_blocks, freed_bytes = next(
            v for s, v in sums.items() if site_key(*s) & layout.SITE_MASK == key
        )
        assert int(found.alloc_blocks[k]) == alloc_blocks
        assert int(found.live_blocks[k]) == max(alloc_blocks - freed_blocks, 0)
        left = max(alloc_bytes - freed_bytes, 0) if freed_blocks < alloc_blocks else 0
        assert int(found.live_bytes[k]) == left


@pytest.mark.parametrize(
    ("alloc", "freed"),
    [((collect.BLOCKS_MAX + 1, 1), (0, 0)), ((1, collect.BYTES_MAX + 1), (0, 0)), ((0, 5), (0, 0))],
)
def test_a_row_that_makes_no_sense_is_left_out_and_counted(
    fake: FakeSegment, tmp_path: Path, alloc: tuple[int, int], freed: tuple[int, int]
) -> None:
    fake.site(site_key(100), (2, 200))
    forged = fake.site_rows[fake.site(site_key(101), (1, 1), freed)]
    forged["alloc_blocks"], forged["alloc_bytes"] = alloc
    with read(fake, tmp_path) as segment:
        found = collect.read_sites(segment, segment.control(), 1)
        quick = collect.read_quick(segment, segment.control(), 1)
    assert (found.skipped, found.alloc_blocks.tolist()) == (1, [2])
    assert quick.blocks.tolist() == [2]


def test_live_rows_are_believed_only_when_they_are_settled(
    fake: FakeSegment, tmp_path: Path
) -> None:
    key = site_key(100)
    fake.live(16, key, 40, age_s=3.0, thread=2)
    fake.live(33, key, 41)  # claimed, not published
    fake.live(48, site_key(100, capture=2), 42)  # of another capture
    fake.live(64, key, 44, thread=layout.THREAD_ROWS)  # a thread that cannot be
    with read(fake, tmp_path) as segment:
        control = segment.control()
        found = collect.read_live(segment, control, 1)
        start_ns = int(control.capture["start_ns"])
    assert found.size_bytes.tolist() == [40]
    assert found.thread.tolist() == [2]
    assert (int(found.birth_ns[0]) - start_ns) / 1e9 == pytest.approx(3.0, abs=0.01)


@given(st.integers(0, 1 << 62), st.integers(0, 1 << 30))
def test_a_birth_is_right_wherever_the_clock_of_the_machine_is(start_ns: int, ticks: int) -> None:
    """Within 2^31 counts of the start, also where the low 32 bits of the clock turn over."""
    packed = np.zeros(1, layout.LIVE_ROW)
    start = start_ns >> layout.LIVE_BIRTH_SHIFT
    packed["birth"] = (start + ticks) & 0xFFFFFFFF
    birth = int(collect._unpacked(packed, start_ns)["birth_ns"][0])
    assert birth >> layout.LIVE_BIRTH_SHIFT == start + ticks


def test_stacks_come_in_the_order_asked_for_and_lost_ones_say_why(
    fake: FakeSegment, tmp_path: Path
) -> None:
    one, two = fake.stack([1, 2, 3], truncated=1, generation=4), fake.stack([9])
    beyond = int(fake.control["arena_cursor"]) // 8
    ids = np.array([two, 2, one, beyond, 1 << 25], np.int64)
    with read(fake, tmp_path) as segment:
        found = arena.read_stacks(arena.read_arena(segment, segment.control()), ids)
    assert found.depths.tolist() == [1, 1, 3, 1, 1]
    assert found.frames.tolist() == [9, 1, 1, 2, 3, 1, 1]
    lost = [int(flags) >> 8 for flags in found.flags]
    assert lost == [0, 2, 0, layout.STACK_UNREADABLE, layout.STACK_UNREADABLE]
    assert (int(found.flags[2]), int(found.generation[2])) == (1, 4)


def test_stacks_that_overlap_stand_for_no_more_memory_than_there_is(tmp_path: Path) -> None:
    fake = FakeSegment()
    fake.begin()
    honest = [fake.stack([1, 2, 3]), fake.stack([4, 5])]
    first = fake.stack(list(range(500)))
    words = fake.data[fake.offset_of(layout.STACKS) :].view(np.uint64)
    head = words[first : first + 4].copy()
    for step in range(8, 400, 8):  # every one of these claims the frames of those behind it
        words[first + step : first + step + 4] = head
    ids = np.array([*honest, *range(first, first + 400, 8)], np.int64)
    with Segment.open(fake.save(tmp_path), writable=False) as segment:
        stacks = arena.read_stacks(arena.read_arena(segment, segment.control()), ids)
    assert stacks.depths[:3].tolist() == [3, 2, 500]
    assert set(stacks.depths[3:].tolist()) == {1}
    assert len(stacks.frames) < 600


def test_only_published_modules_that_make_sense_are_read(fake: FakeSegment, tmp_path: Path) -> None:
    fake.module(b"/good.so (deleted)", 0x1000, 0x2000, bias=0x1000)
    fake.module(b"/empty.so", 0x2000, 0x2000)
    fake.module(b"/unpublished.so", 0x3000, 0x4000)
    fake.modules[2]["published"] = 0
    fake.module(b"/forged.so", 0x5000, 0x6000)
    fake.modules[3]["exec"][0]["end"] = 0
    fake.module(b"/many.so", 0x7000, 0x8000)
    fake.modules[4]["exec_ranges"], fake.modules[4]["build_id_bytes"] = 0, 1 << 30
    with read(fake, tmp_path) as segment:
        good, many = collect.read_modules(segment, segment.control())
    assert (good.path, good.deleted, good.bias, good.last_generation) == (
        "/good.so", True, 0x1000, None)  # fmt: skip
    assert good.build_id == "abcd0001"
    assert [(r.start, r.end) for r in many.ranges] == [(0x7000, 0x8000)]
    assert len(many.build_id) <= 64


def test_more_threads_than_there_is_room_for_are_not_read(
    fake: FakeSegment, tmp_path: Path
) -> None:
    fake.thread(7, b"worker")
    fake.control["thread_count"] = 1 << 31
    with read(fake, tmp_path) as segment:
        found = collect.read_threads(segment, segment.control())
    assert (found[1].tid, found[1].name) == (7, "worker")
    assert len(found) <= layout.THREAD_ROWS
