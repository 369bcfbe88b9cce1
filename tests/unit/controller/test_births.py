"""The time buckets of births: of a running capture as fine as of one that was to end now."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_segment import FakeSegment, site_key
from mem_profiler.profile.build import Ending, build
from mem_profiler.profile.target import Target
from mem_profiler.segment import births, layout
from mem_profiler.segment.file import Segment

NS = 10**9


@given(st.floats(0.001, 1e6))
def test_eight_buckets_are_over_when_a_known_time_is(seconds: float) -> None:
    unit_ns, end_ns = births.unit_ns(seconds), int(seconds * NS)
    assert unit_ns <= 2 * layout.BIRTH_UNIT_NS
    scale = births.scale_of((end_ns - 1) // unit_ns)
    assert scale % 8 == 0
    assert 7 * unit_ns << scale // 8 < end_ns <= 8 * unit_ns << scale // 8


@pytest.mark.parametrize("planned_s", [600.0, 86_400.0, None])
def test_a_look_at_a_long_capture_tells_ages_in_seven_parts_or_more_of_the_time_so_far(
    tmp_path: Path, planned_s: float | None
) -> None:
    fake = FakeSegment()
    fake.begin(seconds=planned_s)
    start_ns = int(fake.control["capture"][1]["start_ns"])
    with Segment.open(fake.save(tmp_path), writable=False) as segment:
        for now_s in (0.5, 30, 61, 75, 90, 400):
            ending = Ending("snapshot", "running", start_ns + round(now_s * NS))
            ends = build(segment, Target(None), ending)[0].capture.bucket_end_s
            bounds = [0.0, *(min(end or now_s, now_s) for end in ends)]
            parts = np.diff(bounds)
            assert (parts > 0).sum() >= 7, (now_s, ends)
            assert max(parts) <= now_s / 4, (now_s, ends)


@pytest.mark.parametrize("late_ns", [0, 2_000_000, 700_000_000])
def test_a_capture_that_is_stopped_after_its_time_has_the_buckets_of_its_time(
    tmp_path: Path, late_ns: int
) -> None:
    fake = FakeSegment()
    fake.begin(seconds=70)
    fake.site(site_key(fake.stack([5])), (30, 3000))
    slot = fake.control["capture"][1]
    slot["stop_ns"] = slot["deadline_ns"] + np.uint64(late_ns)
    with Segment.open(fake.save(tmp_path), writable=False) as segment:
        profile = build(segment, Target(None), Ending("stopped", "running", None))[0]
    assert profile.capture.bucket_end_s == [8.75, 17.5, 26.25, 35.0, 43.75, 52.5, 61.25, None]


def test_rows_of_several_scales_are_of_the_newest(tmp_path: Path) -> None:
    fake = FakeSegment()
    fake.begin()
    stack = fake.stack([5])
    for scale, counted in ((0, [1, 2, 3, 4, 5, 6, 7]), (2, [0, 0, 0, 0, 9, 0, 0])):
        row = fake.site_rows[fake.site(site_key(stack, shard=scale // 2), (30, 3000))]
        row["births"] = counted
        row["alloc_blocks"] |= np.uint64(scale << layout.SCALE_SHIFT)
    now_ns = int(fake.control["capture"][1]["start_ns"]) + 9 * layout.BIRTH_UNIT_NS
    with Segment.open(fake.save(tmp_path), writable=False) as segment:
        sites = build(segment, Target(None), Ending("snapshot", "running", now_ns))[0].sites
    assert sites.alloc_blocks.tolist() == [60]
    assert sites.births is not None
    assert sites.births.tolist() == [[3, 7, 5, 6, 16, 2, 0, 21]]
