"""What is resident and swapped of the blocks in use: its estimate, and its way through reports."""

from __future__ import annotations

import dataclasses
import gzip
import json
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from heapfiles import HeapFile, Record
from mem_parser.counts import PRESENCE
from mem_parser.diff import diff_profiles
from mem_parser.domains import join
from mem_parser.errors import InputFileError, UsageProblem
from mem_parser.estimate import interval95, sampling_probability, unsample_part, unseen_bytes
from mem_parser.filters import Filters, check_count, of_threads
from mem_parser.heapfile.writer import write_heap
from mem_parser.merge import Merger
from mem_parser.model import Capture, Count, Profile, Unit
from mem_parser.processfacts import Memory
from mem_parser.readers import read_bytes
from mem_parser.reports.header import header_lines
from mem_parser.reports.opening import opening
from mem_parser.reports.rss import account_lines
from mem_parser.reports.view import make_view
from mem_parser.rss import account
from mem_parser.tree import BYTES, BYTES_VARIANCE, build_tree
from mem_parser.web.facts import memory_account
from mem_parser.writers.rows import write_json
from mem_parser.writers.speedscope import write_speedscope
from parser_run import parse, report
from reportview import named

PAGE = 4096
STACKS = (("malloc net_read serve main", 100), ("malloc db_get serve main", 40),
          ("calloc parse main", 4))  # fmt: skip
SIZES = ((900, 24000), (50000, 440), (1 << 20, 21))
Floats = npt.NDArray[np.float64]


def population(random: np.random.Generator) -> tuple[Floats, Floats]:
    """Sizes of all blocks, and what of each is resident: all, nothing, or single pages."""
    size = np.repeat([float(s) for s, _ in SIZES], [n for _, n in SIZES])
    pages = np.ceil(size / PAGE)
    some = random.binomial(pages.astype(int), 0.25)
    touched = np.choose(random.integers(0, 3, len(size)), [pages, np.zeros(len(size)), some])
    return size, np.minimum(touched * PAGE, size)


def drawn(
    random: np.random.Generator, size: Floats, part: Floats, rate: int
) -> tuple[float, float, int]:
    """The estimate of one capture, its variance and its samples, of records by size."""
    taken = random.random(len(size)) < sampling_probability(size, rate)
    record = np.searchsorted([s for s, _ in SIZES], size[taken])

    def sums(of: Floats) -> Floats:
        return np.bincount(record, of, len(SIZES))

    y, blocks = part[taken], np.bincount(record, minlength=len(SIZES))
    value, variance = unsample_part(sums(y), sums(y * y), blocks, sums(size[taken]), rate)
    return float(value.sum()), float(variance.sum()), int(taken.sum())


@pytest.mark.parametrize("rate", [1024, 65536])
def test_95_of_100_captures_are_within_their_interval_of_the_truth(rate: int) -> None:
    random = np.random.default_rng(rate)
    size, part = population(random)
    found = np.array([drawn(random, size, part, rate) for _ in range(400)])
    value, variance, samples = found.T
    truth = float(part.sum())
    ends = interval95(value, variance, samples, unseen_bytes(rate))
    covered = np.mean((ends.lower <= truth) & (truth <= ends.upper))
    assert covered >= 0.93  # two standard errors of 400 draws below 0.95
    plain = np.abs(value - truth) <= 1.96 * np.sqrt(variance)
    assert 0.92 <= plain.mean() <= 0.98
    error = math.sqrt(variance.mean() / len(value))
    assert abs(value.mean() - truth) < 4 * error
    assert np.mean((value - truth) ** 2) == pytest.approx(variance.mean(), rel=0.25)


def test_the_chance_of_a_block_is_of_its_size_and_not_of_its_part() -> None:
    value, variance = unsample_part([3000.0], [5e6], [2], [2 * 65536], 65536)
    p = 1 - math.exp(-1)
    assert value.tolist() == pytest.approx([3000 / p])
    assert variance.tolist() == pytest.approx([5e6 * (1 - p) / p**2])
    none, without = unsample_part([3000.0], [5e6], [0], [0], 65536)
    assert (none.tolist(), without.tolist()) == ([0], [0])


def with_parts(profile: Profile, *, swapped: int = 0, huge: int = 0) -> Profile:
    """Half of each record is resident; of the first one ``huge`` bytes of that are on huge pages,
    and ``swapped`` of the rest are swapped.
    """
    half = profile.sites.inuse_bytes // 2
    away, large = np.zeros((2, len(half)), np.int64)
    away[0], large[0] = swapped, huge
    sites = dataclasses.replace(
        profile.sites,
        resident_bytes=half, resident_squares=half.astype(np.float64) ** 2,
        swapped_bytes=away, swapped_squares=away.astype(np.float64) ** 2,
        huge_bytes=large, huge_squares=large.astype(np.float64) ** 2,
    )  # fmt: skip
    return dataclasses.replace(profile, sites=sites)


@pytest.fixture
def known() -> Profile:
    return with_parts(named(STACKS, rate=64)[0], swapped=10, huge=20)


def test_blocks_of_resident_are_those_in_use(known: Profile) -> None:
    assert known.has(Count.RESIDENT)
    for unit in (Unit.OBJECTS, Unit.SPACE):
        assert known.total(Count.RESIDENT, unit).samples == known.total(Count.INUSE, unit).samples
    objects = [known.total(c, Unit.OBJECTS) for c in (Count.RESIDENT, Count.SWAPPED, Count.INUSE)]
    assert objects[0] == objects[1] == objects[2]
    half, whole = (known.total(c, Unit.SPACE).value for c in (Count.RESIDENT, Count.INUSE))
    assert half == pytest.approx(whole / 2)


def test_files_without_the_columns_say_so() -> None:
    profile, _ = named(STACKS)
    assert not profile.has(Count.RESIDENT)
    assert profile.total(Count.RESIDENT, Unit.SPACE).value == 0
    with pytest.raises(InputFileError, match="does not say what was resident"):
        check_count(profile, Count.RESIDENT)
    with pytest.raises(InputFileError, match="does not say"):
        check_count(profile, Count.SWAPPED)
    with pytest.raises(InputFileError, match="holds nothing swapped"):
        check_count(with_parts(profile), Count.SWAPPED)
    with pytest.raises(InputFileError, match="holds nothing on huge pages"):
        check_count(with_parts(profile), Count.HUGE)
    older = with_parts(profile)
    older.sites.huge_bytes = None
    with pytest.raises(InputFileError, match="does not say what was on huge pages") as failed:
        check_count(older, Count.HUGE)
    assert failed.value.hint == "mem_profiler --resident writes files that do, since Linux 6.7"


def test_a_file_keeps_what_is_resident_and_a_forged_one_is_refused(known: Profile) -> None:
    data = write_heap(known)
    again = read_bytes(data, "x.heap")
    for count in PRESENCE:
        assert again.total(count, Unit.SPACE) == known.total(count, Unit.SPACE)
    bad = dataclasses.replace(known.sites, resident_squares=np.array([np.nan, 1.0, 1.0]))
    with pytest.raises(InputFileError, match="resident_squares holds no sizes"):
        read_bytes(write_heap(dataclasses.replace(known, sites=bad)), "x.heap")
    alone = dataclasses.replace(known.sites, resident_squares=None)
    half = read_bytes(write_heap(dataclasses.replace(known, sites=alone)), "x.heap")
    assert not half.has(Count.RESIDENT)


def test_other_blocks_in_use_are_not_said_to_be_resident(known: Profile) -> None:
    earlier = dataclasses.replace(
        known,
        sites=dataclasses.replace(
            known.sites, before_end_blocks=known.sites.inuse_blocks,
            before_end_bytes=known.sites.inuse_bytes,
        ),
        capture=Capture(before_end_at_s=1.0),
    ).before_end  # fmt: skip
    assert earlier is not None
    assert not earlier.has(Count.RESIDENT)
    assert not of_threads(known, [0]).has(Count.RESIDENT)
    with pytest.raises(UsageProblem, match="--thread and --resident exclude each other"):
        Filters(threads=("x",), count=Count.RESIDENT)


def test_filters_keep_the_rest(known: Profile) -> None:
    _, symbols = named(STACKS, rate=64)
    one = make_view(known, symbols, Filters(count=Count.RESIDENT, focus=("db_get",)))
    assert one.profile.sites.resident_bytes is not None
    assert one.profile.sites.resident_bytes.tolist() == [20]
    assert not one.profile.has(Count.SWAPPED)
    assert not one.profile.has(Count.HUGE)
    assert one.total.value == pytest.approx(20 / (1 - math.exp(-40 / 64)))


def test_differences_and_domains_have_it_and_merged_files_do_not(known: Profile) -> None:
    symbols = named(STACKS, rate=64)[1]
    grown = with_parts(named((("malloc net_read serve main", 300),), rate=64)[0])
    after = named((("malloc net_read serve main", 300),), rate=64)[1]
    found = diff_profiles((known, symbols), (grown, after), count=Count.RESIDENT)
    change = grown.total(Count.RESIDENT, Unit.SPACE) - known.total(Count.RESIDENT, Unit.SPACE)
    assert (found.total.value, found.total.std_error) == pytest.approx(
        (change.value, change.std_error)
    )
    host = dataclasses.replace(known, capture=Capture(pid=1, capture=1, started=1.0))
    other = read_bytes(HeapFile([Record((1,), 1, 1000)], rate=64).data, "x")
    device = dataclasses.replace(other, domains=["cuda-0"], capture=host.capture)
    joined = join([("a", host), ("b", device)])
    both = [p.total(Count.RESIDENT, Unit.SPACE) for p in (joined, known)]
    assert both[0].value == both[1].value
    assert both[0].std_error == both[1].std_error
    merger = Merger()
    for name in ("a", "b"):
        merger.add(known, name)
    assert not merger.result().has(Count.RESIDENT)


def test_the_tree_has_the_sums_and_errors(known: Profile) -> None:
    tree = build_tree(known, named(STACKS, rate=64)[1])
    for count in PRESENCE:
        root, total = tree.total(str(count))[0], known.total(count, Unit.SPACE)
        assert root[BYTES] == pytest.approx(total.value)
        assert root[BYTES_VARIANCE] == pytest.approx(total.std_error**2)
    assert str(Count.RESIDENT) not in build_tree(*named(STACKS)).rows.counts


def test_heads_say_which_bytes_and_how_many_of_those_in_use() -> None:
    profile, symbols = with_parts(named(STACKS)[0], swapped=30, huge=18), named(STACKS)[1]

    def head(count: Count, unit: Unit) -> list[str]:
        return header_lines(profile, profile.total(count, unit), count, unit)

    first, second = head(Count.RESIDENT, Unit.SPACE)
    assert first.startswith("Total: 72 B resident ")
    assert second.startswith("Resident is 50.0 % of the 144 B allocated ")
    assert head(Count.SWAPPED, Unit.SPACE)[1].startswith("Swapped is 20.8 % of the 144 B ")
    assert head(Count.HUGE, Unit.SPACE)[1].startswith("On huge pages is 12.5 % of the 144 B ")
    assert head(Count.RESIDENT, Unit.OBJECTS) == head(Count.INUSE, Unit.OBJECTS)
    texts = [one.text for one in opening(profile, symbols, None)]
    most = "resident 72 B, 50.0 % of what is in use, 69 % of it net_read"
    assert f"{most}, 30 B swapped, 18 B on huge pages" in texts
    blocks, size = profile.counts(Count.INUSE)
    none = np.zeros_like(blocks)
    profile.sites = dataclasses.replace(
        profile.sites, peak_blocks=blocks, peak_bytes=size, inuse_blocks=none, inuse_bytes=none
    )
    assert not any("resident" in one.text for one in opening(profile, symbols, None))


@pytest.mark.parametrize("rate", [1, 64])
def test_rss_sums_what_is_resident_exactly(rate: int) -> None:
    profile = with_parts(named(STACKS, rate=rate)[0], swapped=30, huge=20)
    sizes = Memory(
        rss_bytes=10000, anon_bytes=6000, file_bytes=3000, shmem_bytes=1000, stack_bytes=500,
        segment_bytes=100,
    )  # fmt: skip
    profile.capture = Capture(memory=sizes, kind="capture")
    found = account(profile)
    parts = {part.key: part for part in found.parts}
    assert sum(part.bytes for part in found.parts) == 10000
    resident, whole = (profile.total(c, Unit.SPACE) for c in (Count.RESIDENT, Count.INUSE))
    assert parts["live_resident"].estimate == resident
    assert parts["slack"].bytes == 6000 - 500 - resident.value
    here, rest, swapped, huge = found.in_use
    assert huge.estimate == profile.total(Count.HUGE, Unit.SPACE)
    assert here.bytes + rest.bytes == pytest.approx(whole.value)
    assert swapped.estimate == profile.total(Count.SWAPPED, Unit.SPACE)
    # The rest of each block is the other half.
    assert rest.estimate is not None
    assert rest.estimate.std_error == pytest.approx(resident.std_error)
    text = "\n".join(account_lines(found))
    assert "heap in use of this capture, resident" in text
    assert "of which swapped" in text
    assert "of what is resident, on huge pages" in text
    page = memory_account(profile)
    assert [row["label"] for row in page["inUse"]] == [part.label for part in found.in_use]
    profile.sites = profile.sites.without_parts()
    assert next(part.key for part in account(profile).parts) == "live"
    assert memory_account(profile)["inUse"] == []


def test_the_slack_of_arenas_is_beyond_what_is_resident_there() -> None:
    profile = with_parts(named(STACKS, rate=64)[0])
    memory = Memory(rss_bytes=9000, anon_bytes=6000, heap_bytes=5000, arena_bytes=0)
    profile.capture = Capture(memory=memory, allocator="/usr/lib/libc.so.6")
    slack = account(profile).arena_slack
    assert slack is not None
    assert slack.value == 5000 - profile.total(Count.RESIDENT, Unit.SPACE).value


def test_other_formats_have_the_count(known: Profile) -> None:
    symbols = named(STACKS, rate=64)[1]
    rows = json.loads(write_json(known, symbols))["stacks"]
    total = known.total(Count.RESIDENT, Unit.SPACE).value
    assert sum(row["resident_space"] for row in rows) == pytest.approx(total, abs=2)
    names = [p["name"] for p in json.loads(write_speedscope(known, symbols, "x"))["profiles"]]
    assert {"resident, bytes", "on huge pages, bytes", "swapped, bytes"} <= set(names)


def test_commands_choose_it_as_they_choose_the_peak(known: Profile, tmp_path: Path) -> None:
    path = tmp_path / "x.heap"
    path.write_bytes(write_heap(known))
    total = known.total(Count.RESIDENT, Unit.SPACE).value
    for command in ("top", "table", "summary", "tree", "stats"):
        found = report(command, path, "--resident")
        assert found["count"] == "resident"
    rows = report("table", path, "--resident")["rows"]
    assert sum(row["size"] for row in rows) == pytest.approx(total, rel=1e-4)
    groups = report("stats", path, "--resident")["functions"]
    assert sum(group["bytes"] for group in groups) == pytest.approx(total, rel=1e-4)
    for part in ("--swapped", "--huge"):
        assert report("top", path, part)["total"] < total
    assert report("top", path, "--resident")["total"] == pytest.approx(total, rel=1e-5)
    done = parse("-f", path, "-t", "--all-frames", "--resident")
    assert done.returncode in {0, 2}
    assert parse("top", path, "--resident", "--peak").returncode == 2
    assert parse("-f", path, "-t", "--resident", "--alloc").returncode == 2
    done = parse("convert", path, "-o", tmp_path / "x.collapsed", "--resident")
    assert done.returncode == 0, done.stderr
    done = parse("convert", path, "-o", tmp_path / "x.pb.gz")
    assert done.returncode == 0, done.stderr
    packed = gzip.decompress((tmp_path / "x.pb.gz").read_bytes())
    assert b"resident_space" in packed
    assert b"swapped_space" in packed
    assert b"huge_space" in packed
    page = parse("flamegraph", path, "--resident", "-o", tmp_path / "x.html")
    assert page.returncode == 0, page.stderr
