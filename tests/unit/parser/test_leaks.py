"""Leak verdicts, held against programs whose every block is known."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from mem_parser.diff import diff_profiles
from mem_parser.errors import InputFileError
from mem_parser.estimate import Estimate
from mem_parser.frames import Frame
from mem_parser.leaks import survivors
from mem_parser.leaks.ages import timeline
from mem_parser.leaks.findings import LeakReport, Verdict
from mem_parser.leaks.headline import growth_text
from mem_parser.leaks.suppressions import Suppressions, parse_suppressions
from mem_parser.leaks.verdicts import find_leaks
from mem_parser.libraries.mark import mark_libraries
from mem_parser.libraries.rules import Libraries
from mem_parser.model import STACK_LOST_SHIFT, Capture, Count, Unit
from mem_parser.names import FrameRule
from mem_parser.reports.leaks import leak_lines
from mem_parser.symbols.table import Function
from mem_parser.units import format_bytes
from simulated import (
    Program,
    Source,
    arrivals,
    burst,
    filled_cache,
    leak,
    lru,
    random_cache,
    saturating,
)

Maker = Callable[[np.random.Generator, str], Source]
HARMLESS: dict[str, Maker] = {
    "a cache filled early": lambda r, n: filled_cache(r, 300, 15, n),
    "globals": lambda r, n: burst(r, 0.0, 2000, n),
    "a cache filled half way": lambda r, n: filled_cache(r, 300, 30, n),
    "a queue": lambda r, n: lru(r, 300, 2, n),
    "a slow queue": lambda r, n: lru(r, 300, 12, n),
    "a cache that replaces its oldest": lambda r, n: lru(r, 300, 40, n),
    "a cache that replaces any, slowly": lambda r, n: random_cache(r, 1000, 30, n),
    "a cache that replaces any": lambda r, n: random_cache(r, 300, 20, n),
    "a cache of keys met at random": lambda r, n: saturating(r, 300, 15, n),
    "something loaded once": lambda r, n: burst(r, 33.0, 3000, n),
}


def verdicts(report: LeakReport) -> dict[str, Verdict]:
    return {f.frames[0].function: f.verdict for f in report.findings}


def judge(program: Program, seed: int = 1) -> LeakReport:
    profile, symbols = program.capture(np.random.default_rng(seed))
    return find_leaks(profile, symbols)


@pytest.mark.parametrize("open_end", [False, True])
@pytest.mark.parametrize("what", HARMLESS)
def test_what_only_looks_like_a_leak_is_none(what: str, *, open_end: bool) -> None:
    random = np.random.default_rng(7)
    sources = [HARMLESS[what](random, f"f{k}") for k in range(60)]
    report = judge(Program(sources, open_end=open_end))
    assert not report.leaks, report.leaks[0].evidence


@pytest.mark.parametrize(("until_s", "found"), [(0.75, False), (0.2, True)])
def test_modules_that_python_imports_are_no_leak_of_a_short_program(
    until_s: float, *, found: bool
) -> None:
    random = np.random.default_rng(7)
    module = leak(random, 400, "new_dict", duration=until_s)
    module.names = ("new_dict", "_find_and_load", "main")
    program = Program([module, leak(random, 400, duration=0.8)], rate=1, duration=0.8)
    profile, symbols = program.capture(random)
    symbols.locations[:] = [
        dataclasses.replace(place, file="<frozen importlib._bootstrap>")
        if symbols.functions[place.function].name == "_find_and_load"
        else place
        for place in symbols.locations
    ]
    profile.capture.end = "exited"
    report = find_leaks(profile, symbols)
    assert [one.frames[0].function for one in report.leaks] == (["leak"] if found else [])
    assert ("0.8 s is too short to tell" in report.too_short) is not found


@pytest.mark.parametrize("open_end", [False, True])
@pytest.mark.parametrize("share", [1.0, 0.1])
def test_leaks_are_found_among_everything_else(share: float, *, open_end: bool) -> None:
    random = np.random.default_rng(3)
    sources = [make(random, name) for name, make in HARMLESS.items()]
    sources += [leak(random, 100 / share, f"leak{k}", share=share) for k in range(10)]
    found = verdicts(judge(Program(sources, open_end=open_end)))
    assert {n for n, v in found.items() if v is Verdict.LEAK} == {f"leak{k}" for k in range(10)}


def test_five_thousand_stacks_give_no_false_leak() -> None:
    random = np.random.default_rng(11)
    sources = [random_cache(random, random.uniform(1, 40), 12, f"r{k}") for k in range(2500)] + [
        filled_cache(random, random.uniform(1, 80), 15, f"c{k}") for k in range(2500)
    ]
    assert Counter(f.verdict for f in judge(Program(sources)).findings)[Verdict.LEAK] == 0


def test_a_leak_called_from_many_places_is_found_by_its_line() -> None:
    random = np.random.default_rng(5)
    sources = []
    for k in range(40):
        one = leak(random, 3.0, "leaky")
        sources.append(Source(("leaky", f"caller{k}", "main"), 4096, one.born, one.died))
    report = judge(Program(sources))
    [found] = report.leaks
    assert [f.function for f in found.frames] == ["leaky"]
    assert found.stacks > 30


def test_a_program_that_comes_to_rest_before_the_end_has_its_leak_all_the_same() -> None:
    random = np.random.default_rng(3)
    working = [leak(random, 100, duration=51.0), lru(random, 300, 2, "queue", duration=51.0)]
    assert verdicts(judge(Program(working)))["leak"] is Verdict.LEAK
    others = [*working, lru(random, 3000, 0.1, "busy")]
    assert verdicts(judge(Program(others)))["leak"] is not Verdict.LEAK


@pytest.mark.parametrize("idle", [0.5, 0.6, 0.8])
@pytest.mark.parametrize("open_end", [False, True])
def test_what_grew_until_all_work_ended_is_neither_leak_nor_cache(
    idle: float, *, open_end: bool
) -> None:
    random = np.random.default_rng(3)
    until = 300 * (1 - idle)
    requests = lru(random, 300, 2, "queue", duration=until)
    program = Program([leak(random, 100, duration=until), requests], duration=300.0)
    program.open_end = open_end
    report = judge(program)
    if open_end and idle < 0.8:  # the bucket in which the work ended is half of the watch
        assert verdicts(report)["leak"] in (Verdict.LEAK, Verdict.INCONCLUSIVE)
        return
    assert verdicts(report)["leak"] is Verdict.INCONCLUSIVE
    assert report.headline.startswith("no verdict on leaks; the program did hardly anything after")
    program.sources[0] = filled_cache(random, 300, until / 15, "cache")
    report = judge(program)
    assert verdicts(report)["cache"] is Verdict.CACHE_LIKE
    assert not report.too_short


def test_a_service_with_little_work_after_its_start_is_not_idle() -> None:
    random = np.random.default_rng(3)
    start = [filled_cache(random, 1000, 10, "tables"), lru(random, 3000, 1, "parse", duration=10)]
    program = Program([*start, lru(random, 20, 1, "queue", duration=300)], duration=300.0)
    for program.open_end in (False, True):
        report = judge(program)
        assert verdicts(report)["tables"] is Verdict.CACHE_LIKE
        assert report.headline == "no leaks found"


def test_blocks_whose_ages_are_not_known_have_no_verdict() -> None:
    random = np.random.default_rng(3)
    profile, symbols = Program([leak(random, 100), lru(random, 300, 2, "queue")]).capture(random)
    assert profile.sites.live_births is not None
    profile.sites.live_births[0] = 0
    [first, *_] = find_leaks(profile, symbols).findings
    assert (first.verdict, first.evidence) == (
        Verdict.INCONCLUSIVE, "the ages of its blocks are not known",
    )  # fmt: skip


def test_bytes_and_rate_of_a_leak_are_within_their_margins() -> None:
    inside_bytes = inside_rate = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        source = leak(random, 100, duration=60.0)
        [found] = judge(Program([source]), seed).leaks
        inside_bytes += abs(found.live.value - 4096 * len(source.born)) < found.live.margin95
        assert found.per_hour is not None
        inside_rate += abs(found.per_hour.value - 4096 * 100 * 3600) < found.per_hour.margin95
    assert inside_bytes >= 34
    assert inside_rate >= 34


def test_the_youngest_tenth_is_young_and_caches_say_when_they_were_full() -> None:
    random = np.random.default_rng(2)
    sources = [burst(random, 57.0, 3000, "new"), filled_cache(random, 300, 14, "cache")]
    report = judge(Program(sources))
    assert verdicts(report) == {"new": Verdict.YOUNG, "cache": Verdict.CACHE_LIKE}
    texts = {f.frames[0].function: f.evidence for f in report.findings}
    assert "in the first 15 s, flat since" in texts["cache"]


@pytest.mark.parametrize(("end", "filled_s", "slows", "verdict"), [
    ("deadline", 36, False, Verdict.INCONCLUSIVE),
    ("deadline", 28, False, Verdict.CACHE_LIKE),
    ("deadline", 36, True, Verdict.CACHE_LIKE),
    ("exited", 36, False, Verdict.CACHE_LIKE),
])  # fmt: skip
def test_what_grew_for_most_of_a_watch_and_freed_nothing_is_no_sure_cache(
    end: str, filled_s: float, *, slows: bool, verdict: Verdict
) -> None:
    random = np.random.default_rng(2)
    filled = filled_cache(random, 100, filled_s, "score")
    score = saturating(random, 400, filled_s / 2.3, "score") if slows else filled
    sources = [score, lru(random, 300, 2, "queue")]
    profile, symbols = Program(sources).capture(random)
    profile.capture.end = end
    found = {f.frames[0].function: f for f in find_leaks(profile, symbols).findings}["score"]
    assert found.verdict is verdict
    assert ("or a leak not called since" in found.evidence) == (verdict is Verdict.INCONCLUSIVE)


@pytest.mark.parametrize("end", ["deadline", "exited"])
def test_caches_of_one_line_that_fill_in_turn_are_no_leak(end: str) -> None:
    random = np.random.default_rng(2)
    first, second = filled_cache(random, 100, 36, "grow"), filled_cache(random, 100, 30, "grow")
    second = Source(("grow", "other"), 4096, 30 + second.born, second.died)
    profile, symbols = Program([first, second]).capture(random)
    profile.capture.end = end
    assert find_leaks(profile, symbols).leaks == []


def test_a_cache_loaded_three_times_is_no_leak() -> None:
    random = np.random.default_rng(2)
    times = np.concatenate([burst(random, at, 2000, "x").born for at in (15.0, 45.0, 58.0)])
    sources = [Source(("loaded", "main"), 4096, times, np.full(len(times), np.inf))]
    sources.append(lru(random, 3000, 0.1, "busy"))
    [found] = [f for f in judge(Program(sources)).findings if f.frames[0].function == "loaded"]
    assert found.verdict is Verdict.INCONCLUSIVE


def test_too_few_samples_are_inconclusive() -> None:
    random = np.random.default_rng(2)
    [found] = judge(Program([leak(random, 2)])).findings
    assert found.verdict is Verdict.INCONCLUSIVE


def test_snapshots_must_show_the_growth_too() -> None:
    random = np.random.default_rng(4)
    program = Program([leak(random, 100), lru(random, 400, 30, "ring")], open_end=True)
    blocks = program.sampled(random)
    first, _ = program.snapshot(blocks, 30.0)
    middle, _ = program.snapshot(blocks, 45.0)
    last, symbols = program.snapshot(blocks, 60.0)
    for earlier in ([first], [first, middle]):
        assert verdicts(find_leaks(last, symbols, earlier=earlier))["leak"] is Verdict.LEAK
    # A newest snapshot like the one before it: nothing has grown in between.
    stuck = find_leaks(last, symbols, earlier=[last])
    assert not stuck.leaks
    assert any("between the snapshots" in f.evidence for f in stuck.findings)


def test_a_window_asks_only_for_blocks_born_in_it() -> None:
    random = np.random.default_rng(6)
    sources = [filled_cache(random, 300, 14, "cache"), leak(random, 100), lru(random, 300, 3, "q")]
    profile, symbols = Program(sources).capture(random)
    report = find_leaks(profile, symbols, window=(15.0, 45.0))
    assert verdicts(report) == {"leak": Verdict.LEAK}
    truth = 4096 * int(((sources[1].born > 15) & (sources[1].born < 45)).sum())
    assert report.leaks[0].live.value == pytest.approx(truth, rel=0.3)


def test_a_file_without_ages_gets_no_verdict() -> None:
    profile, symbols = Program([leak(np.random.default_rng(1), 50)]).capture(
        np.random.default_rng(1)
    )
    profile.sites.live_births = None
    report = find_leaks(profile, symbols)
    assert {f.verdict for f in report.findings} == {Verdict.INCONCLUSIVE}
    assert report.as_json()["rows"][0]["bytes_per_hour"] is None


@pytest.mark.parametrize(("ends", "duration"), [
    ([1.0], 5.0), ([], 5.0), ([math.nan] * 8, 5.0), ([10**400] * 8, 5.0), ([-1.0] * 8, 5.0),
    ([9.0, 1.0] * 4, 5.0), ([1.0] * 8, math.inf), ([1.0] * 8, math.nan), ([0.0] * 8, 1e-300),
])  # fmt: skip
def test_forged_times_do_no_harm(ends: list[float | None], duration: float) -> None:
    random = np.random.default_rng(1)
    profile, symbols = Program([leak(random, 50), burst(random, 2.0, 50, "b")]).capture(random)
    profile.capture.bucket_end_s, profile.capture.duration_s = ends, duration
    json.dumps(find_leaks(profile, symbols).as_json(), allow_nan=False)


def test_a_profile_of_nothing_has_no_findings() -> None:
    profile, symbols = Program([]).capture(np.random.default_rng(1))
    assert not find_leaks(profile, symbols).findings
    assert not diff_profiles((profile, symbols), (profile, symbols)).rows


def test_json_rows_come_first_and_hold_what_is_promised() -> None:
    block = judge(Program([leak(np.random.default_rng(1), 50)])).as_json()
    assert next(iter(block)) == "rows"
    [row] = block["rows"]
    assert row["verdict"] == "leak"
    assert row["stack"] == [
        {"function": "leak", "file": "target.c", "line": 1},
        {"function": "main", "file": "target.c", "line": 7},
    ]
    assert row["bytes"] > 0
    assert row["std_error"] > 0
    assert row["bytes_per_hour"] > 0


@pytest.mark.parametrize(("ends", "duration", "early", "late", "young"), [
    ([60 * (k + 1) / 8 for k in range(8)], 60.0, (7.5, 30), (30, 52.5), (52.5, 60)),
    ([1, 4, 16, 64, 256, 1024, 4096, None], 300.0, (16, 64), (64, 256), (256, 300)),
    ([1, 4, 16, 64, 256, 1024, 4096, None], 60.0, (4, 16), (16, 60), None),
    ([60 * (k + 1) / 8 for k in range(8)], 20.0, (0, 7.5), (7.5, 15), (15, 20)),
])  # fmt: skip
def test_time_is_divided_at_bucket_bounds(
    ends: list[float | None],
    duration: float,
    early: tuple[float, float],
    late: tuple[float, float],
    young: tuple[float, float] | None,
) -> None:
    times = timeline(Capture(duration_s=duration, bucket_end_s=ends), 8)
    assert times is not None
    for mask, expected in ((times.early, early), (times.late, late), (times.young, young)):
        if expected is None:
            assert not mask.any()
        else:
            assert (times.start[mask].min(), times.end[mask].max()) == expected


def test_a_suppression_hides_any_stack_it_matches() -> None:
    profile, symbols = Program([leak(np.random.default_rng(1), 50)]).capture(
        np.random.default_rng(1)
    )
    for pattern, hidden in (
        ("eak", True), ("^leak$", True), ("l*k", True), ("^eak", False), ("target.c", True),
        ("/opt/*get$", True), ("^ma$", False), ("other", False),
    ):  # fmt: skip
        report = find_leaks(profile, symbols, suppressions=Suppressions([pattern]))
        assert bool(report.suppressed) is hidden, pattern
        assert bool(report.leaks) is not hidden


def test_suppression_files_are_read_as_leaksanitizer_reads_them() -> None:
    text = "# known\n\nleak:^foo*bar$\n  leak:lib.so  \n"
    assert parse_suppressions(text, "x") == ["^foo*bar$", "lib.so"]
    for line in ("nonsense", "leek:foo", "race:foo", "leak:", "leak:^$"):
        with pytest.raises(InputFileError, match="x, line 1"):
            parse_suppressions(f"{line}\n", "x")


def test_stars_cannot_make_matching_slow() -> None:
    many = Suppressions(["a*" * 12 + "b$"])
    assert not many.match([Frame("a" * 60, "", 0, "")])


def test_thin_stacks_beyond_number_are_one_row_and_still_pooled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = np.random.default_rng(4)
    leaking = [leak(random, 0.5, "node") for _ in range(60)]
    for k, source in enumerate(leaking):
        source.names = ("node", f"caller{k}", "main")
    thin = [burst(random, 30.0, 20, f"thin{k}") for k in range(40)]
    profile, symbols = Program([*leaking, *thin]).capture(random)
    whole = find_leaks(profile, symbols)
    monkeypatch.setattr(survivors, "MOST_THIN", 5)
    few = find_leaks(profile, symbols)
    assert [f.stacks for f in few.leaks] == [f.stacks for f in whole.leaks]
    assert [f.frames[0].function for f in few.leaks] == ["node"]
    (rest,) = [f for f in few.findings if not f.frames]
    assert rest.stacks > 20
    assert "fewer than 12 samples in each" in rest.evidence
    for report in (few, whole):
        assert sum(f.live.value for f in report.findings) == pytest.approx(
            profile.total(Count.INUSE, Unit.SPACE).value
        )
    assert len(few.findings) < len(whole.findings)


# Leaks behind libraries.


def behind_containers(random: np.random.Generator, rate: float = 60) -> list[Source]:
    """One function that leaks through two containers, called from two places."""
    inner = (("std::vector::_M_realloc_insert", "std::vector::emplace_back"), ("std::map::insert",))
    return [
        dataclasses.replace(
            leak(random, rate, "x", size=1000 * (1 + k)),
            names=(*names, "Session::add", caller, "main"),
        )
        for k, names in enumerate(inner)
        for caller in ("load", "replay")
    ]


def judge_marked(sources: list[Source], seed: int = 1) -> tuple[LeakReport, LeakReport]:
    """The report by owner, and that of each stack alone."""
    profile, symbols = Program(sources).capture(np.random.default_rng(seed))
    marked = mark_libraries(profile, symbols, Libraries())
    return find_leaks(profile, marked), find_leaks(profile, marked, rule=FrameRule.OWN)


def test_the_evidence_of_a_joined_row_is_that_of_all_its_stacks() -> None:
    random = np.random.default_rng(4)
    filled = [
        dataclasses.replace(burst(random, 1.0, 3000, "x"), names=(inner, "warm", "main"))
        for inner in ("std::vector::push_back", "std::map::insert")
    ]
    by_owner, apart = judge_marked(filled)
    [found], singly = by_owner.findings, apart.findings
    assert [f.verdict for f in (found, *singly)] == [Verdict.CACHE_LIKE] * 3
    told = re.escape(format_bytes(found.live.value))
    assert re.match(f"grew to {told} in the first", found.evidence)


def test_leaks_of_one_owner_are_one_row_with_the_sums_of_all_its_stacks() -> None:
    random = np.random.default_rng(3)
    by_owner, apart = judge_marked(behind_containers(random))
    [found] = by_owner.leaks
    assert len(apart.leaks) == 4
    assert (found.frames[0].function, found.stacks) == ("Session::add", 4)
    assert found.inner == ()
    assert found.live.value == pytest.approx(sum(f.live.value for f in apart.leaks))
    assert found.live.samples == sum(f.live.samples for f in apart.leaks)
    errors = [f.live.std_error for f in apart.leaks]
    assert found.live.std_error == pytest.approx(math.hypot(*errors))
    rates = [f.per_hour for f in apart.leaks if f.per_hour is not None]
    assert found.per_hour is not None
    assert found.per_hour.value == pytest.approx(sum(r.value for r in rates))
    assert found.per_hour.std_error == pytest.approx(math.hypot(*(r.std_error for r in rates)))


def test_the_growth_of_a_row_of_several_stacks_is_within_its_margin() -> None:
    inside = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        sources = behind_containers(random, 400)
        [found] = judge_marked(sources, seed)[0].leaks
        expected = 3600 * 400 * 2 * (1000 + 2000)
        assert found.per_hour is not None
        inside += abs(found.per_hour.value - expected) < found.per_hour.margin95
    assert inside >= 52  # of 60; fewer has a chance below 1 in 100 at 95 %


def test_a_container_that_leaks_is_found_beside_one_that_does_not_on_the_same_line() -> None:
    """Folded before the test, the string's blocks would hide the node's."""
    random = np.random.default_rng(4)
    names = ("main", "Session::add")
    kept = dataclasses.replace(leak(random, 100), names=("std::map::insert", *names[::-1]))
    freed = dataclasses.replace(
        leak(random, 2000, share=0.0), names=("std::string::_M_create", *names[::-1])
    )
    report, _ = judge_marked([kept, freed])
    assert [f.frames[0].function for f in report.leaks] == ["Session::add"]
    assert [f.function for f in report.leaks[0].inner] == ["std::map::insert"]


def test_a_suppression_may_name_a_folded_frame() -> None:
    random = np.random.default_rng(3)
    profile, symbols = Program(behind_containers(random)).capture(random)
    marked = mark_libraries(profile, symbols, Libraries())
    listed = Suppressions(["std::vector*"])
    report = find_leaks(profile, marked, suppressions=listed)
    assert [f.stacks for f in report.leaks] == [2]
    assert len(report.suppressed) == 2


def test_a_suppression_may_name_a_frame_beyond_code_without_a_name() -> None:
    """Of one call, compiled for two callers, the listed caller's blocks alone are hidden."""
    random = np.random.default_rng(3)
    calls = [
        dataclasses.replace(leak(random, 100), names=("insert", made, caller, "main"))
        for made, caller in (("0x1", "index"), ("0x2", "index"), ("0x3", "serve"))
    ]
    profile, symbols = Program(calls).capture(random)
    symbols.functions[:] = [
        Function(f.name, f.name, "", known=False) if f.name.startswith("0x") else f
        for f in symbols.functions
    ]
    marked = mark_libraries(profile, symbols, Libraries())
    whole = find_leaks(profile, marked)
    assert [[f.function for f in one.frames] for one in whole.leaks] == [["insert"]]
    found = find_leaks(profile, marked, suppressions=Suppressions(["^index$"]))
    assert len(found.leaks) == len(found.suppressed) == 1
    shares = [
        one.live.value / whole.leaks[0].live.value for one in (*found.leaks, *found.suppressed)
    ]
    assert shares == pytest.approx([1 / 3, 2 / 3], rel=0.2)


def test_the_report_opens_and_fails_with_the_leaks_in_one_sentence() -> None:
    random = np.random.default_rng(3)
    report, _ = judge_marked(behind_containers(random))
    rate = re.escape(format_bytes(report.leaks[0].per_hour.value / 60))  # type: ignore[union-attr]
    sentence = rf"1 leak, {rate}/min ± [\d.]+ \S+/min, in Session::add, target\.c:7"
    assert re.fullmatch(sentence, report.headline)
    profile, _ = Program([]).capture(random)
    lines = list(leak_lines(report, profile, file="x.heap", width=80, exit_code=6))
    assert re.fullmatch(sentence, lines[0])
    assert lines[1].startswith("LEAK          4 stacks below Session::add")
    last = " ".join(lines[-2:]).split("   ")[0]
    assert report.headline in last or report.headline in lines[-2]
    assert lines[-1].endswith("exit code 6 (--fail-on leak)")
    assert report.as_json()["headline"] == report.headline
    assert LeakReport([]).headline == "no leaks found"


def test_a_sentence_on_many_leaks_names_two_and_counts_the_rest() -> None:
    random = np.random.default_rng(3)
    report = judge(Program([leak(random, 100, f"leak{k}") for k in range(4)]))
    assert re.match(r"4 leaks, .*/min ± .*, in leak\d, target\.c:1; leak\d, .*; and 2 more$",
                    report.headline)  # fmt: skip
    total = sum((f.per_hour for f in report.leaks if f.per_hour), start=Estimate(0.0))
    assert growth_text(total, 60.0) in report.headline


def test_no_leak_is_told_before_others_had_their_time() -> None:
    random = np.random.default_rng(3)
    for lifetime_s, verdict in ((39, Verdict.LEAK), (45, Verdict.INCONCLUSIVE)):
        program = Program([leak(random, 100, "leak"), lru(random, 600, lifetime_s, "ring")])
        found = next(f for f in judge(program).findings if f.frames[0].function == "leak")
        assert found.verdict is verdict
        assert found.is_open is (verdict is Verdict.INCONCLUSIVE)
    assert found.evidence == "grows; 60 s is too short to tell: watch 2 min"


@pytest.mark.parametrize("blocks", [11, 30, 3000])
def test_lost_stacks_have_no_verdict_and_are_not_among_no_leaks(blocks: int) -> None:
    random = np.random.default_rng(1)
    sources = [filled_cache(random, 300, 15, "cache"), burst(random, 33.0, blocks, "lost")]
    profile, symbols = Program(sources, rate=1).capture(random)
    profile.stacks.flags[1] = 2 << STACK_LOST_SHIFT
    report = find_leaks(profile, symbols)
    assert verdicts(report) == {"cache": Verdict.CACHE_LIKE}
    size = format_bytes(4096 * blocks)
    none = "no leaks found"
    partial = f"no verdict on {size} without stacks; {none} in the rest"
    assert report.is_partial is (blocks >= survivors.MIN_SAMPLES)
    assert report.headline == (none if blocks < 0.01 * 4500 else partial)
    [note] = report.notes
    assert note == f"no verdict on {size} in use, {blocks:,} samples without stacks"


def test_what_is_allocated_faster_and_never_freed_is_no_cache() -> None:
    random = np.random.default_rng(5)
    born = np.concatenate((arrivals(random, 1, 0, 20), arrivals(random, 300, 20, 60)))
    source = Source(("busy", "main"), 4096, born, np.full(len(born), np.inf))
    [finding] = find_leaks(*Program([source]).capture(random)).findings
    assert finding.verdict is Verdict.INCONCLUSIVE


def test_growth_that_only_a_burst_makes_comparable_is_no_leak() -> None:
    """A pool of a server that fills at its start, and then a little."""
    random = np.random.default_rng(1)
    per_bucket = (14, 9, 0, 0, 3, 2, 3, 7)
    born = np.concatenate(
        [random.uniform(k * 7.5, k * 7.5 + 7.5, n) for k, n in enumerate(per_bucket)]
    )
    pool = Source(("pool", "main"), 720, born, np.full(len(born), np.inf))
    [finding] = find_leaks(*Program([pool], rate=1).capture(random)).findings
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert finding.evidence == "grows, but not surely in both halves of the capture"
