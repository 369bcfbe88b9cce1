"""The peak of a segment: which count of a site was live at the highest total."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_segment import FakeSegment, site_key
from mem_profiler.capture.recorder import Recorder
from mem_profiler.profile import tables
from mem_profiler.segment import layout, peaks
from mem_profiler.segment.file import Segment

EPOCH = 5000


@pytest.fixture
def fake() -> FakeSegment:
    made = FakeSegment()
    made.begin()
    kept = made.control["peak"][1]
    kept["capture"], kept["epoch"] = 1, EPOCH
    kept["high_parts"], kept["live_parts"] = 10_000, 100
    return made


def peak_of(fake: FakeSegment, folder: Path) -> tables.Tables:
    with Segment.open(fake.save(folder), writable=False) as segment:
        control = segment.control()
        return tables.read_tables(segment, control, peaks.peak_of(control))


def columns(found: tables.Tables) -> tuple[list[int], list[int]]:
    blocks, size = found.sites.peak_blocks, found.sites.peak_bytes
    assert blocks is not None
    assert size is not None
    return blocks.tolist(), size.tolist()


def test_a_site_that_changed_since_has_its_count_in_its_word(
    fake: FakeSegment, tmp_path: Path
) -> None:
    row = fake.site(site_key(fake.stack([5])), (10, 1000), (9, 900))
    fake.site_rows[row]["peak"] = EPOCH << 32 | 7
    assert columns(peak_of(fake, tmp_path)) == ([7], [700])


def test_a_site_that_did_not_change_since_has_what_it_had(
    fake: FakeSegment, tmp_path: Path
) -> None:
    row = fake.site(site_key(fake.stack([5])), (10, 1010), (4, 400))
    fake.site_rows[row]["peak"] = EPOCH - 1 << 32 | 3
    assert columns(peak_of(fake, tmp_path)) == ([6], [610])


def test_the_shards_of_a_site_are_added_up(fake: FakeSegment, tmp_path: Path) -> None:
    stack = fake.stack([5])
    for shard, blocks in ((0, 2), (1, 5)):
        row = fake.site(site_key(stack, shard=shard), (10, 1000))
        fake.site_rows[row]["peak"] = EPOCH << 32 | blocks
    assert columns(peak_of(fake, tmp_path)) == ([7], [700])


def test_a_total_above_the_remembered_one_is_the_peak(fake: FakeSegment, tmp_path: Path) -> None:
    row = fake.site(site_key(fake.stack([5])), (10, 1000), (1, 100))
    fake.site_rows[row]["peak"] = EPOCH << 32 | 2
    fake.control["peak"][1]["live_parts"] = 1 << 30
    assert columns(peak_of(fake, tmp_path)) == ([9], [900])


def test_a_word_that_makes_no_sense_says_no_more_than_there_ever_was(
    fake: FakeSegment, tmp_path: Path
) -> None:
    row = fake.site(site_key(fake.stack([5])), (10, 1000))
    fake.site_rows[row]["peak"] = EPOCH << 32 | 0xFFFFFFFF
    assert columns(peak_of(fake, tmp_path)) == ([10], [1000])


@pytest.mark.parametrize(("field", "value"), [("capture", 2), ("high_parts", -1)])
def test_a_peak_that_nobody_kept_is_none(
    fake: FakeSegment, tmp_path: Path, field: str, value: int
) -> None:
    fake.site(site_key(fake.stack([5])), (10, 1000))
    fake.control["peak"][1][field] = value
    found = peak_of(fake, tmp_path)
    assert found.sites.peak_blocks is None


def test_counts_of_frees_that_wrapped_are_whole(fake: FakeSegment, tmp_path: Path) -> None:
    alloc = (1 << 33) + 5
    row = fake.site(site_key(fake.stack([5])), (alloc, alloc * 100))
    fake.site_rows[row]["freed_blocks"] = (alloc - 3) & 0xFFFFFFFF
    fake.site_rows[row]["freed_bytes"] = (alloc - 3) * 100
    found = peak_of(fake, tmp_path)
    assert (found.sites.inuse_blocks.tolist(), found.sites.inuse_bytes.tolist()) == ([3], [300])


def test_the_last_bucket_has_the_births_that_no_other_has(
    fake: FakeSegment, tmp_path: Path
) -> None:
    row = fake.site(site_key(fake.stack([5])), (10, 1000))
    fake.site_rows[row]["births"] = [1, 2, 0, 0, 0, 0, 3]
    found = peak_of(fake, tmp_path)
    assert found.sites.births is not None
    assert found.sites.births.tolist() == [[1, 2, 0, 0, 0, 0, 3, 4]]


def test_a_reading_of_rows_of_several_moments_is_at_most_the_peak(
    fake: FakeSegment, tmp_path: Path
) -> None:
    fake.site(site_key(fake.stack([5])), (10, 1000))
    with Segment.open(fake.save(tmp_path), writable=False) as segment:
        recorder = Recorder(segment, os.getpid(), reserves=False)
        recorder.tick(time.monotonic_ns())
        assert recorder.latest is not None
        highest = 10_000 / (1 << layout.PART_BITS)
        assert recorder.latest.estimate_bytes == round(highest, 1) < 1000


@given(st.integers(0, 1 << 50))
def test_classes_grow_in_steps_of_a_1024th(total: int) -> None:
    step = 1 << layout.PEAK_STEP_BITS
    assert peaks.epoch_of(total) <= peaks.epoch_of(total + 1) <= peaks.epoch_of(total) + 1
    assert peaks.epoch_of(total + total // step + 1) > peaks.epoch_of(total)
    assert peaks.epoch_of(-total) == 0


def test_an_empty_table_has_no_columns_to_fill() -> None:
    assert peaks.columns(np.empty((0, 5), np.uint64), {}, np.empty(0, np.uint64)).shape == (0, 2)
