"""Profiles of several processes and hosts, added up."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import strategies
from heapfiles import HeapFile, Record, module_of
from mem_parser import merge
from mem_parser.heapfile.writer import write_heap
from mem_parser.leaks.findings import LeakReport
from mem_parser.leaks.judged import judged_together
from mem_parser.leaks.verdicts import find_leaks
from mem_parser.merge import Merger
from mem_parser.mergedtimes import AGES_LEFT_OUT, PEAKS_AT_MOST, PEAKS_LEFT_OUT, held_together
from mem_parser.model import Count, PeakSource, Profile, Reading, Unit
from mem_parser.readers import read_bytes
from mem_parser.symbols.cache import SymbolCache
from mem_parser.symbols.embed import embedded_names
from mem_parser.symbols.embedded import EmbeddedFrame
from mem_parser.symbols.symbolizer import name_addresses
from mem_parser.writers.collapsed import write_collapsed
from merge_by_dictionaries import DictionaryFrames, DictionarySites
from python_profiles import label_tables, python_trees
from simulated import OPEN_BOUNDS_S, filled_cache, worker

ONE, TWO = 0x5500_0000_0000, 0x7E12_3456_7000
ID = "cd" * 20


def module(bias: int, path: str = "/opt/server", build_id: str = ID) -> dict[str, Any]:
    code = [[bias + 0x1000, bias + 0x9000, 0x1000]]
    return module_of(path, bias, bias + 0x9000, build_id=build_id, exec=code)


def host(bias: int, rate: int = 4096, name: str = "web1", **where: str) -> Profile:
    frames = (bias + 0x1400, bias + 0x1501, bias + 0x1601)
    records = [Record(frames, 10, 1000, 4, 400), Record(frames[:2], 3, 3 * 70000)]
    header = {"host": name, "exe": "/opt/server", "samples": 13, "duration_s": 2.0}
    file = HeapFile(records, rate=rate, modules=[module(bias, **where)], header=header)
    return read_bytes(file.data, "x")


def merged(*profiles: Profile) -> Profile:
    merger = Merger()
    for k, profile in enumerate(profiles):
        merger.add(profile, f"file {k}")
    return read_bytes(write_heap(merger.result()), "merged")


def offsets(profile: Profile) -> list[list[int]]:
    bias = profile.modules[0].bias or 0
    bounds = profile.stacks.offsets.tolist()
    frames = [f - bias for f in profile.stacks.frames.tolist()]
    return [frames[a:b] for a, b in itertools.pairwise(bounds)]


def test_equal_stacks_of_two_hosts_are_one_however_the_loader_placed_them() -> None:
    total = merged(host(ONE), host(TWO, name="web2"))
    assert offsets(total) == [[0x1400, 0x1501, 0x1601], [0x1400, 0x1501]]
    assert total.sites.alloc_blocks.tolist() == [20, 6]
    assert total.sites.inuse_bytes.tolist() == [1200, 6 * 70000]
    assert total.capture.notes == ["merged from 2 files of web1, web2"]
    assert (total.capture.samples, total.capture.exe) == (26, "/opt/server")


def test_peaks_that_are_left_out_are_said_to_be() -> None:
    peaked = host(ONE)
    peaked.capture.peak_bytes, peaked.capture.peak_source = 5e6, PeakSource.SAMPLER
    assert merged(peaked, host(TWO)).capture.notes[1:] == [PEAKS_LEFT_OUT]
    assert merged(peaked).capture.peak_bytes == 5e6


def test_another_build_of_the_same_path_stays_apart() -> None:
    total = merged(host(ONE), host(ONE, build_id="ef" * 20))
    assert (len(total.modules), len(total.stacks)) == (2, 4)


def test_without_build_ids_paths_decide() -> None:
    same = merged(host(ONE, build_id=""), host(TWO, build_id=""))
    other = merged(host(ONE, build_id=""), host(TWO, build_id="", path="/opt/other"))
    assert (len(same.stacks), len(other.stacks)) == (2, 4)


@pytest.mark.parametrize("rates", [(4096, 4096), (1024, 65536), (1, 4096)])
def test_estimates_and_variances_of_the_sum_are_the_sums(rates: tuple[int, int]) -> None:
    files = [host(ONE, rates[0]), host(TWO, rates[1])]
    total = merged(*files)
    for count in (Count.INUSE, Count.ALLOC):
        for unit in Unit:
            parts = [f.total(count, unit) for f in files]
            whole = total.total(count, unit)
            assert whole.value == pytest.approx(sum(p.value for p in parts))
            error = math.hypot(*(p.std_error for p in parts))
            assert whole.std_error == pytest.approx(error)
            assert whole.samples == sum(p.samples for p in parts)


def test_part_one_of_a_file_of_mixed_rates_holds_estimates() -> None:
    merger = Merger()
    for profile in (host(ONE, 1024), host(TWO, 65536)):
        merger.add(profile, "x")
    result = merger.result()
    first = write_heap(result).splitlines()[0]
    blocks = int(first.split()[2].rstrip(b":"))
    assert first.endswith(b"@ heapprofile")
    assert blocks == pytest.approx(result.total(Count.INUSE, Unit.OBJECTS).value, abs=4)


def test_merging_merged_files_changes_nothing() -> None:
    parts = [host(ONE, 1024), host(TWO, 65536), host(ONE + 0x1000000, 1024)]
    at_once = merged(*parts)
    in_steps = merged(merged(*parts[:2]), parts[2])
    assert at_once.capture.notes[1].startswith("sampled at 1 KiB to 64 KiB")
    for unit in Unit:
        one, two = at_once.total(Count.ALLOC, unit), in_steps.total(Count.ALLOC, unit)
        assert (one.value, one.std_error) == pytest.approx((two.value, two.std_error))
    assert offsets(at_once) == offsets(in_steps)


def test_jemalloc_files_of_two_runs_meet_by_path_and_offset() -> None:
    def dump(base: int) -> Profile:
        text = (
            f"heap_v2/4096\n  t*: 3: 300 [0: 0]\n@ {base + 0x1501:#x} {base + 0x1601:#x}\n"
            f"  t*: 3: 300 [0: 0]\n\nMAPPED_LIBRARIES:\n"
            f"{base + 0x1000:x}-{base + 0x9000:x} r-xp 00001000 08:01 7  /opt/server\n"
        )
        return read_bytes(text.encode(), "x")

    total = merged(dump(ONE), dump(TWO))
    assert total.sites.inuse_blocks.tolist() == [6]
    assert (total.exact_samples, total.has_alloc) == (False, False)
    both = merged(dump(ONE), host(TWO, build_id=""))
    assert len(both.modules) == 1
    assert both.stacks.leaf_exact is False


def test_names_given_by_files_survive() -> None:
    text = b"main;beta 10\nmain;alpha 20\n"
    total = merged(read_bytes(text, "x"), read_bytes(text, "y"), host(ONE))
    symbols = name_addresses(total, cache=SymbolCache(None)).spell()
    lines = write_collapsed(total, symbols, Count.INUSE, Unit.SPACE).splitlines()
    assert {"main;alpha 40", "main;beta 20"} <= set(lines)


def test_lost_stacks_stay_lost() -> None:
    lost = read_bytes(HeapFile([Record((1,), 1, 10, lost_cause=2), Record((), 1, 10)]).data, "x")
    jemalloc = read_bytes(b"heap_v2/64\n@ 0x1 0x2\n  t*: 1: 2 [3: 4]\n", "y")
    for total in (merged(lost, lost), merged(lost, jemalloc)):
        symbols = name_addresses(total, cache=SymbolCache(None)).spell()
        names = {f.name for f in symbols.functions}
        assert {"[stack lost: table full]", "[no stack]"} <= names


def test_memory_depends_on_what_is_distinct_only() -> None:
    merger = Merger()
    for k in range(50):
        merger.add(host(ONE + k * 0x100000), str(k))
    assert len(merger._sites) == 2
    assert merger._frames.frames == 3


def test_embedded_names_follow_their_addresses() -> None:
    profile = host(ONE)
    names = name_addresses(profile, cache=SymbolCache(None))
    profile.embedded = embedded_names(names)
    assert profile.embedded.frames == {}
    profile.embedded.frames[0, ONE + 0x1500] = (EmbeddedFrame("beta", "beta(int)", "b.c", 7),)
    total = merged(profile, host(TWO))
    found = name_addresses(total, cache=SymbolCache(None)).spell()
    assert [f.full_name for f in found.functions if f.known] == ["beta(int)"]


@given(st.lists(strategies.heap_files, min_size=1, max_size=3))
def test_any_files_add_up(files: list[HeapFile]) -> None:
    profiles = [read_bytes(f.data, "x") for f in files]
    total = merged(*profiles)
    value = sum(p.total(Count.ALLOC, Unit.SPACE).value for p in profiles)
    assert total.total(Count.ALLOC, Unit.SPACE).value == pytest.approx(value, rel=0.01, abs=1)
    assert np.all(total.sites.inuse_blocks <= total.sites.alloc_blocks)


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    """Profiles of the formats that differ in what a merge looks at: modules, names, leaves, rates,
    device counts, counts beyond all bounds.
    """
    kind = draw(st.sampled_from(["plain", "plain", "jemalloc", "collapsed"]))
    if kind == "collapsed":
        names = st.lists(st.sampled_from("abc"), min_size=2, max_size=4).map(";".join)
        lines = draw(st.lists(st.tuples(names, st.integers(1, 99)), min_size=1))
        return read_bytes("".join(f"{n} {c}\n" for n, c in lines).encode(), "x")
    places = st.integers(0, 20).map(lambda k: ONE + 0x1000 + k) | st.sampled_from(
        [1, 2, (1 << 64) - 1]
    )
    frames = st.lists(places, max_size=4)
    if kind == "jemalloc":
        stacks = draw(st.lists(frames.filter(bool), min_size=1))
        text = "".join(
            f"@ {' '.join(map(hex, s))}\n  t*: 3: {300 * len(s)} [0: 0]\n" for s in stacks
        )
        maps = f"\nMAPPED_LIBRARIES:\n{ONE + 0x1000:x}-{ONE + 0x9000:x} r-xp 00001000 08:01 7  /a\n"
        return read_bytes(f"heap_v2/4096\n  t*: 3: 300 [0: 0]\n{text}{maps}".encode(), "x")
    base = draw(st.sampled_from([ONE, TWO, 0]))
    records = [
        dataclasses.replace(
            draw(strategies.records()),
            frames=tuple(f - ONE + base if f > 2 and f < 1 << 63 else f for f in draw(frames)),
            lost_cause=draw(st.sampled_from([0, 0, 2])),
        )
        for _ in range(draw(st.integers(0, 6)))
    ]
    build = draw(st.sampled_from([ID, "", "ef" * 20]))
    file = HeapFile(
        records, rate=draw(st.sampled_from([1, 64, 4096])), modules=[module(base, build_id=build)]
    )
    profile = read_bytes(file.data, "x")
    if draw(st.booleans()):
        profile.python = draw(python_trees(6))
        numbers = st.integers(0, len(profile.python))
        profile.stacks.interpreter = np.array(
            [draw(numbers) for _ in range(len(profile.stacks))], dtype=np.uint32
        )
    if draw(st.booleans()):
        profile.labels = draw(label_tables(4))
        numbers = st.integers(0, len(profile.labels))
        profile.stacks.label = np.array(
            [draw(numbers) for _ in range(len(profile.stacks))], dtype=np.uint32
        )
    if draw(st.booleans()):
        columns = ("failed_blocks", "failed_bytes", "inuse_taken_bytes", "alloc_taken_bytes")
        for name in columns[: draw(st.sampled_from([2, 4]))]:
            values = draw(st.lists(st.integers(0, 1 << 62), min_size=6, max_size=6))
            setattr(profile.sites, name, np.array(values[: len(records)], dtype=np.int64))
    return profile


@given(st.lists(profiles(), min_size=2, max_size=4))
def test_columns_give_the_very_file_that_dictionaries_give(files: list[Profile]) -> None:
    def written() -> bytes:
        merger = Merger()
        for profile in files:
            merger.add(profile, "x")
        return write_heap(merger.result())

    with (
        mock.patch.object(merge, "MergedFrames", DictionaryFrames),
        mock.patch.object(merge, "MergedSites", DictionarySites),
    ):
        expected = written()
    assert written() == expected


def leaks_of(profile: Profile) -> LeakReport:
    return find_leaks(profile, name_addresses(profile, cache=SymbolCache(None)).spell())


def test_a_leak_too_thin_in_each_worker_is_the_leak_of_the_service() -> None:
    """What four processes leak is the sum of it, and its error that of the sum."""
    random = np.random.default_rng(4)
    parts = [worker(random, shift_s=0.1 * k, rate=0.4) for k in range(4)]
    total = merged(*parts)
    assert not any(leaks_of(p).leaks for p in parts)
    found = leaks_of(total).leaks
    assert [f.frames[0].function for f in found] == ["leak"]
    growths = [
        next(f.per_hour for f in leaks_of(p).findings if f.frames[0].function == "leak")
        for p in parts
    ]
    growth = found[0].per_hour
    assert growth is not None
    assert growth.value == pytest.approx(sum(g.value for g in growths if g))
    assert growth.std_error == pytest.approx(math.hypot(*(g.std_error for g in growths if g)))
    assert total.capture.end == "deadline"


@pytest.mark.parametrize(("ends", "of_all"), [
    (("exited", "signal 9 SIGKILL", "exited"), "target ended"),
    (("exited", "exited"), "exited"),
    (("exited", "deadline", "exited"), "deadline"),
    (("exited", "", "exited"), ""),
])  # fmt: skip
def test_workers_that_ended_in_different_ways_have_ended(
    ends: tuple[str, ...], of_all: str
) -> None:
    one = worker(np.random.default_rng(4))
    captures = [dataclasses.replace(one.capture, pid=k, end=end) for k, end in enumerate(ends)]
    parts = [dataclasses.replace(one, capture=capture) for capture in captures]
    assert merged(*parts).capture.end == of_all


def test_what_each_worker_fills_or_frees_is_no_leak_of_the_service() -> None:
    random = np.random.default_rng(5)
    parts = [worker(random, filled_cache(random, 80, 20 + 3 * k, "cache")) for k in range(4)]
    assert [f.frames[0].function for f in leaks_of(merged(*parts)).leaks] == ["leak"]


def test_processes_that_freed_all_as_they_ended_count_with_what_they_held_before() -> None:
    random = np.random.default_rng(6)
    parts = [worker(random) for _ in range(4)]
    for part in parts[1:]:
        sites = part.sites
        held = {"blocks": sites.inuse_blocks, "bytes": sites.inuse_bytes, "births": sites.births,
                "live_births": sites.live_births, "oldest_s": sites.oldest_birth_s}  # fmt: skip
        for name, column in held.items():
            setattr(sites, f"before_end_{name}", column)
        sites.inuse_blocks, sites.inuse_bytes = (0 * sites.inuse_blocks for _ in range(2))
        sites.live_births = np.zeros_like(sites.births)
        part.capture.before_end_at_s = 59.5
    total = merged(*parts)
    before = total.before_end
    assert before is not None
    held_bytes = [(p.before_end or p).total(Count.INUSE, Unit.SPACE).value for p in parts]
    assert before.total(Count.INUSE, Unit.SPACE).value == pytest.approx(sum(held_bytes))
    report = leaks_of(total)
    assert [f.frames[0].function for f in (*report.leaks, *report.held)] == ["leak"]


def test_caches_that_fill_in_turn_are_no_leak_of_the_service_but_one_worker_s_leak_is() -> None:
    """Their sum grows as steadily as a leak: only each process by itself tells."""
    random = np.random.default_rng(8)
    parts = []
    for k in range(4):
        cache = filled_cache(random, 150, 15, "cache")
        cache.born = cache.born + 14 * k
        parts.append(worker(random, cache, rate=6.0 if k == 2 else 0.4))
    whole = leaks_of(merged(*parts))
    assert {f.frames[0].function for f in whole.leaks} == {"cache", "leak"}
    assert any("one process after another" in note for note in whole.notes)
    judged_together(whole, [(part, leaks_of(part)) for part in parts])
    assert [f.frames[0].function for f in whole.leaks] == ["leak"]
    assert "one process after another" in whole.findings[1].evidence


@pytest.mark.parametrize("other", ["later", "shorter", "other buckets", "no ages", "a part"])
def test_ages_of_captures_of_another_time_are_left_out_and_said_to_be(other: str) -> None:
    random = np.random.default_rng(7)
    one, two = worker(random), worker(random, shift_s=10.0 * (other == "later"))
    if other == "shorter":
        two.capture.duration_s = 50.0
    if other == "other buckets":
        two.capture.bucket_end_s = [*OPEN_BOUNDS_S, None]
    if other == "no ages":
        two.sites.live_births = None
    if other == "a part":
        two.capture.part_s = (0.0, 60.0)
    total = merged(one, two)
    assert (total.sites.births, total.series) == (None, [])
    assert AGES_LEFT_OUT in total.capture.notes


def test_the_peak_of_all_is_that_of_the_sum_of_readings_below_the_sum_of_peaks() -> None:
    """Two processes that hold much in turn hold less together than their peaks."""
    parts = [worker(np.random.default_rng(k)) for k in range(2)]
    for part, held in zip(parts, ([10e6, 1e6, 2e6], [1e6, 10e6, 2e6]), strict=True):
        part.series = [Reading(20.0 * k, b, 3e3, 5, 1 << 20) for k, b in enumerate(held, 1)]
        part.capture.peak_bytes, part.capture.peak_source = 12 * 2**20, PeakSource.SAMPLER
    total = merged(*parts)
    assert [r.estimate_bytes for r in total.series] == [11e6, 11e6, 4e6]
    assert total.series[0].std_error_bytes == pytest.approx(3e3 * math.sqrt(2))
    assert {r.rss_bytes for r in total.series} == {None}  # pages that processes share count once
    assert (total.capture.peak_bytes, total.capture.peak_source) == (11e6, PeakSource.READING)
    assert total.capture.notes[1].endswith(f"; {PEAKS_AT_MOST.format(bound='24.00 MiB')}")


def of_lives(*lives: tuple[float, float, str, float, list[tuple[float, float]]]) -> Profile:
    """The sum of processes: start, duration, end, the peak, which came first, and readings."""
    parts = []
    for started, duration_s, end, peak, readings in lives:
        part = worker(np.random.default_rng(1))
        part.series = [Reading(t_s, held, 3e3, 5, None) for t_s, held in readings]
        part.capture = dataclasses.replace(
            part.capture, started=started, duration_s=duration_s, end=end,
            peak_bytes=peak, peak_at_s=readings[0][0] / 2, peak_source=PeakSource.SAMPLER,
        )  # fmt: skip
        parts.append(part)
    return merged(*parts)


def test_processes_that_began_later_and_ended_sooner_are_in_the_peak_of_all() -> None:
    """Two workers of a server, one after the other: neither its peak nor the sum of peaks."""
    total = of_lives(
        (100.0, 60.0, "exited", 5e6, [(10.0, 4e6), (50.0, 4e6)]),
        (120.0, 10.0, "exited", 9e6, [(4.0, 3e6), (8.0, 8e6)]),
        (140.0, 19.0, "signal 9 SIGKILL", 8e6, [(4.0, 7e6)]),
    )
    held = [(5.0, 5e6), (10.0, 4e6), (22.0, 13e6), (24.0, 7e6), (28.0, 12e6), (42.0, 12e6),
            (44.0, 11e6), (50.0, 11e6)]  # fmt: skip
    seen = {(round(r.t_s, 6), r.estimate_bytes) for r in total.series}
    assert seen >= set(held)
    capture = total.capture
    assert (capture.peak_bytes, capture.peak_at_s, capture.duration_s) == (13e6, 22.0, 60.0)
    two = next(r for r in total.series if r.t_s == 28.0)
    assert two.samples == 10
    assert two.std_error_bytes == pytest.approx(3e3 * math.sqrt(2))
    assert capture.notes[1] == (
        "all together held 12.40 MiB or more, 22.0 s after the first began; "
        + PEAKS_AT_MOST.format(bound="13.35 MiB")
    )
    assert AGES_LEFT_OUT in capture.notes


def test_memory_freed_between_two_readings_is_not_added_to_what_came_before_the_second() -> None:
    total = of_lives(
        (100.0, 60.0, "exited", 9e6, [(10.0, 8e6), (50.0, 1e6)]),
        (120.0, 10.0, "exited", 5e6, [(4.0, 3e6)]),
    )
    assert (total.capture.peak_bytes, total.capture.peak_at_s) == (9e6, 5.0)


@pytest.mark.parametrize("other", [
    (130.0, 60.0, "deadline", 9e6, [(4.0, 3e6)]),  # the first one went on meanwhile
    (161.0, 60.0, "deadline", 9e6, [(4.0, 3e6)]),  # after a gap
])  # fmt: skip
def test_what_nobody_captured_for_a_while_has_no_sum(other: Any) -> None:
    end = "deadline" if other[0] < 160.0 else "exited"
    total = of_lives((100.0, 60.0, end, 5e6, [(10.0, 4e6)]), other)
    assert (total.series, total.capture.peak_bytes) == ([], None)
    bound = "13.35 MiB" if other[0] < 160.0 else "8.583 MiB"
    assert total.capture.notes[1] == PEAKS_AT_MOST.format(bound=bound)


@pytest.mark.parametrize(("end", "held"), [("deadline", 60.0), ("exited", None)])
def test_a_process_that_goes_on_is_there_a_little_longer_than_its_capture(
    end: str, held: float | None
) -> None:
    """Captures of one command end one after another; an end of a life is exact."""
    random = np.random.default_rng(4)
    first, other = (worker(random) for _ in range(2))
    first.series = [Reading(1.0, 10.0, 0.0, 1, None), Reading(59.9, 100.0, 0.0, 1, None)]
    other.series = [Reading(1.0, 50.0, 0.0, 1, None), Reading(59.0, 60.0, 0.0, 1, None)]
    other.capture.duration_s, other.capture.end = 59.5, end
    assert held_together([first, other]) == [100.0, held]
