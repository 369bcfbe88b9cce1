"""Replays of logs, against a ledger of dictionaries."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import DOMAINS, Ledger, Row, Site, log_of, programs, size_class, write_files
from mem_parser.errors import InputFileError, UsageProblem
from mem_parser.heapfile.writer import write_heap
from mem_parser.memlog.blocks import BlockKind
from mem_parser.memlog.filefacts import Hole
from mem_parser.memlog.livesites import Sites
from mem_parser.memlog.moments import count_peaks, live_at, peaks
from mem_parser.memlog.run import Run, read_log
from mem_parser.memlog.running import scan_all
from mem_parser.memlog.segments import segments_of
from mem_parser.memlog.series import Series, series
from mem_parser.memlog.window import window
from mem_parser.model import Count, Unit
from mem_parser.names import FrameRule
from mem_parser.python.splice import spliced
from mem_parser.readers import read_bytes
from mem_parser.reports.aggregate import GroupBy, sum_stacks
from mem_parser.symbols.cache import SymbolCache
from mem_parser.symbols.symbolizer import name_addresses
from memlogs import UNIT, events_of, writing

times = st.lists(st.integers(0, 100 * UNIT), max_size=4)


def found_sites(run: Run, sites: Sites) -> dict[Site, tuple[int, int]]:
    """Sites by the test's own numbers of stacks: the last digits of their outer frame."""
    offsets = run.stacks.offsets
    result = {}
    for key, blocks, size in zip(*(c.tolist() for c in sites), strict=True):
        stack, domain, cls = key >> 20, key >> 12 & 255, key & 4095
        outer = int(run.stacks.frames[offsets[stack + 1] - 1]) - 0x2000
        result[outer, domain, cls] = (blocks, size)
    return result


@given(programs(), times, times, st.booleans(), st.lists(st.integers(0, 100 * UNIT), min_size=1))
def test_what_is_live_at_any_moment_is_what_the_ledger_says(
    rows: list[Row], cuts: list[int], keyframes: list[int], shuffled: bool, asked: list[int]
) -> None:
    ledger = Ledger(rows)
    with log_of(ledger, cuts, keyframes, shuffled=shuffled) as run:
        asked = [min(t, run.end_ns) for t in asked]
        moments = live_at(run, asked)
        assert [m.time_ns for m in moments] == asked
        assert [found_sites(run, m.sites) for m in moments] == [ledger.at(t) for t in asked]
        assert all(m.sure for m in moments)


def check_series(ledger: Ledger, found: list[Series], interval: int) -> None:
    for domain, s in enumerate(found):
        end = max([0, *(r["time_ns"] for r in ledger.rows)]) + 1
        for k in range(len(s)):
            low = s.from_ns + k * interval
            moments = [
                (size, -time)
                for time, d, size in ledger.moments(low, min(low + interval, end))
                if d == domain
            ]
            top, at = max(moments)
            assert (s.max_bytes[k], s.max_at_ns[k]) == (top, -at)
            assert s.min_bytes[k] == min(moments)[0]
            assert s.begin_bytes[k] == moments[0][0]
        for count, kinds in ((s.births, (1,)), (s.deaths, (2, 3))):
            mine = [r for r in ledger.rows if r["domain"] == domain and r["kind"] in kinds]
            if 4 not in [r["kind"] for r in ledger.rows]:
                assert count.sum() == len(mine)


@given(
    programs(), times, times, st.booleans(), st.sampled_from([UNIT // 2, UNIT, 7 * UNIT, 99 * UNIT])
)
def test_the_maximum_of_every_interval_is_exact(
    rows: list[Row], cuts: list[int], keyframes: list[int], shuffled: bool, interval: int
) -> None:
    ledger = Ledger(rows)
    with log_of(ledger, cuts, keyframes, shuffled=shuffled) as run:
        found = series(run, interval)
        assert [s.domain for s in found] == list(DOMAINS)
        assert all(s.sure.all() for s in found)
        check_series(ledger, found, interval)


@given(programs(), times, st.integers(1, 9))
def test_parts_that_are_scanned_alone_give_the_same_series(
    rows: list[Row], cuts: list[int], size: int
) -> None:
    ledger = Ledger(rows)
    with pytest.MonkeyPatch.context() as patch, log_of(ledger, cuts, [], per_block=2) as run:
        patch.setattr("mem_parser.memlog.series.EVENTS_OF_A_TASK", size)
        patch.setattr(
            "mem_parser.memlog.series.scan_all", lambda tasks, _: scan_all(tasks[::-1], 1)[::-1]
        )
        check_series(ledger, series(run, UNIT), UNIT)


def test_worker_processes_give_the_same_series() -> None:
    rows = [
        {"time_ns": 10 * k, "kind": 1 if k % 3 else 2, "address": 16, "size_bytes": 100 + k % 7,
         "domain": 0, "stack": 0}
        for k in range(1, 200)
    ]  # fmt: skip
    ledger = Ledger(rows)
    with pytest.MonkeyPatch.context() as patch, log_of(ledger, [500, 900], []) as run:
        patch.setattr("mem_parser.memlog.series.EVENTS_OF_A_TASK", 20)
        alone, together = series(run, 100, jobs=1), series(run, 100, jobs=2)
    for name in ("max_bytes", "max_at_ns", "min_bytes", "births", "deaths", "max_std_error"):
        assert getattr(alone[0], name).tolist() == getattr(together[0], name).tolist()


@given(programs(), times, st.integers(0, 60 * UNIT), st.integers(0, 60 * UNIT))
def test_a_window_is_a_profile_of_its_births_and_its_last_and_highest_moment(
    rows: list[Row], cuts: list[int], one: int, other: int
) -> None:
    ledger = Ledger(rows)
    with log_of(ledger, cuts, []) as run:
        low, high = sorted((min(one, run.end_ns), min(other, run.end_ns)))
        for domain in range(len(DOMAINS)):
            profile = window(run, low, high, domain=domain)
            births: dict[Site, int] = {}
            for row in rows:
                if low < row["time_ns"] <= high and (row["kind"], row["domain"]) == (1, domain):
                    site = (row["stack"], domain, size_class(row["size_bytes"]))
                    births[site] = births.get(site, 0) + row["size_bytes"]
            assert profile.sites.alloc_bytes.sum() == sum(births.values())
            here = {k: v for k, v in ledger.at(high).items() if k[1] == domain}
            in_use = profile.total(Count.INUSE, Unit.SPACE)
            assert in_use.value == sum(size for _, size in here.values())
            assert in_use.std_error == 0
            tops = [(size, -t) for t, d, size in ledger.moments(low, high + 1) if d == domain]
            peak = profile.total(Count.PEAK, Unit.SPACE)
            assert peak.value == max(tops)[0] == profile.capture.peak_bytes
            assert profile.capture.peak_at_s == (-max(tops)[1] - low) / 1e9
            assert profile.sites.births is not None
            assert profile.sites.births.sum() == profile.sites.alloc_blocks.sum()
            refused = [r for r in rows if low < r["time_ns"] <= high and r["kind"] == 5]
            count = sum(r["domain"] == domain for r in refused)
            failed = profile.sites.failed_blocks
            assert (0 if failed is None else failed.sum()) == count


@given(programs(), st.integers(1, 60 * UNIT))
def test_blocks_still_live_are_in_the_bucket_of_their_birth(rows: list[Row], to_ns: int) -> None:
    ledger = Ledger(rows)
    with log_of(ledger, [], []) as run:
        to_ns = min(to_ns, run.end_ns)
        for domain in range(len(DOMAINS)):
            profile = window(run, 0, to_ns, domain=domain)
            early = any(r["time_ns"] == 0 for r in rows)
            assert profile.sites.live_births is not None
            if not early:
                in_use = profile.sites.inuse_blocks
                assert profile.sites.live_births.sum(axis=1).tolist() == in_use.tolist()


@given(programs(), st.sampled_from([16.0, 512.0]))
def test_estimates_weigh_before_they_add(rows: list[Row], rate: float) -> None:
    ledger = Ledger(rows)
    with log_of(ledger, [20 * UNIT], [], rates=(rate, 1.0)) as run:
        (found, _) = series(run, 10 * UNIT)
        peak = window(run).total(Count.PEAK, Unit.SPACE)
    best = int(np.argmax(found.max_bytes))
    live = [r for r in ledger.at(int(found.max_at_ns[best])).items() if r[0][1] == 0]
    value = variance = 0.0
    for _, (blocks, size) in live:
        mean = size / blocks
        p = 1 - np.exp(-max(mean, 1) / rate)
        value += size / p
        variance += blocks * mean**2 * (1 - p) / p**2
    assert found.max_bytes[best] == pytest.approx(value, rel=1e-4, abs=0.1)
    assert found.max_std_error[best] == pytest.approx(np.sqrt(variance), rel=1e-3, abs=3)
    assert peak.value == pytest.approx(value, rel=1e-4, abs=0.1)
    assert peak.std_error == pytest.approx(np.sqrt(variance), rel=1e-6, abs=1e-6)


@given(programs(), st.integers(0, 30 * UNIT), st.integers(0, 30 * UNIT), times)
def test_behind_a_hole_the_next_keyframe_makes_it_right_again(
    rows: list[Row], low: int, length: int, keyframes: list[int]
) -> None:
    ledger = Ledger(rows)
    high = low + length
    there = [r for r in rows if not low <= r["time_ns"] <= high]
    folder = Path(tempfile.mkdtemp(prefix="memlog-test-"))
    try:
        with writing(folder / "x", domains=DOMAINS, rates_bytes=(1.0, 1.0)) as writer:
            writer.append_stacks(write_stacks())
            for time in [0, *keyframes]:
                writer.append_keyframe(ledger.keyframe(time))
            writer.append_events(events_of(there))
            writer.append_hole(Hole(low, high, len(rows) - len(there)))
            writer.end(last=True)
        with read_log([folder / "x"]) as run:
            again = min((k for k in keyframes if k >= high), default=None)
            for time in {t for t, _ in ledger.states if 0 <= t <= run.end_ns} | {low, high}:
                if time > run.end_ns:
                    continue
                (moment,) = live_at(run, [time])
                known = time < low or (again is not None and time >= again)
                if known:
                    assert found_sites(run, moment.sites) == ledger.at(time)
                assert moment.sure == known or low == high == 0
            found = series(run, UNIT)
            for k in np.flatnonzero(found[0].sure).tolist():
                begin, end = k * UNIT, min((k + 1) * UNIT, run.end_ns + 1)
                tops = [s for _, d, s in ledger.moments(begin, end) if d == 0]
                assert found[0].max_bytes[k] == max(tops)
    finally:
        shutil.rmtree(folder)


def write_stacks() -> object:
    from memlogs import stack_table

    return stack_table([(0x1000, 0x2000 + s) for s in range(4)])


def births(count: int, step: int = 1000) -> list[Row]:
    return [
        {"time_ns": step * (k + 1), "kind": 1, "address": 16 * k, "size_bytes": 100, "stack": k % 4,
         "domain": 0, "birth_ns": step * (k + 1), "thread": 0}
        for k in range(count)
    ]  # fmt: skip


def test_a_missing_file_is_a_hole() -> None:
    ledger = Ledger(births(30))
    with log_of(ledger, [10_000, 20_000], [], left_out=(2,)) as run:
        assert [(h.from_ns, h.to_ns, h.lost) for h in run.holes] == [(10_000, 20_000, None)]
        assert "missing" in run.holes[0].why
        before, within, behind = live_at(run, [9_000, 15_000, 25_000])
        assert (before.sure, within.sure, behind.sure) == (True, False, True)
        assert behind.sites.blocks.sum() == 25
        assert not window(run).capture.complete


def test_without_its_first_files_a_log_begins_with_a_keyframe() -> None:
    ledger = Ledger(births(30))
    with log_of(ledger, [10_000, 20_000], [], left_out=(1, 2)) as run:
        assert run.begin_ns == 20_000
        assert live_at(run, [20_000])[0].sites.blocks.sum() == 20
        with pytest.raises(UsageProblem, match=r"what was in use at 0\.000 s"):
            live_at(run, [100])
        profile = window(run)
        assert profile.sites.alloc_blocks.sum() == 10
        assert profile.sites.inuse_blocks.sum() == 30


def test_a_window_is_a_profile_that_reports_and_heap_files_take() -> None:
    with log_of(Ledger(births(30)), [10_000], [], rates=(512.0, 1.0)) as run:
        profile = window(run, 5_000, 25_000)
    again = read_bytes(write_heap(profile), "x.heap")
    for count in (Count.INUSE, Count.PEAK):
        one, other = profile.total(count, Unit.SPACE), again.total(count, Unit.SPACE)
        assert (one.value, one.std_error) == (other.value, other.std_error)
        assert one.samples == 25
        assert one.std_error > 0
    assert again.total(Count.ALLOC, Unit.SPACE).samples >= 20
    assert again.capture.duration_s == 20e-6
    names = name_addresses(profile, cache=SymbolCache(None), debug_dirs=())
    sums = sum_stacks(
        profile, spliced(profile, names).spell(), count=Count.INUSE, unit=Unit.SPACE,
        rule=FrameRule.OWN, group=GroupBy.FUNCTION,
    )  # fmt: skip
    assert sums.total.value == profile.total(Count.INUSE, Unit.SPACE).value


def test_a_window_over_a_hole_ends_with_what_the_keyframe_behind_it_says() -> None:
    ledger = Ledger(births(30))
    with log_of(ledger, [10_000, 20_000], [], left_out=(2,)) as run:
        profile = window(run, 0, 25_000)
        assert profile.sites.alloc_blocks.sum() == 15
        assert profile.sites.inuse_blocks.sum() == 25
        assert profile.sites.peak_blocks is not None
        assert profile.sites.peak_blocks.sum() == 25


def test_a_cut_file_is_read_up_to_the_cut(tmp_path: Path) -> None:
    paths = write_files(tmp_path, Ledger(births(30)), [15_000], [])
    data = paths[0].read_bytes()
    paths[0].write_bytes(data[:-700])
    with read_log(paths) as run:
        assert [h.why for h in run.holes] == ["a file was cut"]
        (moment,) = live_at(run, [20_000])
        assert moment.sure
        assert moment.sites.blocks.sum() == 20


def test_a_damaged_block_is_a_hole_and_a_warning(tmp_path: Path) -> None:
    (path,) = write_files(tmp_path, Ledger(births(30)), [], [])
    with read_log([path]) as run:
        entry = run.files[0].entries(BlockKind.EVENTS)[2]
    data = bytearray(path.read_bytes())
    data[entry.offset + 20] ^= 4
    path.write_bytes(data)
    with read_log([path]) as run:
        assert [(h.from_ns, h.to_ns, h.lost) for h in run.holes] == [(11_000, 15_000, 5)]
        assert len(run.warnings) == 1
        assert [s.sure_until_ns for s in segments_of(run)] == [11_000]
        profile = window(run)
        assert profile.sites.alloc_blocks.sum() == 25
        assert "5 events are missing" in profile.capture.notes[-1]


def test_files_of_two_runs_are_refused(tmp_path: Path) -> None:
    for name, run in (("a", "1" * 32), ("b", "2" * 32)):
        with writing(tmp_path / name, 1, run=run) as writer:
            writer.end()
    with pytest.raises(InputFileError, match="different captures"):
        read_log([tmp_path / "a", tmp_path / "b"])
    with pytest.raises(InputFileError, match="both file 1"):
        read_log([tmp_path / "a", tmp_path / "a"])
    with pytest.raises(InputFileError):
        read_log([])


def test_too_many_intervals_are_refused() -> None:
    with log_of(Ledger(births(10, step=1 << 50)), [], []) as run, pytest.raises(UsageProblem):
        series(run, 1)


def simple_series(tops: list[float], lows: list[float], begins: list[float]) -> Series:
    count = len(tops)
    zero = np.zeros(count, dtype=np.int64)
    return Series(
        "host", 1.0, 0, 10, np.array(tops), np.arange(count) * 10, np.zeros(count),
        np.array(lows), np.array(begins), np.ones(count, dtype=np.bool_), zero, zero * 1.0, zero,
        zero * 1.0,
    )  # fmt: skip


def test_peaks_are_the_highest_of_the_maxima_that_stand_out() -> None:
    found = simple_series(
        [10, 50, 45, 47, 20, 80, 80, 30], [0, 10, 40, 20, 5, 10, 60, 30],
        [0, 10, 45, 44, 20, 10, 70, 60],
    )  # fmt: skip
    highest = peaks(found, 9)
    assert [(p.time_ns, p.live.value, p.prominence_bytes) for p in highest] == [
        (50, 80, 80), (60, 80, 10), (10, 50, 45), (30, 47, 7),
    ]  # fmt: skip
    assert [p.time_ns for p in peaks(found, 3)] == [50, 60, 10], "height counts, not prominence"
    assert count_peaks(found) == 4
    assert peaks(found, 0) == []


@pytest.mark.parametrize("count", [2, 8])
def test_the_true_peak_is_among_those_that_are_named(count: int) -> None:
    """Peaks of equal height and one far below, each of other blocks, as samples estimate them."""
    chance, rate, true, missed, rounds = np.random.default_rng(1), 1000.0, 1e5, 0, 1000
    for _ in range(rounds):
        heights = np.array([true] * count + [true / 4])
        tops = chance.poisson(heights / rate) * rate  # small blocks: each sample stands for T
        found = simple_series(tops.tolist(), [0.0] * (count + 1), [0.0] * (count + 1))
        found.rate_bytes, found.max_std_error = rate, np.sqrt(tops * rate)
        found.born_bytes = found.freed_bytes = tops
        highest = peaks(found, 1)[0]
        missed += 0 not in (highest.time_ns, *highest.rivals_ns)
        assert count * 10 not in highest.rivals_ns
    assert missed <= 0.06 * rounds


def test_peaks_over_the_same_blocks_are_told_apart() -> None:
    """What is live at both adds nothing to the error of their difference."""
    found = simple_series([1e6 + 50_000, 1e6 + 20_000], [9e5, 9e5], [9e5, 9e5])
    found.rate_bytes, found.max_std_error = 1000.0, np.sqrt(np.array([1e9, 1e9]))
    found.born_bytes = found.freed_bytes = np.array([30_000.0, 30_000.0])
    assert peaks(found, 1)[0].rivals_ns == ()
    found.born_bytes = np.array([3e6, 3e6])
    assert peaks(found, 1)[0].rivals_ns == (10,)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12))
def test_the_highest_maximum_is_always_a_peak(values: list[int]) -> None:
    tops = [float(v) for v in values]
    begins = [0.0, *(min(a, b) for a, b in itertools.pairwise(tops))]
    found = peaks(simple_series(tops, [0.0] * len(tops), begins), 3)
    if max(values):
        assert found[0].live.value == max(values)
        assert found[0].time_ns == 10 * values.index(max(values))
    assert all(p.prominence_bytes > 0 for p in found)
