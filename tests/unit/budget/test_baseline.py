"""Baselines and growth on captures of known samples."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_profiles import RATE, Made, Row, one
from mem_parser.budget import (
    Allowance,
    Budget,
    BudgetFile,
    Limit,
    Measure,
    Report,
    Site,
    Subject,
    Verdict,
    baseline_rate,
    check_subjects,
    load,
    needed_rate,
    parse_match,
    update_baseline,
)
from mem_parser.budget import baseline as baselines
from mem_parser.budget.baseline import Amount
from mem_parser.budget.growth import changes
from mem_parser.budget.outputs import github, sarif, text
from mem_parser.budget.spots import grown_line
from mem_parser.diff import Change
from mem_parser.errors import BaselineError, UsageProblem
from mem_parser.model import Count, PeakSource
from mem_parser.unseen import NOT_SAMPLED, NOTE

KIB = 1024
SMALL = 16
PARSE = Row(("parse_header", "load_index", "main"), 3000, SMALL, line=88)
NET = Row(
    ("conn_open", "accept_all", "main"), 1000, SMALL, file="net.c", line=5, module="/opt/libnet.so"
)
BUFFERS = Row(("grow", "append", "worker"), 500, SMALL, thread="worker-1")  # fmt: skip


def inuse(kib: float) -> Limit:
    return Limit(Measure.INUSE, kib * KIB, text=f"{kib} KiB")


@pytest.fixture
def rules(tmp_path: Path) -> BudgetFile:
    """Growth of 5 %, of the whole and of one library."""
    path = tmp_path / "check.toml"
    path.write_text(
        '[budget]\ngrowth = "5 %"\n[[budget.site]]\nmatch = "module:libnet"\ngrowth = "10 %"\n'
    )
    return load(path)


BIG = [
    dataclasses.replace(PARSE, blocks=30_000),
    dataclasses.replace(NET, blocks=20_000),
    dataclasses.replace(BUFFERS, blocks=20_000),
]


def accept(rules: BudgetFile, subject: Subject) -> str:
    [(path, text)] = update_baseline(rules, [subject]).items()
    Path(path).write_text(text)
    return text


def growth(rules: BudgetFile, made: Made) -> Report:
    return check_subjects(rules, [made.subject()])


def test_growth_of_what_is_allocated_is_of_bytes_and_of_blocks(tmp_path: Path) -> None:
    path = tmp_path / "check.toml"
    both = 'alloc_growth = "5 %"\nallocs_growth = "5 %"\ntolerance = "99 MiB"\n'
    path.write_text(
        f'[budget]\ngrowth = "5 %"\n{both}[[budget.site]]\nmatch = "module:libnet"\n{both}'
    )
    rules = load(path)
    before = [dataclasses.replace(row, alloc=8 * row.blocks) for row in BIG]
    written = accept(rules, Made(before).subject())
    assert re.search(
        r"^site\t\d+ B\t\S+ KiB\t160000\t1\talloc of module:libnet$", written, re.MULTILINE
    )
    assert re.search(r"^site\t\d+\t[\d.]+\t560000\t1\tallocs$", written, re.MULTILINE)
    known = baselines.read(str(tmp_path / "check.baseline"))
    assert baselines.render(known) == written

    # A tolerance in bytes is none for a number of blocks.
    busier = [*before[:1], dataclasses.replace(before[1], alloc=10 * NET.blocks * 20), before[2]]
    found = {r.name: r for _, r in growth(rules, Made(busier)).results}
    over = {name for name, r in found.items() if r.verdict is Verdict.FAIL}
    [culprit] = found["allocs_growth"].culprits  # not the largest
    assert (culprit.frames[0].spot, culprit.text.split(", of ")[0]) == (
        "net.c:5",
        "grown since the baseline",
    )
    assert found["growth"].verdict is Verdict.PASS
    assert over == {"allocs_growth", "allocs_growth of module:libnet"}
    assert not growth(rules, Made(before)).exit_code
    note = found["allocs_growth"].notes[0]
    assert re.match(r"allocated against the baseline: [\d,]+ then, \+[\d,]+ ± \d", note), note
    assert found["allocs_growth of module:libnet"].culprits[0].frames[0].function == "conn_open"
    path.write_text('[budget]\nalloc_growth = "5 %"\n')
    Path(tmp_path / "check.baseline").write_text(re.sub(r"(?m)^site.*\n", "", written))
    [(_, none)] = growth(load(path), Made(before)).results
    assert none.verdict is Verdict.INCONCLUSIVE
    assert none.reason.startswith("the baseline has no line for this limit")
    older = re.sub(r"(?m)^function of.*\nlines.*\n", "", written)  # of before there were any
    Path(tmp_path / "check.baseline").write_text(older)
    path.write_text('[budget]\nallocs_growth = "5 %"\n')
    report = growth(load(path), Made(busier))
    assert "the baseline has no functions of allocations" in report.results[0][1].notes[-1]
    assert next(iter(github.commands(report))).startswith("::error title=")


def test_growth_of_few_blocks_is_decided_where_each_is_sampled(tmp_path: Path) -> None:
    path = tmp_path / "check.toml"
    path.write_text('[budget]\nallocs_growth = "9 %"\n')
    rules, few = load(path), [Row(("tile", "main"), 0, 60_000, alloc=224)]
    coarse = Made(few, rate=8192).subject()
    assert baseline_rate(rules, [coarse], 3) == 1  # small ones unseen may be many times as many
    accept(rules, coarse)
    assert "with the baseline's error: capture with -c 1" in growth_text(rules, few, rate=32768)
    accept(rules, Made(few, rate=1).subject())
    sampled = [dataclasses.replace(few[0], alloc=188)]  # of as many
    said = growth_text(rules, sampled, rate=32768)
    assert "allocated against the baseline: 224 then, 224 (≥ 213) now" in said
    report = growth(rules, Made(sampled, rate=32768))
    assert report.may_be_decided
    assert needed_rate(report, 32768) == 1
    assert growth(rules, Made(few, rate=1)).verdict is Verdict.PASS


def growth_text(rules: BudgetFile, rows: list[Row], rate: float) -> str:
    lines = text.lines(growth(rules, Made(rows, rate=rate)))
    return " ".join(" ".join(line for line, _ in lines).split())


def lines_of(*blocks: int, first: int = 5, by: str = "main") -> list[Row]:
    return [
        Row(("fill", by), count, SMALL, file="/src/l.c", line=first + 2 * k)
        for k, count in enumerate(blocks)
    ]


@pytest.mark.parametrize(
    ("before", "after", "spot", "annotated"),
    [
        ([80_000], lines_of(80_000, 30_000), "l.c:7", "/src/l.c,line=7,"),
        ([80_000], lines_of(30_000, 80_000, first=9), "l.c:9", "/src/l.c,line=9,"),
        ([80_000, 9000], lines_of(80_000, 60_000, first=20), "l.c:22", "/src/l.c,line=22,"),
        ([80_000], lines_of(120_000), "l.c:5", "/src/l.c,line=5,"),
        # Which of them is new?
        ([40_000, 40_000], lines_of(40_000, 40_000, 40_000), "l.c", "/src/l.c,title"),
        ([80_000, 30_000], lines_of(100_000, 50_000), "l.c", "/src/l.c,title"),
    ],
)
def test_the_line_of_a_function_that_grew_is_named_or_none(
    rules: BudgetFile, before: list[int], after: list[Row], spot: str, annotated: str
) -> None:
    accept(rules, Made([*lines_of(*before), *BIG]).subject())
    report = growth(rules, Made([*after, *BIG], build="77"))
    [culprit] = report.results[0][1].culprits
    assert culprit.frames[0].spot == spot
    assert ("at one of its" in culprit.text) == (spot == "l.c")
    error = next(iter(github.commands(report)))
    assert error.startswith(f"::error file={annotated}")
    assert "build with debug information" not in error
    [result] = json.loads(sarif.render(report))["runs"][0]["results"]
    [place] = result["locations"]
    region = place["physicalLocation"].get("region")
    assert region == ({"startLine": int(spot[4:])} if spot != "l.c" else None)


@pytest.mark.parametrize("error", [0.0, 0.02, 0.1])
def test_the_line_that_grew_is_found_and_hardly_ever_another(error: float) -> None:
    random = Random(1)
    found = {True: 0, False: 0, None: 0}
    for _ in range(4000):
        old = [
            random.choice([1, 2, 4, 8, random.uniform(1, 20)]) for _ in range(random.randint(1, 6))
        ]
        new, more = list(old), random.uniform(1, 20)
        k = random.randrange(len(old))
        if random.random() < 0.5:
            new.insert(k, more)
        else:
            new[k] += more
        now, then = (
            [Amount(max(x * random.gauss(1, error), 0.01), x * error, 5) for x in lines]
            for lines in (new, old)
        )
        named = grown_line(now, then)
        found[None if named is None else named == k] += 1
    assert found[False] <= 8
    assert found[True] >= 2500


def test_a_baseline_without_lines_names_no_line_of_several(rules: BudgetFile) -> None:
    written = accept(rules, Made([*lines_of(80_000), *BIG]).subject())
    baseline = Path(str(rules.for_program("server").baseline))
    baseline.write_text(re.sub(r"(?m)^lines.*\n", "", written))
    report = growth(rules, Made([*lines_of(80_000, 30_000), *BIG], build="77"))
    [culprit] = report.results[0][1].culprits
    assert culprit.frames[0].spot == "l.c"
    assert accept(rules, Made([*lines_of(80_000), *BIG]).subject()) == written


def test_a_large_block_and_a_small_one_are_in_a_baseline(rules: BudgetFile) -> None:
    few = [Row(("fill", "main"), 1, 9 << 20), Row(("fill", "main"), 1, SMALL)]
    assert "\tfill\tserver.c" in accept(rules, Made([*few, *BIG]).subject())


def test_no_annotation_is_on_one_caller_of_several(rules: BudgetFile) -> None:
    def made(*blocks: int) -> Made:
        names = (("load", "main"), ("store", "main"))
        pairs = zip(names, blocks, strict=True)
        return Made([Row(("put", *n), b, SMALL, file="/usr/include/v.h") for n, b in pairs])

    accept(rules, made(80_000, 20_000).subject())
    report = growth(rules, made(80_000, 50_000))
    [culprit] = report.results[0][1].culprits
    assert culprit.text.endswith("the largest of 2 stacks")
    assert culprit.shared == 1
    assert next(iter(github.commands(report))).startswith("::error title=")


def scaled(row: Row, factor: float, **other: object) -> Row:
    blocks = round(row.blocks * factor)
    return dataclasses.replace(row, blocks=blocks, **other)  # type: ignore[arg-type]


def test_a_baseline_says_the_same_when_it_is_read_back(rules: BudgetFile) -> None:
    text = accept(rules, Made(BIG).subject())
    path = rules.for_program("server").baseline
    assert path is not None
    assert baselines.render(baselines.read(path)) == text
    found = baselines.read(path).programs["server"]
    assert found.build == "3f2c1a9b20de"
    assert found.measure is Count.INUSE
    assert found.total.value == pytest.approx(70_000 * KIB, rel=0.01)
    assert found.sites["module:libnet"].samples == 20_000
    [parse] = [r for r in found.functions if r.function == "parse_header"]
    assert (parse.file, parse.callers) == ("server.c", ("load_index", "main"))


hostile = st.text(min_size=1, max_size=12) | st.sampled_from(
    [" < ", "a\tb", "", "operator < ", "@"]
)


@given(st.lists(st.tuples(hostile, hostile, hostile), min_size=1, max_size=5))
def test_any_names_can_be_read_back(names: list[tuple[str, str, str]]) -> None:
    rows = [Row((f, c, "main"), 50, SMALL, file=path) for f, c, path in names]
    program = baselines.of_capture(Made(rows).subject(), Budget())
    text = baselines.render(baselines.Baseline("x", {program.name: program}))
    found = baselines.parse(text, "x").programs["server"]
    by_name = sorted(program.functions, key=lambda r: (r.function, r.file))
    assert [(r.key, r.callers) for r in found.functions] == [(r.key, r.callers) for r in by_name]


def test_renewing_keeps_lines_that_changed_only_by_chance(rules: BudgetFile) -> None:
    old = accept(rules, Made(BIG).subject())
    noisy = [scaled(row, 1 + k / 500) for k, row in enumerate(BIG)]
    assert accept(rules, Made(noisy).subject()) == old
    new = accept(rules, Made([scaled(BIG[0], 1.2), *BIG[1:]]).subject())
    changed = set(new.splitlines()) ^ set(old.splitlines())
    assert {line.split("\t")[0] for line in changed} == {"total", "function", "lines"}
    assert sum("function" in line for line in changed) == 2


def test_growth_is_told_from_noise(rules: BudgetFile) -> None:
    accept(rules, Made(BIG).subject())
    assert growth(rules, Made(BIG)).verdict is Verdict.PASS
    grown = growth(rules, Made([BIG[0], BIG[1], scaled(BIG[2], 1.6)], build="77"))
    assert [r.verdict for _, r in grown.results] == [Verdict.FAIL, Verdict.PASS]
    whole = grown.captures[0].results[0]
    assert whole.estimate is not None
    assert whole.estimate.std_error == pytest.approx(
        KIB * (82_000 + 1.05**2 * 70_000) ** 0.5, rel=0.02
    )
    [culprit] = whole.culprits
    assert culprit.frames[0].function == "grow"
    assert culprit.delta is not None
    assert culprit.delta.value == pytest.approx(12_000 * KIB, rel=0.05)
    assert culprit.text == "grown since the baseline of build 3f2c1a9"
    assert text.RENEW in [line for line, _ in text.lines(grown)]
    assert whole.notes == [
        "in use against the baseline: 68.89 MiB then, +11.81 MiB ± 0.75 MiB (+17.1 %) since"
    ]
    library = growth(rules, Made([BIG[0], scaled(BIG[1], 1.3), BIG[2]]))
    assert library.captures[0].results[1].verdict is Verdict.FAIL


def test_what_did_not_grow_is_named_for_the_rest_of_an_excess(rules: BudgetFile) -> None:
    accept(rules, Made(BIG).subject())
    baseline = rules.for_program("server").baseline
    subject = Made([BIG[0], BIG[1], scaled(BIG[2], 1.6)]).subject()
    found = one(subject, inuse(45_000), baseline=baseline)
    assert [c.frames[0].function for c in found.culprits] == ["grow", "parse_header"]
    assert [c.delta is None for c in found.culprits] == [False, True]


def test_a_baseline_that_no_limit_needs_may_be_missing_but_not_broken(tmp_path: Path) -> None:
    path = tmp_path / "x.baseline"
    assert one(Made(BIG).subject(), inuse(1), baseline=str(path)).verdict is Verdict.FAIL
    path.write_text("{}")
    with pytest.raises(BaselineError, match="not a baseline"):
        one(Made(BIG).subject(), inuse(1), baseline=str(path))


def test_a_new_function_is_called_new(rules: BudgetFile) -> None:
    accept(rules, Made(BIG).subject())
    new = Row(("decode", "load_index", "main"), 9000, SMALL, file="decode.c")
    report = growth(rules, Made([*BIG, new]))
    assert report.captures[0].results[0].culprits[0].text.startswith("new since the baseline")


def test_renamed_and_moved_functions_are_the_same_ones(rules: BudgetFile) -> None:
    accept(rules, Made(BIG).subject())
    renamed = scaled(BIG[0], 1.0, names=("parse_head", "load_index", "main"), line=91)
    moved = scaled(BIG[1], 1.0, file="sockets.c")
    subject = Made([renamed, moved, BIG[2]]).subject()
    assert check_subjects(rules, [subject]).verdict is Verdict.PASS
    program = baselines.read(str(rules.for_program("server").baseline)).programs["server"]
    found = {c.row.function: c for c in changes(subject, program)}
    assert {c.change for c in found.values()} == {Change.NOISE}
    assert found["parse_head"].was == "parse_header"
    assert found["conn_open"].was == "net.c"


def test_what_ended_is_measured_by_its_peak(rules: BudgetFile) -> None:
    ended = [dataclasses.replace(r, blocks=5, peak=r.blocks) for r in BIG]
    readings = [(70_000.0 * KIB, 265.0 * KIB)] * 5
    accept(rules, Made(ended, end="exited", readings=readings).subject())
    program = baselines.read(str(rules.for_program("server").baseline)).programs["server"]
    assert (program.measure, program.total.readings) == (Count.PEAK, 7)
    assert growth(rules, Made(ended, end="exited", readings=readings)).verdict is Verdict.PASS


def test_a_program_too_short_for_any_reading_is_measured_by_what_the_sampler_kept(
    rules: BudgetFile,
) -> None:
    def short(factor: float) -> Subject:
        rows = [dataclasses.replace(scaled(r, factor), alloc=round(r.blocks * factor)) for r in BIG]
        ended = [dataclasses.replace(r, blocks=0) for r in rows]
        subject = Made(ended, end="exited").subject()
        subject.profile.sites.peak_blocks = subject.profile.sites.peak_bytes = None
        subject.profile.capture.peak_bytes = 70_000 * KIB * factor
        subject.profile.capture.peak_source = PeakSource.TOTAL
        return subject

    rules = BudgetFile(rules.path, dataclasses.replace(rules.common, sites=[]))
    accept(rules, short(1))
    assert check_subjects(rules, [short(1)]).verdict is Verdict.PASS
    grown = check_subjects(rules, [short(1.4)])
    assert grown.verdict is Verdict.FAIL
    [(_, result)] = grown.results
    assert [c.frames[0].function for c in result.culprits] == ["parse_header", "conn_open"]
    assert "the peak fell between two readings" in result.notes[-1]


def test_a_baseline_that_is_too_coarse_says_so_instead_of_asking_for_more_runs(
    rules: BudgetFile,
) -> None:
    few = [scaled(r, 0.01) for r in BIG]
    accept(rules, Made(few).subject())
    report = growth(rules, Made([scaled(r, 0.145) for r in BIG], rate=RATE / 16))
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "renew it at a finer rate" in report.captures[0].results[0].reason
    assert not report.may_be_decided


def test_a_baseline_is_taken_so_finely_that_the_unchanged_program_passes(rules: BudgetFile) -> None:
    few = [scaled(r, 0.03, size=1) for r in BIG]
    coarse = baseline_rate(rules, [Made(few).subject()], 3)
    assert RATE / 64 <= coarse < RATE / 2
    fine = [dataclasses.replace(r, blocks=round(r.blocks * RATE / coarse)) for r in few]
    made = Made(fine, rate=coarse)
    assert baseline_rate(rules, [made.subject()], 3) == coarse
    accept(rules, made.subject())
    finer = Made([dataclasses.replace(r, blocks=4 * r.blocks) for r in fine], rate=coarse / 4)
    assert check_subjects(rules, [finer.subject()], tries=3).verdict is Verdict.PASS


def test_a_growth_too_small_for_a_baseline_is_not_named(rules: BudgetFile) -> None:
    exact = [Row(("tick", "main"), 1, 1000 * KIB, file="a.c"), *BIG]
    accept(rules, Made(exact).subject())
    program = baselines.read(str(rules.for_program("server").baseline)).programs["server"]
    more = dataclasses.replace(exact[0], size=1000 * KIB + 3)
    found = changes(Made([more, *BIG]).subject(), program)
    assert {c.change for c in found} == {Change.NOISE}


def test_a_site_that_the_baseline_does_not_know_is_inconclusive(rules: BudgetFile) -> None:
    accept(rules, Made(BIG).subject())
    other = BudgetFile(rules.path, dataclasses.replace(rules.common, sites=[]))
    other.common.sites = [
        Site((parse_match("function:grow"),), (Limit(Measure.GROWTH, growth=Allowance(0.1)),))
    ]
    [_, (_, result)] = growth(other, Made(BIG)).results
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "--update-baseline" in result.reason


def test_a_missing_baseline_and_one_of_another_program(rules: BudgetFile) -> None:
    with pytest.raises(BaselineError, match="there is no such baseline") as missing:
        growth(rules, Made(BIG))
    assert missing.value.hint is not None
    accept(rules, Made(BIG).subject())
    with pytest.raises(BaselineError, match="is a baseline of server, not of nginx") as other:
        growth(rules, Made(BIG, exe="/opt/nginx"))
    assert '[target."server"]' in str(other.value.hint)
    both = accept(rules, Made(BIG, exe="/opt/nginx").subject())
    assert both.count("\nprogram\t") == 2


def test_growth_of_the_same_build_is_said_to_be_between_runs(rules: BudgetFile) -> None:
    accept(rules, Made(BIG).subject())
    whole = growth(rules, Made([BIG[0], BIG[1], scaled(BIG[2], 1.6)])).captures[0].results[0]
    assert whole.notes[-1] == (
        "the same build as the baseline's, 3f2c1a9: runs of it, or its input, differ;"
        " a baseline of several captures allows for that"
    )
    assert whole.culprits[0].text == "grown since the baseline, of the same build"


def of_grow(blocks: int, **other: object) -> Made:
    row = dataclasses.replace(BUFFERS, blocks=blocks)
    return Made([dataclasses.replace(NET, blocks=9000), row], rate=1, **other)  # type: ignore[arg-type]


def test_a_baseline_of_several_runs_allows_for_what_lies_between_them(rules: BudgetFile) -> None:
    """2.1318 is the quantile of Student's t of 4 at 5 %; the two limits share the error."""
    runs = [of_grow(1000 * k).subject() for k in (8, 9, 10, 11, 12)]
    [(path, written)] = update_baseline(rules, runs).items()
    Path(path).write_text(written)
    assert baselines.render(baselines.read(path)) == written
    program = baselines.read(path).programs["server"]
    assert (program.runs, program.total.value) == (5, 19_000 * SMALL)
    assert program.spreads[""] == pytest.approx(1000 * SMALL * 2.5**0.5, rel=1e-5)
    more = 2.1318 * program.spreads[""] * 1.2**0.5
    assert program.between_runs("", 0.05) == pytest.approx(more, rel=1e-4)
    assert program.between_runs("module:libnet", 0.05) == 0
    for blocks, verdict in ((13_000, Verdict.PASS), (18_000, Verdict.FAIL)):
        whole = growth(rules, of_grow(blocks)).captures[0].results[0]
        assert (whole.verdict, "mean of 5 runs" in " ".join(whole.notes)) == (verdict, True)
        assert whole.amount == pytest.approx(
            1.05 * 19_000 * SMALL + program.between_runs("", 0.05 / 2), rel=1e-4
        )
    with pytest.raises(UsageProblem, match=r"x.heap is no run of server like that of x.heap"):
        update_baseline(rules, [*runs, of_grow(8000, build="77").subject()])


def test_an_exact_baseline_is_kept_to_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "check.toml"
    path.write_text('[budget]\ngrowth = "0"\n')
    rules, row = load(path), Row(("main",), 1, 12_345_678)
    accept(rules, Made([row], rate=1).subject())
    assert growth(rules, Made([row], rate=1)).results[0][1].excess == 0
    more = Made([dataclasses.replace(row, size=12_345_679)], rate=1)
    found = growth(rules, more).results[0][1]
    assert (found.verdict, found.excess) == (Verdict.FAIL, 1)
    assert "+1 B" in found.notes[0]
    accept(rules, more.subject())
    assert growth(rules, more).verdict is Verdict.PASS


def test_a_helper_that_the_baseline_lacks_leaves_the_verdict_on_the_program(
    rules: BudgetFile,
) -> None:
    accept(rules, Made(BIG).subject())
    helper = Made(BIG, exe="/usr/bin/python3.11").subject()
    report = check_subjects(rules, [helper, Made([scaled(BIG[0], 2), *BIG[1:]]).subject()])
    lacking, failed = (capture.results[0] for capture in report.captures)
    assert (lacking.verdict, failed.verdict) == (Verdict.INCONCLUSIVE, Verdict.FAIL)
    assert "is a baseline of server, not of python3.11: growth of server alone" in lacking.reason
    assert '[target."server"] (or run with MEM_PROFILER_ONLY=server)' in lacking.reason
    assert report.exit_code == 6
    same = check_subjects(rules, [helper, Made(BIG).subject()])
    assert (same.exit_code, same.may_be_decided) == (7, False)


def test_a_launcher_is_no_program_of_a_baseline(rules: BudgetFile) -> None:
    accept(rules, Made(BIG).subject())
    launcher = Made(BIG, exe="/usr/bin/timeout").subject()
    note = f"{NOTE}timeout {NOT_SAMPLED}"
    launcher.profile.capture.notes = [note]
    results = check_subjects(rules, [launcher]).captures[0].results
    results.append(one(launcher, inuse(1)))
    assert {(r.verdict, r.reason, len(r.culprits)) for r in results} == {
        (Verdict.INCONCLUSIVE, note, 0)
    }


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("function\t1 MiB\t1 KiB\t5\t1\tf", ":7: a column is missing"),
        ("total\t1 MoB\t1 KiB\t5\t1", ":7: '1 MoB' is not a size"),
        ("measure\tfreedom", ":7: 'freedom' is not a valid Count"),
        ("total\t1 MiB\t1 KiB\tmany\t1", ":7: 'many' is not a number"),
        ("what\t1", ":7: unknown word 'what'"),
        ("lines\t1 B\t0 B", ":7: this line needs a line 'function' before it"),
        ("function\t1 B\t0 B\t5\t1\tf\tf.c\nlines\t1 B", ":8: this line has a size and"),
    ],
)
def test_a_broken_baseline_names_its_line(rules: BudgetFile, line: str, words: str) -> None:
    path = Path(str(rules.for_program("server").baseline))
    path.write_text(f"{baselines.HEAD}\n\nprogram\tserver\nrate\t1\n\n\n{line}\n")
    with pytest.raises(BaselineError, match=re.escape(words)):
        growth(rules, Made(BIG))
    path.write_text("heap profile: 1\n")
    with pytest.raises(BaselineError, match=":1: not a baseline"):
        growth(rules, Made(BIG))


def test_another_rate_charges_as_the_baseline_does(tmp_path: Path) -> None:
    """A coarse capture sees too few callers of `get` to take it for a wrapper."""
    every = [Row(("get", f"user{k}", "main"), 400, 100 + 16 * k, peak=400) for k in range(8)]
    fine = Made(every, rate=1, end="exited")
    coarse = Made(every[:4], rate=RATE, end="exited")
    for base, now in ((fine, coarse), (coarse, fine)):
        path = tmp_path / f"{base.rate}.toml"
        path.write_text('[budget]\npeak = "1 KiB"\n')
        [(baseline, written)] = update_baseline(load(path), [base.subject()]).items()
        Path(baseline).write_text(written)
        [(_, found)] = check_subjects(load(path), [now.subject()]).results
        assert found.verdict is Verdict.FAIL
        known = {row.function for row in baselines.read(baseline).programs["server"].functions}
        assert {c.frames[0].function for c in found.culprits} <= known
        assert not [c.text for c in found.culprits if c.text.startswith("new since")]
