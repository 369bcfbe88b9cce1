"""What a capture says of a limit: the value, its bounds, and why it must not pass."""

from __future__ import annotations

import dataclasses
import math

import pytest

from heapfiles import HeapFile, Record
from mem_parser.budget.measure import (
    highest,
    lost_share,
    measure,
    obstacle_of,
    peak_unseen,
    reading_note,
)
from mem_parser.budget.rules import Measure
from mem_parser.model import Count, Device, Profile, Reading
from mem_parser.readers import read_bytes
from mem_parser.unseen import BY_MMAP, NOTE, missing, unseen_bytes

KIB = 1024


def captured(
    blocks: int = 1000, freed: int = 0, *, series: tuple[float, ...] = (), **header: object
) -> Profile:
    """Blocks of a KiB, each of them sampled; readings of so many bytes one second apart."""
    records = [Record((1, 2), blocks, blocks * KIB, freed, freed * KIB)]
    given = {"samples": blocks, "duration_s": 10.0} | header
    profile = read_bytes(HeapFile(records, rate=1, header=given).data, "x")
    profile.series = [Reading(float(k), value, 0.0, 9, None) for k, value in enumerate(series)]
    return profile


def test_in_use_and_rate_are_those_of_the_counts() -> None:
    profile = captured(1000, 400)
    inuse = measure(profile, profile, Measure.INUSE).what
    rate = measure(profile, profile, Measure.ALLOC_RATE).what
    assert inuse is not None and rate is not None
    assert inuse.value == inuse.lower(0.05) == inuse.upper(0.05) == 600 * KIB
    assert rate.value == pytest.approx(1000 * KIB / 10)


@pytest.mark.parametrize("duration", [None, 0.0])
def test_without_a_duration_there_is_no_rate(duration: float | None) -> None:
    profile = captured(duration_s=duration)
    found = measure(profile, profile, Measure.ALLOC_RATE)
    assert found.what is None and "how long" in str(found.obstacle)


def test_what_the_file_does_not_hold_is_said_and_not_measured() -> None:
    profile = captured()
    assert measure(profile, None, Measure.INUSE).what is None
    profile.has_alloc = False
    assert measure(profile, profile, Measure.ALLOC_RATE).what is None
    assert "no peak" in str(measure(profile, profile, Measure.PEAK).obstacle)


def test_the_peak_is_the_highest_of_all_readings() -> None:
    profile = captured(1000, 900, series=(5.0, 700 * KIB, 20.0))
    found = measure(profile, profile, Measure.PEAK)
    assert found.what is not None and found.what.value == 700 * KIB
    assert found.notes == []


def test_too_few_readings_bound_the_peak_by_all_that_was_allocated() -> None:
    profile = captured(1000, 900, series=(100 * KIB,))
    found = measure(profile, profile, Measure.PEAK)
    assert found.what is not None
    assert (found.what.value, found.what.upper(0.05)) == (100 * KIB, 1000 * KIB)
    assert "the upper bound is all that was ever allocated" in found.notes[0]


def test_many_readings_lower_the_bound_only_as_often_as_the_total_is_replaced() -> None:
    still = captured(1000, series=(1000.0 * KIB,) * 500)
    busy = captured(100_000, 99_000, series=(1000.0 * KIB,) * 500)
    assert highest(still, still).readings == 21
    assert highest(busy, busy).readings > 400


def test_blocks_between_two_readings_are_in_the_total_alone() -> None:
    profile = captured(1000, 500, series=(5.0, 6.0, 7.0))
    assert peak_unseen(profile, 500 * KIB) == 0.0
    assert peak_unseen(profile, 800 * KIB) == 300 * KIB
    assert reading_note(profile, 800 * KIB) == ""  # the file has no peak by site
    sites = dataclasses.replace(
        profile.sites, peak_blocks=profile.sites.inuse_blocks, peak_bytes=profile.sites.inuse_bytes
    )
    peaked = dataclasses.replace(profile, sites=sites)
    assert "fell between two readings" in reading_note(peaked, 800 * KIB)
    assert reading_note(peaked, 510 * KIB) == ""


@pytest.mark.parametrize(("lost", "words"), [(0, None), (9, None), (11, "were lost")])
def test_more_than_a_hundredth_of_lost_samples_is_an_obstacle(lost: int, words: str | None) -> None:
    profile = captured(1000, lost={"reentry": lost, "stack_table_full": 500})
    assert lost_share(profile) == pytest.approx(lost / (1000 + lost))
    found = obstacle_of(profile)
    assert found is None if words is None else words in str(found)


def test_a_file_that_was_cut_or_tells_no_errors_is_an_obstacle() -> None:
    profile = captured()
    profile.incomplete = "cut at byte 7"
    assert "cut at byte 7" in str(obstacle_of(profile))
    other = dataclasses.replace(captured(), exact_samples=False, rate_bytes=512.0)
    assert "numbers of samples" in str(obstacle_of(other))
    assert obstacle_of(dataclasses.replace(other, rate_bytes=1.0)) is None
    assert math.isfinite(lost_share(captured(0)))


def test_an_allocator_that_the_sampler_did_not_see_is_an_obstacle_for_host_memory_alone() -> None:
    profile = captured()
    profile.capture.notes = ["another", NOTE + "it is a jemalloc"]
    assert obstacle_of(profile) == "the profile may lack the program's memory: it is a jemalloc"
    profile.capture.device = Device("cuda", 0, "device")
    assert obstacle_of(profile) is None


def test_anonymous_memory_bounds_what_a_library_may_hold_beside_the_profile() -> None:
    profile = captured(1000, 400)
    assert missing(profile.capture) == []
    profile.capture.notes = ["another", f"the allocator {BY_MMAP}"]
    assert missing(profile.capture) == profile.capture.notes[1:]
    assert obstacle_of(profile) is None
    assert unseen_bytes(profile, Count.INUSE) == math.inf
    profile.series = [
        Reading(float(k), 0.0, 0.0, 9, None, anon_bytes=held * KIB)
        for k, held in enumerate((50, 2000, 700))
    ]
    assert unseen_bytes(profile, Count.PEAK) == 1400 * KIB
    assert unseen_bytes(profile, Count.INUSE) == 100 * KIB
    assert unseen_bytes(profile, Count.ALLOC) == math.inf
    profile.capture.device = Device("cuda", 0, "device")
    assert missing(profile.capture) == []
