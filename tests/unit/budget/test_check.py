"""Verdicts, sites and culprits on captures of known samples."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from budget_profiles import RATE, Made, Row, one
from mem_parser import unseen
from mem_parser.budget import (
    Allowance,
    Budget,
    Limit,
    Measure,
    Site,
    Subject,
    Verdict,
    check,
    check_subjects,
    combine,
    load,
    parse_match,
)
from mem_parser.budget import baseline as baselines
from mem_parser.budget.outputs import text
from mem_parser.libraries.rules import Libraries
from mem_parser.model import Count

KIB = 1024
SMALL = 16
PARSE = Row(("parse_header", "load_index", "main"), 3000, SMALL, line=88)
NET = Row(
    ("conn_open", "accept_all", "main"), 1000, SMALL, file="net.c", line=5, module="/opt/libnet.so"
)
BUFFERS = Row(("grow", "append", "worker"), 500, SMALL, thread="worker-1")  # fmt: skip


def inuse(kib: float) -> Limit:
    return Limit(Measure.INUSE, kib * KIB, text=f"{kib} KiB")


@pytest.mark.parametrize(
    ("kib", "verdict"),
    [
        (4000, Verdict.PASS), (3200, Verdict.PASS), (3005, Verdict.INCONCLUSIVE),
        (2800, Verdict.FAIL),
    ],
)  # fmt: skip
def test_the_verdict_follows_the_bounds(kib: float, verdict: Verdict) -> None:
    """3000 samples of small blocks stand for about 3000 KiB, with a standard error of 55."""
    result = one(Made([PARSE]).subject(), inuse(kib))
    assert result.verdict is verdict
    assert result.estimate is not None
    assert result.lower < result.estimate.value < result.upper
    assert (result.excess > 0) == (kib < 3007)


def test_tolerance_raises_a_limit() -> None:
    strict, loose = inuse(2800), dataclasses.replace(inuse(2800), tolerance=Allowance(0.15, 1024))
    assert one(Made([PARSE]).subject(), strict).verdict is Verdict.FAIL
    found = one(Made([PARSE]).subject(), loose)
    assert (found.verdict, found.amount) == (Verdict.PASS, pytest.approx((2800 * 1.15 + 1) * KIB))


@pytest.mark.parametrize(
    ("matches", "samples"),
    [
        (["function:^parse_"], 3000),
        (["function:main"], 4000),
        (["file:net\\.c$"], 1000),
        (["module:libnet"], 1000),
        (["stack:^main;accept_all;"], 1000),
        (["stack:worker.*grow$"], 500),
        (["thread:worker"], 500),
        (["domain:host"], 4500),
        (["function:main", "module:libnet"], 1000),
        (["thread:nobody"], 0),
    ],
)
def test_a_site_is_what_matches_anywhere_on_its_stacks(matches: list[str], samples: int) -> None:
    site = Site(tuple(map(parse_match, matches)))
    result = one(Made([PARSE, NET, BUFFERS]).subject(), inuse(1 << 20), site)
    assert result.estimate is not None
    assert result.estimate.samples == samples
    assert result.verdict is Verdict.PASS


def test_own_blocks_are_those_the_innermost_frame_asked_for() -> None:
    rows = [PARSE, dataclasses.replace(NET, names=("load_index", "main"), module="/opt/server")]
    site = Site((parse_match("function:load_index"),))
    for own, samples in ((False, 4000), (True, 1000)):
        found = one(Made(rows).subject(), inuse(1), dataclasses.replace(site, own=own))
        assert found.estimate is not None
        assert found.estimate.samples == samples


def test_own_blocks_of_a_container_are_its_callers_and_its_own_still() -> None:
    names = ("std::vector::push_back", "load_index", "main")
    subject = Made([PARSE, dataclasses.replace(NET, names=names, module="/opt/server")]).subject()
    for function, samples in (("^load_index$", 1000), ("^std::vector", 1000), ("^main$", 0)):
        site = Site((parse_match(f"function:{function}"),), own=True)
        found = one(subject, inuse(1), site)
        assert found.estimate is not None
        assert found.estimate.samples == samples


HOT_WARM_COLD = {"hot": 100_000, "warm": 90_000, "cold": 1000, "colder": 10}


def test_without_a_baseline_the_largest_lines_are_most_of_the_whole() -> None:
    rows = [Row((name, "main"), blocks) for name, blocks in HOT_WARM_COLD.items()]
    found = one(Made(rows, rate=1).subject(), inuse(10_000))
    assert found.verdict is Verdict.FAIL
    assert [c.frames[0].function for c in found.culprits] == ["hot", "warm"]
    assert text.result_lines(found)[1] == "      the largest lines, old or new:"


def test_what_is_undecided_for_a_reason_of_its_own_accuses_no_stack() -> None:
    subject = Made([PARSE]).subject()
    subject.profile.capture.notes = [f"{unseen.NOTE}its allocator is linked into it"]
    below, above = (one(subject, inuse(kib)) for kib in (4000, 2800))
    assert (below.verdict, below.culprits) == (Verdict.INCONCLUSIVE, [])
    assert (above.verdict, len(above.culprits)) == (Verdict.FAIL, 1)


def test_culprits_and_baselines_name_the_program_and_not_its_containers() -> None:
    names = ("std::vector::_M_realloc_insert", "xmalloc", "load_index", "main")
    subject = Made([Row(names, 5000, line=12)]).subject()
    [culprit] = one(subject, inuse(1)).culprits
    assert [f.function for f in culprit.frames] == ["load_index", "main"]
    rows = baselines.functions_of(subject, Count.INUSE)
    assert [one.row.function for one in rows] == ["load_index"]
    kept = Subject(*Made([Row(names, 5000)]).profile(), "x", libraries=Libraries(program=(
        re.compile("^xmalloc$"),
    )))  # fmt: skip
    assert one(kept, inuse(1)).culprits[0].frames[0].function == "xmalloc"


def test_a_file_without_threads_cannot_be_asked_by_thread() -> None:
    found = one(Made([PARSE]).subject(), inuse(9999), Site((parse_match("thread:x"),)))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "no counts by thread" in found.reason


def test_allocation_rate_is_over_the_captures_duration() -> None:
    made = Made([dataclasses.replace(PARSE, alloc=20_000)], duration=10.0)
    for kib, verdict in ((2200, Verdict.PASS), (1800, Verdict.FAIL)):
        found = one(made.subject(), Limit(Measure.ALLOC_RATE, kib * KIB))
        assert found.verdict is verdict
        assert found.estimate is not None
        assert found.estimate.value == pytest.approx(2000 * KIB, rel=0.02)
    assert found.culprits[0].bytes.value == pytest.approx(2000 * KIB, rel=0.02)


def test_what_a_run_allocated_in_all_does_not_follow_its_duration() -> None:
    row = dataclasses.replace(PARSE, blocks=10, alloc=3000)
    site = Site((parse_match("function:^parse_"),))
    for duration in (1.0, 100.0):
        made = Made([row, NET], duration=duration)
        for kib, verdict in ((3200, Verdict.PASS), (2800, Verdict.FAIL)):
            found = one(made.subject(), Limit(Measure.ALLOC, kib * KIB), site)
            assert found.verdict is verdict
            assert found.name == "alloc of function:^parse_"
        assert found.culprits[0].bytes.samples == 3000
    assert one(made.subject(), Limit(Measure.ALLOC, 3500 * KIB)).verdict is Verdict.FAIL


def test_a_number_of_allocations_is_counted_with_its_error() -> None:
    """3000 samples of 16 B at 1 KiB stand for 193,500 blocks, with a standard error of 3,505."""
    row = dataclasses.replace(PARSE, blocks=10, alloc=3000)
    subject = Made([row]).subject()
    for allowed, verdict in (
        (210_000, Verdict.PASS), (194_000, Verdict.INCONCLUSIVE), (180_000, Verdict.FAIL),
    ):  # fmt: skip
        found = one(subject, Limit(Measure.ALLOCS, allowed, tolerance=Allowance(0, 1 << 20)))
        assert found.verdict is verdict
    lines = "\n".join(text.result_lines(found))
    number = r"193,5\d\d ± 6,9\d\d"
    assert re.match(rf"FAIL  allocs  {number} over 180,000 by 13,5\d\d\n +{number}  parse_", lines)
    exact = Made([row], rate=1).subject()
    assert text.result_lines(one(exact, Limit(Measure.ALLOCS, 3000))) == [
        "PASS  allocs  3,000, limit 3,000"
    ]
    assert one(exact, Limit(Measure.ALLOCS, 2999)).verdict is Verdict.FAIL


def test_the_peak_is_the_highest_reading_and_short_programs_are_bounded_by_all_they_allocated() -> (
    None
):
    row = dataclasses.replace(PARSE, blocks=10, peak=2900, alloc=5000)
    readings = [(1000.0 * KIB, 32.0 * KIB), (3000.0 * KIB, 55.0 * KIB), (500.0 * KIB, 22.0 * KIB)]
    seen = Made([row], readings=readings)
    found = one(seen.subject(), Limit(Measure.PEAK, 3400 * KIB))
    assert found.estimate is not None
    assert (found.verdict, found.estimate.value) == (Verdict.PASS, 3000 * KIB)
    assert one(seen.subject(), Limit(Measure.PEAK, 2700 * KIB)).verdict is Verdict.FAIL
    short = Made([row], readings=readings[1:]).subject()
    found = one(short, Limit(Measure.PEAK, 3400 * KIB))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "only 2 readings" in found.notes[0]
    assert one(short, Limit(Measure.PEAK, 5500 * KIB)).verdict is Verdict.PASS


def test_losses_above_one_percent_forbid_to_pass_but_not_to_fail() -> None:
    lossy = Made([PARSE], lost={"live_full": 40, "reentry": 0}).subject()
    found = one(lossy, inuse(1 << 20))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "1.3 % of the samples were lost" in found.reason
    assert "at a coarser rate" in found.reason
    assert one(lossy, inuse(2000)).verdict is Verdict.FAIL
    few = Made([PARSE], lost={"live_full": 15}).subject()
    assert one(few, inuse(1 << 20)).verdict is Verdict.PASS
    assert one(few, inuse(1 << 20)).upper > one(Made([PARSE]).subject(), inuse(1 << 20)).upper
    [report] = check([(few, Budget((inuse(1 << 20),)))]).captures
    assert report.notes == ["15 samples lost, for which every upper bound is raised"]
    every = Made([PARSE], rate=1, lost={"live_full": 15}).subject()
    found = one(every, inuse(3000 * SMALL / KIB))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.reason == (
        "15 samples lost, and with them it may be over the limit: capture at a coarser rate (-c)"
    )


def test_files_that_cannot_tell_their_errors_never_pass_or_fail() -> None:
    for kib in (1, 1 << 20):
        found = one(Made([PARSE], exact=False).subject(), inuse(kib))
        assert found.verdict is Verdict.INCONCLUSIVE
        assert "its errors are unknown" in found.reason


def test_nothing_sampled_passes_only_above_three_times_the_rate() -> None:
    empty = Made([dataclasses.replace(PARSE, blocks=0)]).subject()
    assert one(empty, inuse(3)).verdict is Verdict.PASS
    found = one(empty, inuse(2.99))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.upper == pytest.approx(3 * RATE, rel=0.002)


def test_at_rate_one_the_limit_itself_is_still_within() -> None:
    exact = Made([Row(("f",), 100, 10)], rate=1).subject()
    assert one(exact, Limit(Measure.INUSE, 1000)).verdict is Verdict.PASS
    assert one(exact, Limit(Measure.INUSE, 999)).verdict is Verdict.FAIL


# several captures


def parses(blocks: int) -> Subject:
    return Made([dataclasses.replace(PARSE, blocks=blocks)]).subject()


def test_passed_limits_stay_passed_in_a_repetition_unless_they_fail() -> None:
    budget = Budget((inuse(4000), inuse(3005)))
    first = check([(Made([PARSE]).subject(), budget)], tries=2, attempt=1)
    assert [r.verdict for _, r in first.results] == [Verdict.PASS, Verdict.INCONCLUSIVE]
    assert first.exit_code == 7
    assert first.may_be_decided
    undecided = dataclasses.replace(first.captures[0].results[0], reason="too short")
    first.captures[0].results.append(undecided)
    assert first.may_be_decided, "the others may be"
    first.captures[0].results.pop()
    worse = check([(parses(4500), budget)], tries=2, attempt=2)
    assert [r.verdict for _, r in combine(first, worse).results] == [Verdict.FAIL, Verdict.FAIL]
    better = check([(parses(1500), budget)], tries=2, attempt=2)
    both = combine(first, better)
    assert (both.verdict, both.exit_code) == (Verdict.PASS, 0)


def test_a_pass_on_leaks_of_a_coarse_try_is_no_answer_to_what_a_finer_one_found() -> None:
    limit = Limit(Measure.LEAKS, 0.0, text="0")
    blocks = Made([dataclasses.replace(PARSE, blocks=1, alloc=1)])
    budget = Budget((limit,))
    first = check([(blocks.subject(), budget)], tries=2, attempt=1)
    finer = check([(blocks.subject(), budget)], tries=2, attempt=2)
    first.captures[0].results[0].verdict = Verdict.PASS
    finer.captures[0].results[0].verdict = Verdict.INCONCLUSIVE
    assert combine(first, finer).exit_code == 7
    finer.captures[0].results[0].verdict = Verdict.PASS
    assert combine(first, finer).exit_code == 0


def test_device_memory_is_limited_only_by_sites_that_name_its_domain() -> None:
    made = Made([PARSE]).subject()
    made.profile.domains = ["cuda:0"]
    sites = tuple(
        Site((parse_match(word),), (inuse(1),)) for word in ("domain:cuda", "function:main")
    )
    report = check([(made, Budget((inuse(1),), sites)), (Made([PARSE]).subject(), Budget())])
    assert [(c.program, r.name) for c, r in report.results] == [
        ("server cuda:0", "inuse of domain:cuda")
    ]
    assert report.captures[0].notes == ["function:main: no capture of such memory"]
    host = check([(Made([PARSE]).subject(), Budget((inuse(1),), sites))])
    assert [r.name for _, r in host.results] == ["inuse", "inuse of function:main"]
    assert host.captures[0].notes == ["domain:cuda: no capture of such memory"]


def test_a_site_that_selects_nothing_in_any_capture_is_named() -> None:
    sites = tuple(
        Site((parse_match(word),), (inuse(1e12),)) for word in ("function:main", "file:nosuch")
    )
    budget = Budget((), sites)
    report = check([(Made([PARSE]).subject(), budget), (Made([PARSE]).subject(), budget)])
    said = "file:nosuch: no sampled block matches; misspelled, or nothing was allocated there"
    assert [c.notes for c in report.captures] == [[said], []]


@pytest.mark.parametrize(
    ("exe", "comm", "command", "name"),
    [
        ("/usr/bin/redis-check-rdb", "redis-server", "/usr/bin/redis-server *:1", "redis-server"),
        (
            "/opt/a-very-long-program-name",
            "a-very-long-pro",
            "./a-very",
            "a-very-long-program-name",
        ),
        ("/usr/bin/python3.11", "python3", "python3 -m x", "python3.11"),
        ("/opt/server", "worker-7", "/opt/server --x", "worker-7"),
        ("", "x", "", "x"),
        ("/w/debug/deps/rsrv-8b63f69aa175f4bd", "rsrv-8b63f69aa1", "/w/debug/deps/rsrv-8", "rsrv"),
    ],
)
def test_a_program_goes_by_the_name_it_was_started_by(
    exe: str, comm: str, command: str, name: str
) -> None:
    subject = Made([PARSE], exe=exe).subject()
    subject.profile.capture.comm, subject.profile.capture.command = comm, command
    assert subject.program == name
    assert {n for n in (exe.rsplit("/", 1)[-1], comm) if n} <= set(subject.names)


def test_scripts_of_one_interpreter_are_told_apart_by_their_words() -> None:
    subjects = [Made([Row(("f", "main"), 5)], exe="/bin/python3").subject() for _ in range(3)]
    for subject, words in zip(subjects, ("a.py", "b.py", "b.py -v"), strict=True):
        subject.profile.capture.command = f"python3 -u {words}"
    budget = Budget((inuse(1 << 20),))
    first = check([(subject, budget) for subject in subjects])
    names = ["python3 a.py", "python3 b.py", "python3 b.py -v"]
    assert [capture.program for capture in first.captures] == names
    alone = check([(subjects[0], budget)])
    assert [capture.program for capture in alone.captures] == ["python3"]


def test_target_sections_know_a_program_by_any_of_its_names(tmp_path: Path) -> None:
    path = tmp_path / "check.toml"
    path.write_text("[target.redis-server]\ninuse = 5\n[target.redis-check-rdb]\npeak = 5000\n")
    subject = Made([PARSE], exe="/usr/bin/redis-check-rdb").subject()
    subject.profile.capture.comm = "redis-server"
    report = check_subjects(load(path), [subject])
    assert {r.name for _, r in report.results} == {"inuse", "peak"}
    assert report.captures[0].program == "redis-server"
