"""What is said of leaks: the sentence, the rows, the notes."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from heapfiles import HeapFile, Record
from mem_parser.estimate import Estimate, Unseen
from mem_parser.frames import Frame
from mem_parser.heapfile.writer import write_heap
from mem_parser.leaks import findings
from mem_parser.leaks.findings import Finding, LeakReport, Verdict, tell_apart
from mem_parser.leaks.headline import growth_text
from mem_parser.leaks.verdicts import find_leaks
from mem_parser.leaks.watch import time_text
from mem_parser.model import STACK_LOST_SHIFT
from mem_parser.reports.leaks import leak_lines
from mem_parser.reports.opening import opening
from mem_parser.symbols.table import Function, Location, Role
from parser_run import parse
from sampler_run import build
from simulated import Program, burst, cleaned_up, leak, lru, one_burst, worker


@pytest.mark.parametrize(("watched_s", "text"), [
    (math.nan, "3.433 GiB/h ± 0.34 GiB/h"), (360.0, "3.433 GiB/h ± 0.34 GiB/h"),
    (359.0, "58.59 MiB/min ± 5.7 MiB/min"), (5.0, "1,000 KiB/s ± 98 KiB/s"),
])  # fmt: skip
def test_a_rate_is_told_for_no_longer_than_ten_times_the_watched_time(
    watched_s: float, text: str
) -> None:
    assert growth_text(Estimate(3600 * 1024e3, 180e6, 400), watched_s) == text
    assert growth_text(Estimate(1e6, 3e6, 13), watched_s) == ""


def test_a_rate_of_few_samples_has_its_ends_in_its_unit() -> None:
    few = Estimate(3600 * 1024e3, 3600 * 300e3, 13, Unseen(3600 * 300e3))
    assert growth_text(few, 5.0) == "1,000 KiB/s (0.50–1.9 MiB/s)"


def test_a_growth_that_shrinks_has_the_same_error_in_every_unit() -> None:
    shrinking = Estimate(-60 * 1024.0**2, 10 * 1024.0**2, 40, signed=True)
    assert growth_text(shrinking, 3600.0) == "-60.00 MiB/h ± 20 MiB/h"
    assert growth_text(shrinking, 60.0) == "-1.000 MiB/min ± 0.33 MiB/min"


@pytest.mark.parametrize(("end", "duration", "is_noted"), [
    ("deadline", 60.0, True), ("deadline", 600.0, False), ("deadline", 590.0, False),
    ("exited 0", 60.0, False), ("signal 9 SIGKILL", 60.0, True),
])  # fmt: skip
def test_a_leak_watched_for_a_short_time_may_be_a_cache_that_still_fills(
    end: str, duration: float, is_noted: bool
) -> None:
    random = np.random.default_rng(3)
    sources = [leak(random, 100, "leak", duration=duration)]
    profile, symbols = Program(sources, duration=duration).capture(random)
    profile.capture.end = end
    report = find_leaks(profile, symbols)
    assert len(report.leaks) == 1
    noted = "a cache that still fills looks the same in 60 s; watch 10 min to be sure"
    assert report.notes == ([noted] if is_noted else [])


def test_the_caller_of_a_row_is_a_function_of_another_name() -> None:
    random = np.random.default_rng(3)
    source = dataclasses.replace(leak(random, 100, "grow"), names=("grow", "grow", "serve"))
    profile, symbols = Program([source]).capture(random)
    lines = list(leak_lines(find_leaks(profile, symbols), profile, file="x.heap", width=80))
    assert lines[1].startswith("LEAK          serve → grow  ")


def test_rows_of_one_function_with_other_verdicts_say_what_tells_them_apart() -> None:
    random = np.random.default_rng(3)
    turned = [lru(random, 100, 3, name) for name in ("query", "update")]
    sources = [
        dataclasses.replace(one, names=("fill", "open", f"handle{k}", "main"))
        for k, one in enumerate((leak(random, 100), *turned))
    ]
    profile, symbols = Program([*sources, lru(random, 100, 3, "other")]).capture(random)
    for k, function in enumerate(symbols.functions):
        if function.name.startswith("handle"):
            line = 37 + int(function.name[-1])
            symbols.locations[k] = Location(k, "main.c", line)
            symbols.functions[k] = dataclasses.replace(function, name="handle")
    report = find_leaks(profile, symbols)
    told = [(f.frames[0].function, f.verdict, f.evidence.split(";")[0]) for f in report.findings]
    assert told == [
        ("fill", Verdict.LEAK, "called by handle, main.c:37"),
        ("fill", Verdict.CACHE_LIKE, "called from several places"),
        ("other", Verdict.CACHE_LIKE, "Steady turnover: all older blocks were freed."),
    ]  # fmt: skip
    lines = list(leak_lines(report, profile, file="x.heap", width=80))
    assert lines[-1] == "  mem_parser tree x.heap --focus '^fill$' --lines"
    alone = dataclasses.replace(report.leaks[0], frames=report.leaks[0].frames[:1], evidence="")
    other = dataclasses.replace(alone, verdict=Verdict.CACHE_LIKE, lines=(9,))
    other.frames = (dataclasses.replace(alone.frames[0], line=9),)
    assert [f.evidence for f in tell_apart([alone, other])] == ["", "at target.c:9"]
    assert [f.by_line for f in tell_apart([alone, other])] == [True, True]


def test_stacks_of_one_function_are_not_each_compared_with_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared = []
    monkeypatch.setattr(findings, "_parting", lambda one, other: compared.append(one))
    frames = tuple(Frame(name, "a.c", 1, "m") for name in ("own", "main"))
    many = [
        Finding(list(Verdict)[-(k % 2)], Estimate(1.0), None, frames, str(k)) for k in range(20_000)
    ]
    assert [f.evidence for f in tell_apart(many)] == [str(k) for k in range(20_000)]
    assert 0 < len(compared) < 20_000


@pytest.mark.parametrize("width", [56, 60, 79, 80, 200])
def test_verdicts_fit_into_the_width_and_names_lose_their_beginning(width: int) -> None:
    random = np.random.default_rng(3)
    long = "handle_request_of_a_customer_with_a_name"
    sources = [
        dataclasses.replace(leak(random, 100, "grow"), names=(long, "serve")),
        dataclasses.replace(lru(random, 300, 2, "queue"), names=(f"queue_{long}", "serve")),
    ]
    profile, symbols = Program(sources).capture(random)
    report = find_leaks(profile, symbols)
    lines = [str(line) for line in leak_lines(report, profile, file="x", width=width, exit_code=6)]
    assert max(map(len, lines)) <= width, lines
    [leaks] = [line for line in lines if line.startswith("LEAK")]
    assert long[-15:] in leaks
    assert any(line.endswith("target.c:1") for line in lines)


@pytest.mark.parametrize(("times", "judged"), [(1, True), (3, False)])
def test_a_note_says_which_growth_has_no_verdict(times: int, judged: bool) -> None:
    random = np.random.default_rng(5)
    profile, symbols = Program([leak(random, 60, "grow")]).capture(random)
    held, births = profile.sites, profile.sites.births
    sites = dataclasses.replace(
        held,
        inuse_blocks=held.inuse_blocks // 9, inuse_bytes=held.inuse_bytes // 9,
        peak_blocks=held.inuse_blocks * times, peak_bytes=held.inuse_bytes * times,
        before_end_blocks=held.inuse_blocks, before_end_bytes=held.inuse_bytes,
        before_end_births=births, before_end_live_births=held.live_births,
        before_end_oldest_s=held.oldest_birth_s,
    )  # fmt: skip
    capture = dataclasses.replace(profile.capture, before_end_at_s=60.0, end="exited 0")
    ended = dataclasses.replace(profile, sites=sites, capture=capture)
    report = find_leaks(ended, symbols)
    [note] = report.notes
    none = dataclasses.replace(report, findings=[]).headline
    assert none == "no leaks found" + ("" if judged else " in the first 60 s")
    assert note.startswith("Verdicts are for second 60 (")
    assert ("before the program's clean-up." in note) is judged
    assert ("growth after it, to the peak of" in note) is not judged


@pytest.mark.parametrize("seconds", [4, 60])
@pytest.mark.parametrize(("left", "verdict", "code"), [
    (0, Verdict.HELD, 0), (0.08, Verdict.LEAK, 6), (1, Verdict.LEAK, 6),
])  # fmt: skip
def test_growth_that_a_program_frees_at_its_end_is_told_and_is_no_leak(
    seconds: int, left: float, verdict: Verdict, code: int, tmp_path: Path
) -> None:
    random = np.random.default_rng(5)
    source = leak(random, 60000 / seconds, "grow", duration=float(seconds))
    profile, symbols = Program([source], duration=float(seconds)).capture(random)
    ended = cleaned_up(profile, left)
    report = find_leaks(ended, symbols)
    [found] = report.findings
    assert found.verdict is verdict
    if verdict is Verdict.HELD:
        grew = r"growth held until the clean-up, \S+ \S+ ± .*, in grow, target\.c:1"
        said = rf"{grew}; no leaks by the end"
        assert re.fullmatch(said, report.headline)
        first, *_, last = opening(ended, symbols, report)
        assert (first.kind, first.text) == ("grows", report.headline)
        assert last.text.split(" the clean-up")[0].endswith("in use after")
    file = tmp_path / "x.heap"
    file.write_bytes(write_heap(ended))
    done = parse("leaks", "--fail-on", "leak", file)
    assert done.returncode == code, done.stdout
    assert ("held to end   " in done.stdout) is (verdict is Verdict.HELD)


@pytest.mark.parametrize(
    ("rows", "shown"), [(None, (12, 10, 1)), (2, (2, 2, 2)), (0, (12, 12, 12))]
)
def test_so_many_rows_of_each_verdict_are_shown_as_asked(
    rows: int | None, shown: tuple[int, ...]
) -> None:
    profile, _ = one_burst(40, "grow", rate=65536)
    verdicts = (Verdict.LEAK, Verdict.YOUNG, Verdict.INCONCLUSIVE)
    found = [
        Finding(v, Estimate(2e6, 1e5, 400), None, (Frame(f"f{k}_{v}", "/a.c", 3, ""),), "since")
        for v in verdicts
        for k in range(12)
    ]
    _, *lines = leak_lines(LeakReport(found), profile, file="x", width=80, rows=rows, exit_code=6)
    for verdict, number in zip(verdicts, shown, strict=True):
        names = [line for line in lines if re.search(rf" f\d+_{verdict} ", line)]
        assert len(names) == number, lines
    assert ("LEAK          10 stacks, 19.07 MiB more" in lines) is (rows == 2)


def test_long_notes_say_why_functions_have_no_names(tmp_path: Path) -> None:
    program = build("leaky.c")
    subprocess.run(["strip", "-o", tmp_path / "bare", program], check=True, timeout=60)
    file = tmp_path / "x.heap"
    maps = [f"00011000-00012000 r-xp 00001000 00:00 1 {tmp_path}/bare"]
    file.write_bytes(HeapFile([Record((0x11200, 0x11300), 9, 9000)], maps=maps).first_part())
    short, long = (parse("leaks", *options, str(file)).stdout for options in ((), ("-v",)))
    assert "Functions without a name: bare (2)" in long
    assert "-p UNSTRIPPED is the same build with symbols" in " ".join(long.split())
    assert "Functions without a name" not in short


def test_a_leak_in_what_may_be_a_wrapper_says_how_to_see_its_callers(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    leaks = [
        dataclasses.replace(leak(random, 300), names=("xget", f"user{k}", "main")) for k in range(4)
    ]
    file = tmp_path / "x.heap"
    file.write_bytes(write_heap(worker(random, *leaks)))
    told = "note: xget may be a wrapper: --library '^xget$' charges its callers"
    assert told in parse("leaks", file).stdout.splitlines()
    assert "may be a wrapper" not in parse("leaks", "--focus", "xget", file).stdout


def test_notes_break_between_words() -> None:
    profile, _ = one_burst(40, "grow", rate=65536)
    report = LeakReport([], notes=["a note of eight words for a reader " * 4])
    lines = list(leak_lines(report, profile, file="x.heap", width=80))
    notes = [line for line in lines if line.startswith(("note:", "  "))]
    assert len(notes) == 2
    assert all(line.endswith((" a", " of", "reader", "words", "for")) for line in notes), notes
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("verdict", [Verdict.CACHE_LIKE, Verdict.YOUNG, Verdict.INCONCLUSIVE])
def test_the_code_of_a_python_file_is_told_with_its_file(verdict: Verdict) -> None:
    profile, _ = one_burst(40, "grow", rate=65536)
    frames = (Frame("<module>", "/shop/app.py", 3, ""), Frame("call", "/lib/imp.py", 9, ""))
    found = Finding(verdict, Estimate(2e6, 1e5, 400), None, frames, "since then")
    lines = list(leak_lines(LeakReport([found]), profile, file="x.heap", width=80))
    assert any("call → <module> (app.py:3)  " in line for line in lines)


@pytest.mark.parametrize(("inner", "spot", "said"), [
    ("remember", "score.c", "; allocated by native code: remember, score.c:7"),
    ("remember", "", "; allocated by native code: remember, score.so"),
    ("copy", "python", "none freed"),
])  # fmt: skip
def test_a_leak_of_python_s_says_which_native_code_allocates(
    inner: str, spot: str, said: str
) -> None:
    random = np.random.default_rng(1)
    source = dataclasses.replace(leak(random, 60), names=(inner, "task", "main"))
    profile, symbols = Program([source]).capture(random)
    python = spot == "python"
    file = "/lib/copy.py" if python else spot
    symbols.functions[0] = Function(
        inner, inner, file if python else "/lib/score.so", file, role=Role.LIBRARY, python=python
    )
    symbols.functions[1] = Function("task", "task", "/a.py", "/a.py", python=True)
    symbols.locations[0] = Location(0, file, 7 if file else 0)
    report = find_leaks(profile, symbols)
    lines = list(leak_lines(report, profile, file="x.heap", width=80))
    assert [f.frames[0].function for f in report.leaks] == ["task"]
    assert report.leaks[0].evidence.endswith(said)
    assert lines[-1].endswith("'^task$'" if python else "'^task$' --all-frames")


@pytest.mark.parametrize(("size", "python", "doubts"), [
    (64, True, True), (120, True, True), (80, True, False), (64, False, False),
])  # fmt: skip
def test_a_leak_of_what_cpython_recycles_may_be_of_another_line(
    size: int, *, python: bool, doubts: bool
) -> None:
    random = np.random.default_rng(1)
    source = dataclasses.replace(leak(random, 60, size=size), names=("task", "main"))
    profile, symbols = Program([source], rate=1).capture(random)
    symbols.functions[0] = Function("task", "task", "/a.py", "/a.py", python=python)
    [found] = find_leaks(profile, symbols).leaks
    assert ("another line may hold them: CPython reuses" in found.evidence) == doubts


def test_a_row_of_stacks_on_several_lines_names_them_all() -> None:
    random = np.random.default_rng(1)
    called = [(12, 60), (17, 200), (13, 60), (17, 60), (19, 60), (23, 60)]
    sources = [
        dataclasses.replace(leak(random, rate), names=(f"task{k}", "main"))
        for k, (_, rate) in enumerate(called)
    ]
    profile, symbols = Program(sources).capture(random)
    for k, (line, _) in enumerate(called):
        of_task = next(n for n, f in enumerate(symbols.functions) if f.name == f"task{k}")
        symbols.locations[of_task] = Location(0, "task.c", line)
    lines = list(leak_lines(find_leaks(profile, symbols), profile, file="x.heap", width=90))
    assert any(line.endswith("  task.c:17, 12, 13, 19, …") for line in lines)


def test_what_has_no_verdict_is_above_what_is_harmless() -> None:
    random = np.random.default_rng(1)
    sources = [burst(random, 2.0, 400, "cache"), burst(random, 30.0, 4000, "grown")]
    profile, symbols = Program([*sources, burst(random, 59.0, 400, "new")]).capture(random)
    report = find_leaks(profile, symbols)
    lines = list(leak_lines(report, profile, file="x.heap", width=80))
    labels = [line.split()[0] for line in lines if line[:1].isalpha()]
    assert labels[1:] == ["inconclusive", "cache-like", "young"]


def test_a_growth_below_its_error_is_no_rate() -> None:
    profile, _ = one_burst(40, "grow", rate=65536)
    sure = Estimate(2e6, 1e5, 400)
    unsure = Estimate(2e6, 3e6, 13)
    frames = (Frame("grow", "/src/grow.c", 3, ""),)
    leaks = [Finding(Verdict.LEAK, sure, growth, frames, "none freed") for growth in (sure, unsure)]
    for found, growth in zip(leaks, (True, False), strict=True):
        lines = list(leak_lines(LeakReport([found]), profile, file="x.heap", width=80))
        assert ("/h" in lines[2]) is growth
        assert ("too few samples to tell how fast" in lines[2]) is not growth
        assert ("/h" in lines[0]) is growth


def test_a_capture_without_a_block_is_not_said_to_lack_ages() -> None:
    random = np.random.default_rng(1)
    profile, symbols = Program([leak(random, 100, "grow")]).capture(random)
    profile.capture.duration_s = 0.0
    [note] = find_leaks(profile, symbols).notes
    assert note.startswith("the file holds no ages")
    nothing = profile.where(np.zeros(len(profile.sites), dtype=np.bool_))
    assert find_leaks(nothing, symbols).notes == []


@pytest.mark.parametrize("lacks", ["samples", "ages", "moments"])
def test_what_shows_no_leak_in_any_case_does_not_pass(lacks: str, tmp_path: Path) -> None:
    profile, _ = one_burst(3000, "load", rate=65536)
    capture, sites = profile.capture, profile.sites
    if lacks == "samples":
        profile = profile.where(np.zeros(len(sites), dtype=np.bool_))
        profile.capture.samples = 0
    elif lacks == "ages":
        sites.births = sites.live_births = sites.oldest_birth_s = None
    else:
        capture.kind, capture.end = "recovered", "exited"
        sites.peak_blocks, sites.peak_bytes = sites.inuse_blocks * 3, sites.inuse_bytes * 3
    said = {
        "samples": "nothing seen: no allocation was sampled",
        "ages": "no verdict on leaks",
        "moments": "no verdict on leaks: the program freed its memory before it ended; save one",
    }[lacks]
    file = tmp_path / "x.heap"
    file.write_bytes(write_heap(profile))
    done = parse("leaks", "--fail-on", "leak", file)
    assert done.returncode == 7, done.stdout
    assert done.stdout.startswith(said)
    assert json.loads(parse("leaks", "--json", file).stdout)["headline"].startswith(said)
    summary = " ".join(parse("summary", file).stdout.split())
    assert "no leaks" not in summary
    assert lacks == "ages" or said in summary


def test_what_is_young_is_not_said_to_be_no_leak() -> None:
    def finding(verdict: Verdict, size: float) -> Finding:
        return Finding(verdict, Estimate(size, 1e5, 300), None, (), "")

    young = [finding(Verdict.YOUNG, 8e7)]
    assert LeakReport([*young, finding(Verdict.CACHE_LIKE, 1e5)]).headline == "no leaks found"
    report = LeakReport([*young, finding(Verdict.INCONCLUSIVE, 7e6)])
    assert report.headline == "no verdict on leaks"


def test_what_ended_early_in_its_planned_time_says_so() -> None:
    random = np.random.default_rng(5)
    program = Program([leak(random, 100, "grow")], duration=600.0)
    profile, symbols = program.snapshot(program.sampled(random), 60.0)
    [finding] = find_leaks(profile, symbols).findings
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert finding.evidence == "too short a time to tell ages"
    whole, names = Program([leak(random, 100, "grow")]).capture(random)
    [finding] = find_leaks(whole, names, window=(0.0, 7.0)).findings
    assert "to tell ages" not in finding.evidence


@pytest.mark.parametrize(("blocks", "code"), [(11, 0), (3000, 7)])
def test_a_check_does_not_pass_what_lost_stacks_may_hide(
    blocks: int, code: int, tmp_path: Path
) -> None:
    random = np.random.default_rng(1)
    sources = [lru(random, 300, 5, "cache"), burst(random, 33.0, blocks, "lost")]
    profile, _ = Program(sources, rate=1).capture(random)
    profile.stacks.flags[1] = 2 << STACK_LOST_SHIFT
    file = tmp_path / "x.heap"
    file.write_bytes(write_heap(profile))
    done = parse("leaks", "--fail-on", "leak", file)
    assert done.returncode == code
    assert ("exit code 7 (--fail-on leak)" in done.stdout) == (code == 7)
    assert parse("leaks", file).returncode == 0


@pytest.mark.parametrize(
    ("growth", "text"),
    [(9e8, "; 858.3 MiB/h ± 96 MiB/h more without a verdict"), (3e7, ""), (-9e8, "")],
)
def test_growth_without_a_verdict_is_told_beside_that_of_the_leaks(
    growth: float, text: str
) -> None:
    def finding(verdict: Verdict, per_hour: float) -> Finding:
        rate = Estimate(per_hour, 5e7, 400, signed=per_hour < 0)
        frames = (Frame(str(verdict), "f.c", 1, "f"),)
        return Finding(verdict, Estimate(2e6, 1e5, 300), rate, frames, "grows", 3600.0)

    leaks = [finding(Verdict.LEAK, 5e8)]
    report = LeakReport([*leaks, finding(Verdict.INCONCLUSIVE, growth)])
    assert report.headline == LeakReport(leaks).headline + text


@pytest.mark.parametrize(
    ("grows", "said"), [(True, "no verdict on leaks"), (False, "no leak seen")]
)
def test_a_watch_too_short_for_any_leak_is_said_first(grows: bool, said: str) -> None:
    """A killed program did not free what it would have freed."""
    random = np.random.default_rng(3)
    grown = leak(random, 100, duration=20.0) if grows else burst(random, 9, 100, "burst")
    profile, symbols = Program([grown], duration=20.0).capture(random)
    profile.capture.end = "deadline"
    report = find_leaks(profile, symbols)
    assert report.headline == f"{said}; 20 s is too short to tell: watch 60 s"
    for end in ("section ended", "signal 9 SIGKILL"):
        profile.capture.end = end
        assert find_leaks(profile, symbols).too_short
    profile.capture.end = "exited 0"
    assert not find_leaks(profile, symbols).too_short


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.26, "4.3 s"), (119.7, "120 s"), (121.0, "2 min"), (9000, "2.5 h")]
)
def test_times_have_no_exponent(seconds: float, text: str) -> None:
    assert time_text(seconds) == text
