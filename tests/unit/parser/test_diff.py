"""Differences of profiles and the account of RSS, from simulated programs."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heapfiles import HeapFile, Record
from mem_parser.diff import Change, Level, diff_profiles
from mem_parser.estimate import Estimate
from mem_parser.growth import StackIndex
from mem_parser.heapfile.writer import write_heap
from mem_parser.model import Capture, Count, PeakSource, Profile, StackTable, Unit
from mem_parser.processfacts import Memory
from mem_parser.reports.diff import diff_lines
from mem_parser.reports.rss import account_lines
from mem_parser.rss import account
from mem_parser.symbols.table import Symbols
from parser_run import parse
from reportview import named
from simulated import (
    Program,
    Source,
    burst,
    filled_cache,
    leak,
    lru,
    named_within,
    one_burst,
)

ROOT = Path(__file__).resolve().parents[3]


def another_run(profile: Profile, symbols: Symbols) -> tuple[Profile, Symbols]:
    """The same as from another process."""
    capture = dataclasses.replace(profile.capture, pid=2)
    return dataclasses.replace(profile, capture=capture), symbols


def changes(result: object) -> dict[str, Change]:
    return {r.frames[0].function: r.change for r in result.rows}  # type: ignore[attr-defined]


def program(seed: int, *extra: Source) -> Program:
    random = np.random.default_rng(seed)
    steady = [burst(random, 1.0, 3000, f"f{k}") for k in range(200)]
    return Program([*steady, *extra])


@pytest.mark.parametrize("level", Level)
def test_a_profile_does_not_differ_from_itself(level: Level) -> None:
    one = program(1).capture(np.random.default_rng(1))
    for other in (one, another_run(*one)):
        result = diff_profiles(one, other, level=level)
        assert {r.change for r in result.rows} == {Change.NOISE}
        assert result.total.value == 0
    assert diff_profiles(one, one).total.std_error == 0


@pytest.mark.parametrize("blocks", [20, 100, 3000])
@pytest.mark.parametrize("unit", Unit)
def test_two_runs_of_the_same_program_differ_by_noise_only(unit: Unit, blocks: int) -> None:
    """Of few samples too: 1, 6 and 180 of each function."""
    random = np.random.default_rng(blocks)
    same = Program([burst(random, 1.0, blocks, f"f{k}") for k in range(200)])
    a, b = same.capture(random), another_run(*same.capture(random))
    found = [r for r in diff_profiles(a, b, unit=unit).rows if r.change is not Change.NOISE]
    assert len(found) <= 1


@pytest.mark.parametrize("unit", Unit)
@pytest.mark.parametrize("rates", [(1, 1024), (1024, 1), (1024, 65536)])
@pytest.mark.parametrize("size", [16, 100, 3000, 7000])
@pytest.mark.parametrize("blocks", [3, 20, 100, 600])
@pytest.mark.parametrize("functions", [1, 4])
def test_one_program_at_two_rates_differs_by_noise_only(
    unit: Unit, rates: tuple[int, int], size: int, blocks: int, functions: int
) -> None:
    """A side without a sample has no error of its own, and of large blocks hardly one is missed.
    Each run is one test of `RATE`.
    """
    random = np.random.default_rng(blocks)
    sources = [burst(random, 1.0, blocks, f"f{k}", size=size) for k in range(functions)]
    false = 0
    for _ in range(60):
        a, b = (Program(sources, rate=rate).capture(random) for rate in rates)
        false += diff_profiles(a, another_run(*b), unit=unit).rows.beyond_noise > 0
    assert false <= 3 + 3 * 3**0.5


def test_a_change_is_told_from_every_block_to_samples() -> None:
    random = np.random.default_rng(5)
    before = Program([burst(random, 1.0, 900, "gone", size=16)], rate=1)
    after = Program([burst(random, 1.0, 900, "new", size=16)], rate=1024)
    for unit in Unit:
        result = diff_profiles(
            before.capture(random), another_run(*after.capture(random)), unit=unit
        )
        assert changes(result) == {"gone": Change.GONE, "new": Change.NEW}


def test_what_a_worker_freed_at_its_end_is_not_gone_from_the_program() -> None:
    """Of recycled workers some live and some have ended: both ran the same code."""
    random = np.random.default_rng(1)
    kept = burst(random, 1.0, 3000, "handle")
    freed = dataclasses.replace(kept, died=np.full(len(kept.born), 50.0))
    pairs = [
        (Program([source]).capture(random), end)
        for source, end in ((kept, "deadline"), (freed, "exited"))
    ]
    living, ended = (
        (dataclasses.replace(p, capture=dataclasses.replace(p.capture, pid=k, end=end)), names)
        for k, ((p, names), end) in enumerate(pairs)
    )
    for base, new, verdict in ((living, ended, Change.SHRUNK), (ended, living, Change.GROWN)):
        result = diff_profiles(base, new)
        assert changes(result) == {"handle": verdict}
        assert any("processes ended" in note for note in result.notes)
    assert not any("ended" in note for note in diff_profiles(living, another_run(*living)).notes)


def test_what_is_new_gone_grown_or_shrunk_is_told() -> None:
    random = np.random.default_rng(5)

    def blocks(count: int, name: str) -> Source:
        return burst(random, 1.0, count, name)

    before = Program([blocks(9000, "gone"), blocks(3000, "grown"), blocks(9000, "shrunk")])
    after = Program([blocks(9000, "new"), blocks(9000, "grown"), blocks(3000, "shrunk")])
    a, b = before.capture(random), another_run(*after.capture(random))
    for unit in Unit:
        result = diff_profiles(a, b, unit=unit)
        assert changes(result) == {n: Change(n) for n in ("new", "gone", "grown", "shrunk")}
        row = next(r for r in result.rows if r.change is Change.NEW)
        truth = 9000 * (4096 if unit is Unit.SPACE else 1)
        assert abs(row.delta.value - truth) < 3 * row.delta.std_error


def test_a_change_in_blocks_may_be_sure_and_yet_have_no_ends() -> None:
    random = np.random.default_rng(5)
    before = Program(
        [burst(random, 1.0, 2000, "large"), burst(random, 1.0, 400_000, "small", size=16)]
    )
    after = Program(
        [burst(random, 1.0, 9000, "large"), burst(random, 1.0, 900_000, "small", size=16)]
    )
    result = diff_profiles(
        before.capture(random), another_run(*after.capture(random)), unit=Unit.OBJECTS
    )
    row = {r.frames[0].function: r.as_json(r.change) for r in result.rows}
    assert [r["verdict"] for r in row.values()] == ["grown", "grown"]
    assert (row["large"]["delta_lower95"], row["large"]["delta_upper95"]) == (None, None)
    assert 0 < row["large"]["new_lower95"] < row["large"]["new"]
    assert row["large"]["new_upper95"] is None
    assert row["small"]["delta_lower95"] < 500_000 < row["small"]["delta_upper95"]
    lines = [line.split() for line in diff_lines(result, rows=0, width=100)]
    shown = {line[-2]: " ".join(line[1:3]) for line in lines[2:4]}
    assert shown["large"] == "± ?"
    assert shown["small"].startswith("± ")


def test_what_only_replaces_older_blocks_is_turnover_in_an_attached_capture(tmp_path: Path) -> None:
    random = np.random.default_rng(8)
    program = Program([leak(random, 300), lru(random, 3000, 20, "cache")], rate=4096)
    blocks = program.sampled(random)
    files = [tmp_path / name for name in ("a.heap", "b.heap")]

    def verdicts(*, from_start: bool) -> list[str]:
        for file, now in zip(files, (10.0, 60.0), strict=True):
            profile, symbols = program.snapshot(blocks, now)
            profile = named_within(profile, symbols)
            profile.capture.end, profile.capture.from_start = "deadline", from_start
            file.write_bytes(write_heap(profile))
        done = parse("diff", *files)
        assert ("note: turnover: new blocks" in done.stdout) is not from_start, done.stdout
        rows = json.loads(parse("diff", *files, "--json").stdout)["rows"]
        printed = csv.DictReader(parse("diff", *files, "--csv").stdout.splitlines())
        found = re.findall(r"  (grown|turnover) ", done.stdout)
        assert found == [r["verdict"] for r in rows] == [r["verdict"] for r in printed]
        return found

    assert sorted(verdicts(from_start=False)) == ["grown", "turnover"]
    assert verdicts(from_start=True) == ["grown", "grown"]


def test_snapshots_of_one_capture_are_compared_by_births_and_deaths_only() -> None:
    random = np.random.default_rng(8)
    programme = Program([
        filled_cache(random, 5000, 10, "cache"), leak(random, 50), lru(random, 300, 5, "queue"),
    ])  # fmt: skip
    blocks = programme.sampled(random)
    a, b = programme.snapshot(blocks, 30.0), programme.snapshot(blocks, 60.0)
    paired = diff_profiles(a, b)
    alone = diff_profiles(a, another_run(*b))
    assert paired.paired
    assert not alone.paired
    [older] = [note for note in paired.notes if "older than the capture" in note]
    assert older.endswith("what grew may replace them, as in a full cache")
    a[0].capture.memory = Memory(anon_bytes=5 << 20)
    b[0].capture.memory = Memory(anon_bytes=7 << 20)
    assert any("changed by +2.000 MiB meanwhile" in note for note in diff_profiles(a, b).notes)
    b[0].capture.from_start = True
    assert not any("older than" in note for note in diff_profiles(a, b).notes)
    error = {r.frames[0].function: r.delta.std_error for r in paired.rows}
    wide = {r.frames[0].function: r.delta.std_error for r in alone.rows}
    assert error["cache"] == 0 < wide["cache"]
    assert error["leak"] < 0.8 * wide["leak"]
    assert changes(paired) == {
        "cache": Change.NOISE, "leak": Change.GROWN, "queue": Change.NOISE,
    }  # fmt: skip


def test_the_paired_error_covers_the_truth() -> None:
    inside = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        programme = Program([leak(random, 60), lru(random, 100, 20, "ring")])
        blocks = programme.sampled(random)
        result = diff_profiles(programme.snapshot(blocks, 30.0), programme.snapshot(blocks, 60.0))
        truth = sum(
            4096 * (int(((s.born <= 60) & (s.died > 60)).sum())
                    - int(((s.born <= 30) & (s.died > 30)).sum()))
            for s in programme.sources
        )  # fmt: skip
        inside += abs(result.total.value - truth) <= result.total.margin95
    assert inside >= 52


def without_files(profile: Profile, symbols: Symbols) -> tuple[Profile, Symbols]:
    """As of a program without debug information."""
    return profile, dataclasses.replace(
        symbols,
        functions=[dataclasses.replace(f, file="") for f in symbols.functions],
        locations=[dataclasses.replace(x, file="", line=0) for x in symbols.locations],
    )


def moved_by(lines: int, profile: Profile, symbols: Symbols) -> tuple[Profile, Symbols]:
    return profile, dataclasses.replace(
        symbols, locations=[dataclasses.replace(x, line=x.line + lines) for x in symbols.locations]
    )


@pytest.mark.parametrize("level", [Level.FUNCTION, Level.STACK])
def test_functions_match_by_name_where_one_side_has_no_source_files(level: Level) -> None:
    one = program(1).capture(np.random.default_rng(1))
    bare = another_run(*without_files(*one))
    for base, new in ((one, bare), (bare, one)):
        assert {r.change for r in diff_profiles(base, new, level=level).rows} == {Change.NOISE}


def test_a_name_that_two_files_have_matches_no_function_without_a_file() -> None:
    random = np.random.default_rng(1)
    profile, symbols = Program([burst(random, 1.0, 9000, n) for n in ("f", "g")]).capture(random)
    twice = [dataclasses.replace(x, name="f", file=f"{x.name}.c") for x in symbols.functions]
    both = dataclasses.replace(
        symbols,
        functions=twice,
        locations=[dataclasses.replace(x, file="") for x in symbols.locations],
    )
    found = diff_profiles((profile, both), another_run(*without_files(profile, both)))
    assert {r.change for r in found.rows} == {Change.GONE, Change.NEW}


def test_the_row_of_a_function_has_the_line_of_its_bytes_now_or_none_if_it_moved() -> None:
    random = np.random.default_rng(1)
    one = Program([burst(random, 1.0, 3000, "f")]).capture(random)
    empty = Program([burst(random, 1.0, 3000, "g")]).capture(random)
    line = one[1].locations[0].line
    later = another_run(*moved_by(5, *one))

    def lines(base: tuple[Profile, Symbols], new: tuple[Profile, Symbols]) -> list[int]:
        rows = diff_profiles(base, new).rows
        return [r.frames[0].line for r in rows if r.frames[0].function == "f"]

    assert lines(one, later) == [0]
    assert lines(one, another_run(*one)) == [line]
    assert lines(another_run(*empty), later) == [line + 5]
    assert lines(later, another_run(*empty)) == [line + 5]
    assert lines(another_run(*without_files(*one)), later) == [line + 5]


def test_two_peaks_of_whole_programs_do_not_grow_with_time() -> None:
    random = np.random.default_rng(1)
    note = "part of the change is growth over time"
    (a, named_a), (b, named_b) = (program(1).capture(random) for _ in range(2))
    for one, seconds in ((a, 8.5), (b, 3.1)):
        capture = one.capture
        capture.duration_s, capture.from_start, capture.end = seconds, True, "exited 0"
        capture.peak_source, capture.pid = PeakSource.SAMPLER, int(seconds)
        one.sites = dataclasses.replace(
            one.sites, peak_blocks=one.sites.inuse_blocks, peak_bytes=one.sites.inuse_bytes
        )
    assert a.default_count is Count.PEAK
    for count, is_said in ((Count.PEAK, False), (Count.INUSE, True)):
        notes = diff_profiles((a, named_a), (b, named_b), count=count).notes
        assert any(note in line for line in notes) is is_said


def test_lines_of_one_function_are_rows_of_their_own() -> None:
    one = one_burst(3000, rate=65536)
    moved = dataclasses.replace(
        one[1], locations=[dataclasses.replace(x, line=x.line + 5) for x in one[1].locations]
    )
    other = another_run(one[0], moved)
    assert {r.change for r in diff_profiles(one, other).rows} == {Change.NOISE}
    by_line = diff_profiles(one, other, level=Level.LINE)
    assert sorted(r.change for r in by_line.rows) == [Change.GONE, Change.NEW]


def test_the_account_adds_up_to_rss() -> None:
    profile, _ = one_burst(3000, rate=65536)
    mib = 1 << 20
    profile.capture = Capture(memory=Memory(
        rss_bytes=40 * mib, peak_rss_bytes=50 * mib, anon_bytes=25 * mib, file_bytes=10 * mib,
        shmem_bytes=5 * mib, heap_bytes=20 * mib, stack_bytes=mib, segment_bytes=2 * mib,
    ))  # fmt: skip
    result = account(profile)
    summed = sum(p.bytes for p in result.parts)
    assert summed == pytest.approx(40 * mib)
    part = {p.key: p for p in result.parts}
    assert part["sampler"].bytes == 2 * mib
    assert part["slack"].margin == pytest.approx(part["live"].margin, rel=0.05)
    assert part["live"].margin > 0
    ends = {row["key"]: (row["lower95"], row["upper95"]) for row in result.as_json()["rows"]}
    assert ends["live"][0] < part["live"].bytes < ends["live"][1]
    assert ends["stacks"] == (mib, mib)
    lines = list(account_lines(result))
    assert lines[0].startswith("RSS 40.00 MiB")
    assert max(map(len, lines)) <= 80
    profile.capture = Capture()
    assert next(account_lines(account(profile))).startswith("RSS unknown")


def test_the_account_adds_up_where_only_the_segment_is_known() -> None:
    profile, _ = one_burst(3000, rate=65536)
    profile.capture = Capture(memory=Memory(rss_bytes=40 << 20, segment_bytes=3 << 20))
    parts = account(profile).parts
    assert sum(p.bytes for p in parts) == pytest.approx(40 << 20)


def test_names_are_cut_on_terminals_only(tmp_path: Path) -> None:
    name, file = "f" * 90, tmp_path / "x.folded"
    file.write_text(f"main;{name} 5000\n")
    other = tmp_path / "y.folded"
    other.write_text(f"main;{name} 50000\n")
    for words in (["leaks", other], ["diff", "--by", "stack", file, other]):
        assert name in parse(*words).stdout


def test_a_margin_that_is_not_known_has_no_level_of_confidence(tmp_path: Path) -> None:
    file, other = tmp_path / "x.folded", tmp_path / "y.folded"
    file.write_text("main;f 5000\n")
    other.write_text("main;f 50000\n")
    done = parse("diff", file, other)
    assert done.stdout.splitlines() == [
        "Change: +43.95 KiB   1 row changed",
        "     change                    now          name",
        " +43.95 KiB ± ?          48.83 KiB  grown   f",
        "note: these files carry no errors: which of the changes are chance is not known",
    ]
    told = json.loads(parse("diff", file, other, "--json").stdout)
    assert (told["total_error"], told["errors_known"]) == (None, False)


@pytest.mark.parametrize("level", Level)
def test_addresses_of_two_builds_are_neither_new_nor_gone(level: Level) -> None:
    def stripped(build_id: str, offset: int) -> tuple[Profile, Symbols]:
        profile, symbols = another_run(*program(1).capture(np.random.default_rng(1)))
        modules = [dataclasses.replace(m, build_id=build_id) for m in profile.modules]
        functions = [
            dataclasses.replace(f, name=f"{profile.modules[0].name}+{k + offset:#x}", known=False)
            for k, f in enumerate(symbols.functions)
        ]
        return (
            dataclasses.replace(profile, modules=modules),
            dataclasses.replace(symbols, functions=functions),
        )

    result = diff_profiles(stripped("aa", 0), stripped("bb", 4096), level=level)
    assert {r.change for r in result.rows} == {Change.NOISE}
    assert all(r.frames[0].function.startswith("unnamed functions of") for r in result.rows)
    same = diff_profiles(stripped("aa", 0), stripped("aa", 4096), level=level)
    assert {r.change for r in same.rows} >= {Change.NEW, Change.GONE}


def test_files_of_different_programs_are_said() -> None:
    first, symbols = named()
    first = dataclasses.replace(first, capture=Capture(pid=1, exe="/srv/sessiond"))
    other = dataclasses.replace(first, capture=Capture(pid=2, exe="/srv/routed"))
    result = diff_profiles((first, symbols), (other, symbols))
    assert "different programs: base is of sessiond, new of routed" in result.notes
    assert not any("different programs" in note for note in
                   diff_profiles((first, symbols), (first, symbols)).notes)  # fmt: skip


def test_a_total_whose_error_is_too_small_to_show_has_no_level_of_confidence() -> None:
    first, symbols = named()
    result = diff_profiles((first, symbols), another_run(first, symbols))
    result.total = Estimate(-10 * 1024.0**2, 1024.0, 900, signed=True)
    assert next(diff_lines(result, rows=0, width=80)).startswith("Change: -10.00 MiB   ")


def test_without_errors_no_change_is_called_noise_or_more_than_that(tmp_path: Path) -> None:
    for k, bytes_ in enumerate((10_000, 10_400, 10_400)):
        (tmp_path / f"{k}.heap").write_text(
            f"heap_v2/524288\n  t*: 1: {bytes_} [0: 0]\n@ 0x10 0x20\n  t*: 1: {bytes_} [0: 0]\n\n"
            "MAPPED_LIBRARIES:\n"
        )
    changed = parse("diff", tmp_path / "0.heap", tmp_path / "1.heap").stdout
    same = parse("diff", tmp_path / "1.heap", tmp_path / "2.heap").stdout
    assert "1 row changed" in changed
    assert "0 rows changed\n1 row unchanged" in same
    for text in (changed, same):
        assert "noise" not in text
        assert "95 %" not in text
        assert "these files carry no errors" in text


def test_a_budget_of_a_file_without_errors_is_not_passed(tmp_path: Path) -> None:
    file, budget = tmp_path / "x.folded", tmp_path / "budget.toml"
    file.write_text("main;f 5000\n")
    budget.write_text('[budget]\ninuse = "64 MiB"\n')
    done = parse("budget", budget, file)
    assert done.returncode == 7, done.stderr
    assert "rate unknown" in done.stdout
    assert "every block" not in done.stdout


def test_a_file_without_the_count_is_named(tmp_path: Path) -> None:
    file = tmp_path / "x.folded"
    file.write_text("main;f 5000\n")
    lacks = f"error: {file} holds no counts of all allocations\n"
    for words in (["diff", file, file], ["top", file], ["convert", file, "-o", "y.collapsed"]):
        done = parse(*words, "--alloc")
        assert (done.returncode, done.stderr) == (3, lacks)


def test_commands_print_one_object_and_end_with_their_codes(tmp_path: Path) -> None:
    file = tmp_path / "x.heap"
    header = {"duration_s": 60.0, "bucket_end_s": [7.5 * (k + 1) for k in range(8)]}
    file.write_bytes(HeapFile([Record((0x1000, 0x2001), 5, 5000)], header=header).data)
    for words in (["leaks", file], ["diff", file, file], ["rss", file]):
        done = parse(*words, "--json")
        assert done.returncode == 0, done.stderr
        assert next(iter(json.loads(done.stdout))) == "rows"
        assert done.stdout.startswith('{\n "rows": [')
        plain = parse(*words)
        assert plain.returncode == 0
        assert all(len(line) <= 80 for line in plain.stdout.splitlines() if os.sep not in line)
    done = parse("leaks", "--born", "9:3", file)
    assert done.returncode == 2
    assert "A:B" in done.stderr
    other = tmp_path / "y.heap"
    other.write_bytes(file.read_bytes().replace(b"60.0", b"50.0"))
    done = parse("leaks", file, other)
    assert done.returncode == 2
    assert "not snapshots of one capture" in done.stderr


WORDS = st.lists(st.sampled_from(["a", "b", "c", "malloc"]), min_size=1, max_size=4).map(" ".join)
spelled = st.lists(st.tuples(WORDS, st.integers(1, 1 << 20)), min_size=1, max_size=8).map(tuple)


def by_dictionary(
    stacks: tuple[tuple[str, int], ...], level: Level
) -> dict[tuple[str, ...], tuple[float, int]]:
    """Bytes and samples of each row at a rate of 1, by the names of its frames."""
    rows: dict[tuple[str, ...], tuple[float, int]] = {}
    for text, size in stacks:
        words = text.split()
        begin = max((k + 1 for k, w in enumerate(words) if w == "malloc"), default=0)
        kept = tuple(words[begin:]) or (words[-1],)
        key = kept if level is Level.STACK else kept[:1]
        value, samples = rows.get(key, (0.0, 0))
        rows[key] = value + size, samples + 1
    return rows


@pytest.mark.parametrize("level", Level)
@given(base=spelled, new=spelled)
def test_rows_are_the_sums_that_dictionaries_make(
    level: Level, base: tuple[tuple[str, int], ...], new: tuple[tuple[str, int], ...]
) -> None:
    before, after = by_dictionary(base, level), by_dictionary(new, level)
    if level is Level.LINE:  # a function's line is its number among the names of its file
        both = [sorted({w for text, _ in stacks for w in text.split()}) for stacks in (base, new)]
        before = {(f"{k[0]}:{both[0].index(k[0]) + 1}",): v for k, v in before.items()}
        after = {(f"{k[0]}:{both[1].index(k[0]) + 1}",): v for k, v in after.items()}
    result = diff_profiles(named(base), named(new), level=level)

    def key(row: object) -> tuple[str, ...]:
        frames = row.frames  # type: ignore[attr-defined]
        if level is Level.LINE:
            return tuple(f"{f.function}:{f.line}" for f in frames)
        return tuple(f.function for f in frames)

    rows = {key(r): r for r in result.rows}
    assert len(rows) == len(result.rows)
    assert {k: (r.base.value, r.base.samples) for k, r in rows.items() if r.base.samples} == before
    assert {k: (r.new.value, r.new.samples) for k, r in rows.items() if r.new.samples} == after
    for row in result.rows:
        assert row.delta.value == row.new.value - row.base.value
        assert (row.change is Change.NOISE) == (row.delta.value == 0)
    order = [(r.change is Change.NOISE, -abs(r.delta.value)) for r in result.rows]
    assert order == sorted(order)
    assert result.rows.beyond_noise == sum(r.change is not Change.NOISE for r in result.rows)
    assert result.rows[1:] == list(result.rows)[1:]


def test_the_report_says_how_many_rows_it_does_not_show() -> None:
    base = tuple((f"malloc f{k}", 100) for k in range(9))
    new = tuple((f"malloc f{k}", 100 if k < 3 else 5000 + k) for k in range(9))
    lines = list(diff_lines(diff_profiles(named(base), named(new)), rows=2, width=80))
    assert lines[0].endswith("6 rows beyond noise")
    assert [line.split()[-2:] for line in lines[2:4]] == [["f8", "f8.c:9"], ["f7", "f7.c:8"]]
    assert lines[4:] == [
        "3 rows within the noise (+0 B together)",
        "4 more rows hidden. Use -n 0 to show all.",
    ]


def test_a_difference_is_a_table_of_csv_and_of_markdown(tmp_path: Path) -> None:
    old, new = tmp_path / "x.folded", tmp_path / "y.folded"
    old.write_text("main;f|g 5000\nmain;same 9\n")
    new.write_text("main;f|g 50000\nmain;same 9\nmain;=h 20\n")
    table = parse("diff", old, new, "--csv").stdout
    rows = list(csv.DictReader(table.splitlines()))
    told = json.loads(parse("diff", old, new, "--json").stdout)["rows"]
    assert [(r["verdict"], r["function"], float(r["delta"])) for r in rows] == [
        ("grown", "f|g", 45000), ("new", "'=h", 20), ("noise", "same", 0),
    ]  # fmt: skip
    assert set(told[0]) <= set(rows[0])
    by_stack = csv.DictReader(parse("diff", old, new, "--csv", "--by", "stack").stdout.splitlines())
    assert next(by_stack)["stack"] == "f|g;main"
    lines = parse("diff", old, new, "--markdown", "-n", "1").stdout.splitlines()
    assert lines[2:5] == [
        "| change |  | before | now | verdict | name |",
        "|--:|:--|--:|--:|---|---|",
        "| &#8203;+43.95 KiB | ± ? | 4.883 KiB | 48.83 KiB | grown | f\\|g |",
    ]
    assert lines[-1] == "1 more row hidden. Use -n 0 to show all."
    done = parse("diff", old, new, "--csv", "--markdown")
    assert (done.returncode, done.stderr) == (2, "error: --csv and --markdown exclude each other\n")


profiles_of_stacks = st.lists(
    st.tuples(st.lists(st.integers(1, 3), max_size=3), st.integers(0, 1)), max_size=9
)


@given(profiles_of_stacks, profiles_of_stacks)
def test_stacks_of_two_snapshots_are_matched_by_addresses_and_generation(
    old: list[tuple[list[int], int]], new: list[tuple[list[int], int]]
) -> None:
    def profile(stacks: list[tuple[list[int], int]]) -> Profile:
        one = named()[0]
        table = StackTable(
            np.cumsum([0, *(len(frames) for frames, _ in stacks)]),
            np.array([f for frames, _ in stacks for f in frames], dtype=np.uint64),
            np.zeros(len(stacks), np.uint32),
            np.array([g for _, g in stacks], dtype=np.uint32),
            leaf_exact=True,
        )
        return dataclasses.replace(one, stacks=table)

    index = {(tuple(frames), g): k for k, (frames, g) in enumerate(new)}
    expected = [index.get((tuple(frames), g), -1) for frames, g in old]
    assert StackIndex(profile(new)).match(profile(old)).tolist() == expected


def test_several_files_of_each_side_are_to_be_merged_first() -> None:
    done = parse("diff", "h1.a.heap", "h1.b.heap", "h3.a.heap")
    assert done.returncode == 2
    assert "mem_parser merge OLD... -o old.heap" in " ".join(done.stderr.split())
