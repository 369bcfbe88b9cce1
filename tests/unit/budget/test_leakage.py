"""Verdicts on leaks, and what a search that finds none could have found."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

import simulated
from budget_profiles import one
from mem_parser.budget import Budget, Limit, Measure, Site, Subject, Verdict, check, parse_match
from mem_parser.budget.culprits import leaking as leaking_stacks
from mem_parser.budget.leakage import samples_needed, smallest_leak
from mem_parser.budget.outputs.words import sentence
from mem_parser.errors import InputFileError
from mem_parser.estimate import Estimate
from mem_parser.frames import Frame
from mem_parser.leaks.findings import Finding
from mem_parser.leaks.findings import Verdict as Found
from mem_parser.model import STACK_LOST_SHIFT
from mem_parser.unseen import SERVED


def leaking(per_minute: float, seed: int = 1, rate: int = 16384) -> Subject:
    """A service of one minute that leaks so many bytes in blocks of 200, beside a cache."""
    random, minute = np.random.default_rng(seed), 60.0
    born = simulated.arrivals(random, per_minute / 200 / minute, 0, minute)
    cache = simulated.arrivals(random, 40_000, 0, 2.0)
    never = np.full
    sources = [
        simulated.Source(("conn_open", "main"), 200, born, never(len(born), np.inf), 212),
        simulated.Source(("fill", "main"), 400, cache, never(len(cache), np.inf)),
    ]
    return Subject(*simulated.Program(sources, rate=rate, duration=minute).capture(random), "x")


LEAKS = Limit(Measure.LEAKS, 0.0, text="0")


def test_a_mebibyte_a_minute_is_found_in_a_minute_and_named_with_its_line() -> None:
    found = one(leaking(1 << 20), LEAKS)
    assert found.verdict is Verdict.FAIL
    frame = found.culprits[0].frames[0]
    assert (frame.function, frame.line) == ("conn_open", 212)
    assert re.match(r"\+\S+ MiB/min ± \S+ MiB/min, oldest block", found.culprits[0].text)
    said = r"1 leak, \S+ MiB/min ± \S+ MiB/min, in conn_open, target\.c:212"
    assert re.fullmatch(said, found.headline)
    assert re.match(rf"{said}: \S+ \S+ ± \S+ \S+ leaking, over 0 B$", sentence(found))
    assert found.as_json()["headline"] == found.headline


def test_the_smallest_leak_that_would_have_been_seen_is_named_and_is_so() -> None:
    clean = leaking(0)
    found = one(clean, LEAKS)
    assert found.verdict is Verdict.PASS
    [note] = found.notes
    assert re.fullmatch(
        r"the check would have found a steady leak of \S+ KiB in small blocks in these 60 s; "
        r"-c 1 sees every block", note,
    )  # fmt: skip
    smallest = smallest_leak(clean.profile, clean.symbols, 0.05)
    assert 12 * 16384 < smallest < 60 * 16384
    seen = sum(one(leaking(smallest, k), LEAKS).verdict is Verdict.FAIL for k in range(60))
    assert seen >= 45
    missed = sum(one(leaking(smallest / 4, k), LEAKS).verdict is Verdict.FAIL for k in range(60))
    assert missed < 15


@pytest.mark.parametrize(("seconds", "limit", "verdict"), [
    (60.0, LEAKS, Verdict.INCONCLUSIVE), (20.0, LEAKS, Verdict.PASS),
    (60.0, dataclasses.replace(LEAKS, amount=64.0 * 2**20), Verdict.PASS),
    (60.0, dataclasses.replace(LEAKS, allows_held=True), Verdict.PASS),
])  # fmt: skip
def test_what_a_service_frees_as_it_ends_does_not_pass_unless_the_limit_allows_it(
    seconds: float, limit: Limit, verdict: Verdict
) -> None:
    random = np.random.default_rng(2)
    source = simulated.leak(random, 60, "session", duration=seconds)
    profile, symbols = simulated.Program([source], rate=16384, duration=seconds).capture(random)
    found = one(Subject(simulated.cleaned_up(profile), symbols, "x"), limit)
    assert found.verdict is verdict
    assert re.match(r"growth held until the clean-up, .*, in session, target\.c", found.notes[-1])
    claims = [note for note in found.notes if "would have found" in note]
    if verdict is Verdict.PASS:
        assert ["of what the clean-up left" in note for note in claims] == [True]
        return
    assert not claims
    said = r"1\d\.\d+ MiB ± \S+ MiB grew until the program freed it as it ended: .* by attach .*"
    assert re.fullmatch(said, found.reason)
    assert [c.frames[0].function for c in found.culprits] == ["session"]


@pytest.mark.parametrize("attached", [False, True])
@pytest.mark.parametrize(("seconds", "limit", "verdict", "said"), [
    (20.0, LEAKS, Verdict.INCONCLUSIVE, "20 s is too short to tell: watch 60 s"),
    (60.0, LEAKS, Verdict.FAIL, ""),
    (20.0, dataclasses.replace(LEAKS, allows_held=True), Verdict.PASS, ""),
    (20.0, Limit(Measure.INUSE, 1 << 20, text="1 MiB"), Verdict.INCONCLUSIVE, "at second 20, be"),
    (20.0, Limit(Measure.INUSE, 64 << 20, text="64 MiB"), Verdict.PASS, ""),
])  # fmt: skip
def test_a_service_is_judged_before_its_clean_up(
    seconds: float, limit: Limit, verdict: Verdict, said: str, *, attached: bool
) -> None:
    random = np.random.default_rng(2)
    source = simulated.leak(random, 60, "session", duration=seconds)
    profile, symbols = simulated.Program([source], rate=16384, duration=seconds).capture(random)
    profile = simulated.cleaned_up(profile)
    if attached:
        profile.capture.from_start = False
    else:
        profile.capture.notes.append(SERVED)
    found = one(Subject(profile, symbols, "x"), limit)
    assert found.verdict is verdict
    assert said in found.reason


def test_a_killed_program_may_have_had_a_cache_that_still_filled() -> None:
    random = np.random.default_rng(2)
    sources = [
        simulated.leak(random, 60, "fill", size=1024), simulated.lru(random, 100, 1, "queue"),
        simulated.lru(random, 50, 1, "queue"), simulated.leak(random, 0.3, "seldom"),
    ]  # fmt: skip
    profile, symbols = simulated.Program(sources, rate=16384).capture(random)
    profile.capture.end = "signal 9 SIGKILL"
    found = one(Subject(profile, symbols, "x"), LEAKS)
    assert found.verdict is Verdict.FAIL
    assert "a cache that still fills looks the same in 60 s; watch 10 min to be sure" in found.notes
    assert [c.frames[0].function for c in found.culprits] == ["fill", "seldom"]
    [rest] = [note for note in found.notes if "may leak too" in note]
    assert "verdict leak; 1 stack without it" in rest


def test_the_evidence_of_several_stacks_is_one_sentence() -> None:
    frames = (Frame("fill", "a.c", 1, ""),)
    finding = Finding(Found.CACHE_LIKE, Estimate(1e6, 1e5, 40), None, frames, "All freed.")
    several = dataclasses.replace(finding, stacks=9)
    assert [c.text for c in leaking_stacks([finding, several])] == [
        "All freed.", "All freed, by 9 stacks",
    ]  # fmt: skip


def test_fewer_samples_are_needed_where_more_error_is_allowed() -> None:
    assert samples_needed(20.0, 20.0, 0.05) < samples_needed(20.0, 20.0, 0.001)


def test_a_capture_too_short_for_leaks_says_so() -> None:
    subject = leaking(0)
    subject.profile.capture.bucket_end_s = [60.0] * 7 + [None]
    found = one(subject, LEAKS)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert re.fullmatch(
        r"60 s are too short to see growth, and 3\S+ MiB are in use: "
        r"limit what a short program leaves behind with inuse",
        found.reason,
    )
    enough = dataclasses.replace(LEAKS, amount=64.0 * 2**20)
    assert one(subject, enough).verdict is Verdict.PASS
    subject.profile.sites.live_births = None
    assert one(subject, LEAKS).verdict is Verdict.INCONCLUSIVE


def short(*held: simulated.Source) -> Subject:
    """A program that ended within the first bucket of time, every block sampled."""
    random, least = np.random.default_rng(1), np.array([0.1])
    start = simulated.Source(("printf", "main"), 8, least, least + 0.1)
    program = simulated.Program([start, *held], rate=1, duration=0.2)
    subject = Subject(*program.capture(random), "x")
    subject.profile.capture.bucket_end_s = [0.25] * 7 + [None]
    return subject


@pytest.mark.parametrize(
    ("stack", "blocks", "allowed", "verdict"),
    [
        (("leak", "main"), 1000, 0, Verdict.INCONCLUSIVE),
        (("leak", "main"), 1, 0, Verdict.INCONCLUSIVE),
        (("leak", "main"), 1000, 1000 << 10, Verdict.PASS),
        (("_IO_file_doallocate", "printf", "main"), 1, 0, Verdict.PASS),
        (("std::vector::reserve", "_start"), 72, 0, Verdict.PASS),
        (("std::vector::reserve", "main"), 72, 0, Verdict.INCONCLUSIVE),
    ],
)
def test_a_short_program_passes_only_if_what_it_left_cannot_be_a_leak_above_the_limit(
    stack: tuple[str, ...], blocks: int, allowed: int, verdict: Verdict
) -> None:
    born = np.linspace(0.01, 0.19, blocks)
    subject = short(simulated.Source(stack, 1024, born, np.full(blocks, np.inf)))
    found = one(subject, dataclasses.replace(LEAKS, amount=float(allowed)))
    assert found.verdict is verdict
    assert ("limit what a short program leaves behind" in found.reason) is not (
        verdict is Verdict.PASS
    )


@pytest.mark.parametrize(("born", "verdict"), [(1.0, Verdict.PASS), (50.0, Verdict.INCONCLUSIVE)])
def test_where_every_block_is_sampled_a_block_of_the_start_is_no_leak(
    born: float, verdict: Verdict
) -> None:
    table = simulated.Source(("setup", "main"), 36864, np.array([born]), np.array([np.inf]))
    program = simulated.Program([table], rate=1, duration=60.0)
    assert one(Subject(*program.capture(np.random.default_rng(1)), "x"), LEAKS).verdict is verdict


def test_one_large_block_has_no_verdict_but_the_limit_that_it_would_pass() -> None:
    table = simulated.Source(("put", "main"), 80 << 10, np.array([20.0]), np.array([np.inf]))
    born = simulated.arrivals(np.random.default_rng(1), 20_000, 0, 2.0)
    fill = simulated.Source(("fill", "main"), 400, born, np.full(len(born), np.inf))
    program = simulated.Program([table, fill], rate=16384, duration=60.0)
    subject = Subject(*program.capture(np.random.default_rng(1)), "x")
    limit = dataclasses.replace(LEAKS, amount=65536.0)
    found = one(subject, limit)
    said = re.fullmatch(
        r"no verdict on put, 1 block of 80\.\d+ KiB: allocated once in 60 s, and one block shows "
        r"no growth; attach after the warm-up \(mem_profiler -s 60 -p PID\); "
        r"a limit of (\d+) KiB would pass this capture",
        found.reason,
    )
    assert said and found.verdict is Verdict.INCONCLUSIVE, found.reason
    for kib, verdict in ((0, Verdict.PASS), (-1, Verdict.INCONCLUSIVE)):
        amount = 1024.0 * (int(said[1]) + kib)
        assert one(subject, dataclasses.replace(LEAKS, amount=amount)).verdict is verdict


def test_a_search_too_coarse_for_half_of_what_is_in_use_asks_for_a_finer_rate() -> None:
    subject = leaking(0, rate=1 << 20)
    assert smallest_leak(subject.profile, subject.symbols, 0.05) > 2**24
    report = check([(subject, Budget((LEAKS,)))])
    [(_, found)] = report.results
    assert (found.verdict, report.may_be_decided) == (Verdict.INCONCLUSIVE, True)
    assert re.match(r"none found, but up to \S+ MiB may leak: capture longer", sentence(found))
    assert "would have found a steady leak of" in found.notes[0]
    assert one(leaking(0), LEAKS).verdict is Verdict.PASS


@pytest.mark.parametrize("site", [None, Site((parse_match("function:^fill$"),))])
def test_what_is_in_use_without_stacks_may_leak(site: Site | None) -> None:
    subject = leaking(1 << 20)
    subject.profile.stacks.flags[0] = 2 << STACK_LOST_SHIFT
    found = one(subject, LEAKS, site)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert re.fullmatch(
        r"up to 1\.\S+ MiB without stacks may leak: capture at a coarser rate, "
        r"or with a larger MEM_PROFILER_MAX_MEMORY",
        found.reason,
    )
    enough = dataclasses.replace(LEAKS, amount=64.0 * 2**20)
    assert one(subject, enough, site).verdict is Verdict.PASS
    few = leaking(4 * 16384)
    few.profile.stacks.flags[0] = 2 << STACK_LOST_SHIFT
    assert one(few, LEAKS, site).verdict is Verdict.PASS


def test_a_service_that_was_watched_too_short_for_any_leak_does_not_pass() -> None:
    subject = leaking(0)
    capture = subject.profile.capture
    capture.end, capture.duration_s = "deadline", 20.0
    capture.bucket_end_s = [2.5 * k for k in range(1, 8)] + [None]
    found = one(subject, LEAKS)
    assert (found.verdict, found.reason) == (
        Verdict.INCONCLUSIVE, "20 s is too short to tell: watch 60 s",
    )  # fmt: skip
    enough = dataclasses.replace(LEAKS, amount=64.0 * 2**20)
    assert one(subject, enough).verdict is Verdict.PASS


def test_a_leak_that_begins_late_is_none_that_the_check_would_have_found() -> None:
    random, minute = np.random.default_rng(1), 60.0
    born = simulated.arrivals(random, 400.0, 25.0, minute)
    late = simulated.Source(("late", "main"), 200, born, np.full(len(born), np.inf))
    started = simulated.arrivals(random, 40_000, 0, 2.0)
    cache = simulated.Source(("fill", "main"), 400, started, np.full(len(started), np.inf))
    program = simulated.Program([late, cache], rate=4096, duration=minute)
    found = one(Subject(*program.capture(random), "x"), LEAKS)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert re.fullmatch(
        r"no verdict on late, \S+ MiB ± \S+ MiB: grows, but began too late .*", found.reason
    )


def ended(
    *sources: simulated.Source, rate: int = 1, duration: float = 4.0, freed: int = 40
) -> Subject:
    """A program that ended by itself, and freed 40 blocks as it did."""
    at = np.linspace(0.0, 0.1, freed)
    kept = simulated.Source(("keep", "main"), 100_000, at, np.full(freed, duration))
    program = simulated.Program([kept, *sources], rate=rate, duration=duration)
    subject = Subject(*program.capture(np.random.default_rng(1)), "x")
    subject.profile.capture.end, subject.profile.capture.from_start = "exited", True
    return subject


def held(*names: str, blocks: int = 1, size: int = 1_000_000, at: float = 0.8) -> simulated.Source:
    """Blocks that a program never frees."""
    born = np.linspace(at, at + 0.01, blocks)
    return simulated.Source(names, size, born, np.full(blocks, np.inf), 5)


@pytest.mark.parametrize("rate", [1, 32768])
@pytest.mark.parametrize("at", [0.8, 3.9])
def test_a_block_that_a_finished_program_lost_never_passes_and_is_named(
    rate: int, at: float
) -> None:
    subject = ended(held("lose", "main", at=at), rate=rate)
    found = one(subject, LEAKS)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert re.fullmatch(
        r"976\.6 KiB .*never freed, in 1 stack: lost, or kept on purpose\? "
        r"Free it, or name it in suppressions",
        found.reason,
    )
    [culprit] = found.culprits
    assert [f.function for f in culprit.frames] == ["lose", "main"]
    assert culprit.text == ("1 block" if rate == 1 else "1 sample")
    enough = one(subject, dataclasses.replace(LEAKS, amount=float(2 << 20)))
    assert enough.verdict is Verdict.PASS
    assert enough.notes[-1].endswith("without a verdict is within the limit")


def test_a_leak_within_the_limit_does_not_hide_what_has_no_verdict() -> None:
    born = np.linspace(0.0, 60.0, 400)
    drip = simulated.Source(("drip", "main"), 16, born, np.full(400, np.inf))
    limit = dataclasses.replace(LEAKS, amount=65536.0)
    lost = held("lose", "main")
    subjects = [ended(drip, *more, duration=60.0, freed=0) for more in ((), (lost,))]
    found = [one(subject, limit) for subject in subjects]
    assert [one.verdict for one in found] == [Verdict.PASS, Verdict.INCONCLUSIVE]
    assert [c.frames[0].function for c in found[1].culprits] == ["drip", "lose"]
    said = (
        r"the sum is of stacks with the verdict leak; 1 stack without it, \S+ KiB.*, may leak too"
    )
    assert [any(re.match(said, note) for note in one.notes) for one in found] == [False, True]


@pytest.mark.parametrize(("rate", "verdict"), [(1, Verdict.INCONCLUSIVE), (4096, Verdict.PASS)])
def test_a_cache_that_is_never_freed_passes_by_its_growth_unless_every_block_is_known(
    rate: int, verdict: Verdict
) -> None:
    found = one(ended(held("fill", "main", blocks=400, size=2000, at=0.1), rate=rate), LEAKS)
    assert found.verdict is verdict
    said = r"781\.2 KiB never freed," if rate == 1 else r"\S+ KiB never freed grew at first, and"
    assert any(re.match(said, text) for text in (found.reason, *found.notes))


RUST = "std::rt::lang_start_internal"


@pytest.mark.parametrize(
    ("stack", "left_out"),
    [
        (("_IO_file_doallocate", "printf", "main"), "_IO_file_doallocate"),
        (("allocate_dtv", "_dl_allocate_tls", "pthread_create", "main"), "_dl_allocate_tls"),
        (("_GLOBAL__sub_I_eh_alloc.cc", "call_init"), "libstdc++'s pool for exceptions"),
        (("set_current_info", RUST, "main"), RUST),
        (("main", "std::sys::backtrace::__rust_begin_short_backtrace", RUST, "main"), ""),
        (("strdup", "main"), ""),
        (("fopen", "main"), ""),
        (("setlocale", "main"), ""),  # of the program, by its module
        (("call_init", "_GLOBAL__sub_I_eh_alloc.cc", "main"), ""),
    ],
)
def test_what_the_runtime_keeps_for_itself_is_left_out_and_named(
    stack: tuple[str, ...], left_out: str
) -> None:
    found = one(ended(held(*stack, size=4096)), LEAKS)
    assert found.verdict is (Verdict.PASS if left_out else Verdict.INCONCLUSIVE)
    said = f"left out: 4.000 KiB that libraries keep for themselves ({left_out})"
    assert (said in found.notes) is bool(left_out)


def test_the_steady_leak_that_every_block_would_show_is_a_number_of_blocks() -> None:
    [note] = one(ended(), LEAKS).notes
    assert re.fullmatch(
        r"the check would have found a steady leak of \d\d blocks in these 4 s", note
    )


def test_in_use_is_counted_without_what_is_suppressed(tmp_path: Path) -> None:
    listed = tmp_path / "known"
    listed.write_text("leak:los*e\n")
    subject = ended(held("lose", "main"), held("keep_on", "main", size=1000))
    limit = Limit(Measure.INUSE, 500.0, text="500")
    for amount, verdict in ((500.0, Verdict.FAIL), (1000.0, Verdict.PASS)):
        found = one(subject, dataclasses.replace(limit, amount=amount), suppressions=(str(listed),))
        assert (found.verdict, found.estimate.value) == (verdict, 1000.0)
        assert found.notes == ["976.6 KiB in use is suppressed"]
        named = [c.frames[0].function for c in found.culprits]
        assert named == (["keep_on"] if verdict is Verdict.FAIL else [])
    assert one(subject, limit).estimate.value == 1_001_000.0


def test_a_suppression_that_matches_nothing_is_named_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "known").write_text("leak:Tabel::lose\nleak:target.c\nleak:other_library\n")
    subject = ended(held("Table::lose", "main"))
    rules = Budget((LEAKS,), suppressions=(str(tmp_path / "known"),))
    [capture] = check([(subject, rules)]).captures
    assert capture.notes == [
        "leak:Tabel::lose matches nothing; nearest: Table::lose",
        "leak:other_library: no stack of this run matches",
    ]


@pytest.mark.parametrize(("lines", "said"), [("leek:f", "line 1: not a sup"), (None, "cannot be")])
def test_a_list_of_suppressions_that_is_none_is_an_unusable_budget(
    tmp_path: Path, lines: str | None, said: str
) -> None:
    if lines is not None:
        (tmp_path / "known").write_text(lines)
    with pytest.raises(InputFileError, match=said) as raised:
        one(ended(), LEAKS, suppressions=(str(tmp_path / "known"),))
    assert raised.value.exit_code == 3


def test_known_leaks_are_suppressed(tmp_path: Path) -> None:
    (tmp_path / "known").write_text("leak:^conn_open$\n")
    found = one(leaking(1 << 20), LEAKS, suppressions=(str(tmp_path / "known"),))
    assert found.verdict is Verdict.PASS
    assert re.fullmatch(r"1 leak of \S+ \S+ is suppressed", found.notes[0])
