"""What a target held at earlier moments: which are kept, and which one was before its end."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fake_segment import FakeSegment, site_key
from mem_profiler.capture.recorder import Recorder
from mem_profiler.profile import moments
from mem_profiler.profile.build import Ending, build
from mem_profiler.profile.target import Target
from mem_profiler.segment import layout
from mem_profiler.segment.file import Segment

NS = 10**9


class Process:
    """A fake target with one site, whose blocks in use are set from outside."""

    def __init__(self, path: Path) -> None:
        self.fake = FakeSegment()
        self.fake.begin()
        self.start_ns = int(self.fake.control["capture"][1]["start_ns"])
        self.row = self.fake.site(site_key(self.fake.stack([5])), (1000, 1_000_000), (0, 0))
        self.path = self.fake.save(path)
        self.segment = Segment.open(self.path, writable=True)
        self.recorder = Recorder(self.segment, 0)

    def hold(self, blocks: int, at_s: float, *, final: bool = False) -> None:
        """Read the target, which holds so many blocks of 1000 bytes."""
        row = self.fake.site_rows[self.row]
        row["freed_blocks"], row["freed_bytes"] = 1000 - blocks, (1000 - blocks) * 1000
        peak, held = self.fake.control["peak"][1], blocks * 1000 << layout.PART_BITS
        peak["capture"], peak["live_parts"] = 1, held
        peak["high_parts"] = max(held, int(peak["high_parts"]))
        self.path.write_bytes(self.fake.data.tobytes())
        self.tick(at_s, final=final)

    def tick(self, at_s: float, *, final: bool = False) -> None:
        """Read the target at that time of the capture."""
        self.recorder.tick(self.start_ns + round(at_s * NS), final=final)

    def kept(self) -> list[float]:
        """When the moments are that are kept."""
        return [moment[0].at_s for moment in self.recorder.readings.moments._kept]

    def ended(self, how: str = "exited 0") -> tuple[float | None, list[int] | None]:
        """The moment before the end, and the blocks in use then by site."""
        ending = Ending("capture", how, self.start_ns + 600 * NS)
        host, *_ = build(self.segment, Target(None), ending, self.recorder.readings)
        found = host.sites.before_end_blocks
        return host.capture.before_end_at_s, None if found is None else found.tolist()


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Process:
    monkeypatch.setattr(moments, "COST_SHARE", 1e9)
    return Process(tmp_path)


def test_what_was_held_before_all_was_freed_is_kept(process: Process) -> None:
    process.hold(800, 1)
    process.hold(900, 2)
    process.hold(3, 2.01, final=True)
    assert process.ended() == (2.0, [900])


@pytest.mark.parametrize(
    ("at_peak", "peak_s", "left", "known"),
    [
        (1000, 99, 3, 1000),
        (950, 99, 3, 950),
        (500, 99, 3, 0),  # any half of them was freed
        (1000, 99, 600, None),
        (1000, 10, 3, None),  # freed long before the end
    ],
)
def test_of_a_program_that_nobody_watched_the_peak_is_what_it_held(
    process: Process,
    at_peak: int,
    peak_s: int,
    left: int,
    known: int | None,
) -> None:
    row, peak = process.fake.site_rows[process.row], process.fake.control["peak"][1]
    row["peak"] = 7 << 32 | at_peak
    peak["epoch"], peak["high_ns"] = 7, process.start_ns + peak_s * NS
    process.fake.control["exited_ns"] = process.start_ns + 100 * NS
    process.hold(left, 100)
    peak["live_parts"] = 0  # the sites remember the peak
    process.path.write_bytes(process.fake.data.tobytes())
    host, *_ = build(process.segment, Target(None), Ending("recovered", "exited"))
    assert host.capture.duration_s == 100
    births, blocks = host.sites.before_end_live_births, host.sites.before_end_blocks
    assert (None if blocks is None else blocks.tolist()) == (None if known is None else [at_peak])
    assert (None if births is None else int(births.sum())) == known


def test_a_moment_in_the_midst_of_freeing_is_passed_over(process: Process) -> None:
    process.hold(900, 1)
    for tenth, left in enumerate((800, 700, 600, 500, 300), 17):
        process.hold(left, tenth / 10)
    process.hold(200, 2.2, final=True)
    assert process.ended() == (1.0, [900])


def test_what_was_freed_for_good_is_no_clean_up(process: Process) -> None:
    process.hold(900, 1)
    for tenth in range(20, 60):
        process.hold(500, tenth / 10)
    process.hold(0, 6.05, final=True)
    at_s, blocks = process.ended()
    assert at_s is not None
    assert at_s > 5.5
    assert blocks == [500]


def test_a_spike_in_the_midst_of_a_short_capture_is_not_its_end(process: Process) -> None:
    process.hold(100, 1)
    process.hold(900, 3)
    for tenth in range(31, 60):
        process.hold(130, tenth / 10)
    process.hold(20, 6.0, final=True)
    assert 3 in process.kept()
    at_s, blocks = process.ended()
    assert at_s is not None
    assert at_s > 5
    assert blocks == [130]


def test_growth_brings_the_next_moment_forward(process: Process) -> None:
    process.hold(100, 100)
    process.hold(110, 101)
    process.hold(126, 102)
    process.hold(150, 103)
    process.hold(900, 103.1)
    process.hold(1000, 103.3)
    assert process.kept() == [100, 102, 103.1]


def test_reading_them_costs_no_more_than_its_share(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count(step=1 / 4)  # each reading takes a quarter of a second of a core
    monkeypatch.setattr(moments, "COST_SHARE", 0.02)
    monkeypatch.setattr("time.thread_time", lambda: next(clock))
    for second in range(1, 100):
        process.hold(10 * second, second)
    assert process.kept() == [13, 25, 38, 50, 63, 75, 88][-moments.MOST :]


@pytest.mark.parametrize("how", ["deadline", "stopped", "running", "interrupted", "section ended"])
def test_a_program_that_goes_on_has_no_time_before_its_end(process: Process, how: str) -> None:
    process.hold(900, 1)
    process.hold(3, 2, final=True)
    assert process.ended(how) == (None, None)


def test_a_program_that_still_holds_most_did_not_free_at_its_end(process: Process) -> None:
    process.hold(900, 1)
    process.hold(450, 2, final=True)
    assert process.ended("signal 9 SIGKILL") == (None, None)


def test_moments_are_rare_and_few(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    real = moments.read_held
    monkeypatch.setattr(moments, "read_held", lambda *words: read.append(words[-1]) or real(*words))
    for tenth in range(1, 2000):
        process.tick(tenth / 10)
    assert len(read) < 100
    assert all(later >= earlier * 1.06 for earlier, later in itertools.pairwise(read[10:]))
    kept = process.recorder.readings.moments._kept
    assert process.kept() == read[-moments.MOST :]
    assert read[-1] > 199.9 / 1.07
    monkeypatch.setattr(moments, "MOST_BYTES", 3 * kept[0][0].memory_bytes)
    process.tick(300)
    assert len(kept) == 3
    monkeypatch.setattr(moments, "MOST_BYTES", 1)
    process.tick(400)
    assert not kept
    count = len(read)
    process.tick(4000)
    assert len(read) == count


def test_reading_them_makes_other_readings_no_rarer(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    used_s = [0.0]

    def read_held(*_: Any) -> moments.Held:
        used_s[0] += 60
        return real(*_)

    real = moments.read_held
    monkeypatch.setattr(moments, "read_held", read_held)
    monkeypatch.setattr("time.thread_time", lambda: used_s[0])
    process.hold(900, 1)
    assert process.kept() == [1]
    assert process.recorder.due_in() < 1


def test_another_capture_begins_anew(process: Process) -> None:
    process.hold(900, 1)
    assert process.recorder.readings.moments.before_end(2, 0, 0) is None
    held = process.recorder.readings.moments.before_end(1, 0, 0)
    assert held is not None
    assert np.array_equal(held.births.sum(axis=1), [1000])


def test_columns_of_before_the_end_have_the_buckets_of_the_whole_capture(
    process: Process,
) -> None:
    slot, row = process.fake.control["capture"][1], process.fake.site_rows[process.row]
    slot["birth_unit_ns"] = NS
    row["births"] = 0
    for second in range(1, 8):
        row["alloc_blocks"], row["births"][second - 1] = 10 * second, 10
        process.hold(1000, second)
    process.hold(3, 8.5, final=True)
    ending = Ending("capture", "exited 0", process.start_ns + round(8.5 * NS))
    host, *_ = build(process.segment, Target(None), ending, process.recorder.readings)
    assert host.capture.before_end_at_s == 7
    assert host.capture.bucket_end_s == [2, 3, 4, 5, 6, 7, 8, None]
    assert host.sites.births is not None
    assert host.sites.births.tolist() == [[20, 10, 10, 10, 10, 10, 0, 0]]
    assert host.sites.before_end_births is not None
    assert host.sites.before_end_births.tolist() == [[20, 10, 10, 10, 10, 10, 0, 0]]


@pytest.mark.parametrize("bound", ["SITE_ROWS_MAX", "LIVE_ROWS_MAX"])
def test_tables_of_a_size_that_no_honest_target_needs_are_not_read(
    process: Process, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    process.hold(900, 1)
    monkeypatch.setattr(moments, bound, 1)
    monkeypatch.setattr(moments, "read_held", None)
    process.hold(900, 2)
    process.hold(3, 2.01, final=True)
    assert process.ended() == (None, None)
