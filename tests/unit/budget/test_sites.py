"""What budgets say of sites, and of sections, that select nothing or not all that they might."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from budget_profiles import RATE, Made, Row
from mem_parser.budget import (
    Budget,
    Limit,
    Measure,
    Site,
    Subject,
    Verdict,
    check,
    check_subjects,
    load,
    parse_match,
    update_baseline,
)
from mem_parser.budget.outputs import github, junit, markdown, sarif, text
from mem_parser.model import Module
from mem_parser.symbols.table import SymbolProblem
from sarif_checks import check_results

PARSE = Row(("parse_header", "load_index", "main"), 3000, 16)


def of_sites(*words: str, measure: Measure = Measure.INUSE, amount: float = 1e12) -> Budget:
    """A budget with a limit on each of these sites."""
    return Budget(
        (), tuple(Site((parse_match(word),), (Limit(measure, amount),)) for word in words)
    )


def test_a_site_of_nothing_is_named_in_every_output() -> None:
    report = check([(Made([PARSE]).subject(), of_sites("file:nosuch"))])
    said = "file:nosuch: no sampled block matches; misspelled, or nothing was allocated there"
    assert f"note: {said}" in [line for line, _ in text.lines(report)]
    assert list(github.commands(report)) == [f"::warning title=server%3A memory budget::{said}"]
    [suite] = ET.fromstring(junit.render(report))
    assert [child.tag for child in suite] == ["testcase", "system-out"]
    assert suite[-1].text == said
    document = json.loads(sarif.render(report))
    assert check_results(document) == []
    [invocation] = document["runs"][0]["invocations"]
    assert invocation["toolExecutionNotifications"] == [
        {"level": "note", "message": {"text": f"server: {said}"}}
    ]


def test_a_function_that_no_program_has_is_inconclusive_with_the_nearest() -> None:
    made, other = Made([PARSE]).subject(), Made([PARSE]).subject()
    budget = of_sites("function:parse_haeder", "function:^main$")
    found = [(r.verdict, r.reason) for _, r in check([(made, budget)]).results]
    reason = "no function matches parse_haeder; nearest: parse_header"
    assert found == [(Verdict.INCONCLUSIVE, reason), (Verdict.PASS, "")]
    assert check([(made, budget)]).exit_code == 7
    assert check([(made, budget)]).captures[0].notes == []
    # Of several programs, one that has it is enough.
    other.looking = lambda match: (bool(match.pattern.search("parse_haeder")), [])
    assert check([(made, budget), (other, budget)]).verdict is Verdict.PASS


def test_the_nearest_of_a_method_is_one_of_the_program_by_its_whole_name() -> None:
    rows = [
        Row((name, "main"), 9, module=module)
        for name, module in (
            ("Table::store_record", "/opt/server"),
            ("store_code", "/opt/server"),
            ("Tabel::stor_records", "/usr/lib/libz.so"),
        )
    ]
    made = Made(rows).subject()
    for word in ("Table::stor_record", "^stor_record$"):
        [(_, result)] = check([(made, of_sites(f"function:{word}"))]).results
        assert result.reason.partition("nearest: ")[2].split(", ")[0] == "Table::store_record"
    assert "Tabel" not in result.reason


def test_a_module_that_no_program_has_is_inconclusive_with_the_nearest() -> None:
    made = Made([PARSE, dataclasses.replace(PARSE, module="/opt/libcj.so.1")]).subject()
    made.looking = lambda match: (bool(match.pattern.search("libz.so.1")), [])
    budget = of_sites("module:libjc", "module:libcj\\.so", "module:libz")
    found = [(r.verdict, r.reason) for _, r in check([(made, budget)]).results]
    reason = "no module matches libjc, unless it is a plugin that this run did not load"
    assert found == [
        (Verdict.INCONCLUSIVE, f"{reason}; nearest: libcj"), (Verdict.PASS, ""), (Verdict.PASS, ""),
    ]  # fmt: skip


def test_an_interpreted_program_may_have_a_function_that_no_file_names() -> None:
    made = Made([PARSE]).subject()
    stacks = made.profile.stacks
    stacks.interpreter = np.ones(len(stacks), np.uint32)
    budget = of_sites("function:parse_haeder")
    assert check([(made, budget)]).verdict is Verdict.PASS


def test_a_run_without_notes_has_no_notifications() -> None:
    report = check([(Made([PARSE]).subject(), of_sites("function:main"))])
    assert "invocations" not in json.loads(sarif.render(report))["runs"][0]
    assert not list(github.commands(report))


def test_the_peak_of_a_site_says_that_it_is_at_the_programs_peak() -> None:
    said = "at the program's peak, which need not be its own"
    readings = [(3000.0 * RATE, 55.0 * RATE)] * 5
    subject = Made([PARSE], readings=readings).subject()
    for amount, verdict in ((1e12, Verdict.PASS), (1.0, Verdict.FAIL)):
        budget = of_sites("function:main", measure=Measure.PEAK, amount=amount)
        report = check([(subject, budget)])
        assert report.verdict is verdict
        assert said in report.as_json()["rows"][0]["rows"][0]["notes"]
        assert said in markdown.render(report)
        assert said in " ".join(" ".join(line for line, _ in text.lines(report)).split())
    whole = check([(subject, Budget((Limit(Measure.PEAK, 1e12),)))])
    assert not whole.captures[0].results[0].notes


def notes_of(folder: Path, targets: tuple[str, ...]) -> list[str]:
    path = folder / "check.toml"
    path.write_text(
        "[budget]\npeak = '1 GiB'\n"
        + "".join(f'[target."{name}"]\ninuse = "1 GiB"\n' for name in targets)
    )
    others = [Made([PARSE]).subject(), Made([PARSE], exe="/opt/redis").subject()]
    first, second = check_subjects(load(path), others).captures
    assert not second.notes
    return first.notes


def test_a_section_of_a_program_that_was_not_checked_is_named(tmp_path: Path) -> None:
    assert notes_of(tmp_path, ("servr", "nginx")) == [
        '[target."servr"] is no program of this check; did you mean server?',
        '[target."nginx"] is no program of this check; it had server, redis',
    ]


def test_a_file_of_many_programs_is_quiet_about_those_of_other_checks(tmp_path: Path) -> None:
    for own in (("red*", "server"), ("red*",)):  # a launcher, or a helper, has none
        assert notes_of(tmp_path, ("other_test", *own)) == []


def test_a_section_may_be_of_one_parameter_of_a_test(tmp_path: Path) -> None:
    path = tmp_path / "check.toml"
    path.write_text('[target."t.py::test_a[x-1]"]\npeak = "1 MiB"\n')
    rules = load(path)
    assert rules.for_program("t.py::test_a[x-1]").limits
    assert not rules.for_program("t.py::test_a[x-2]").limits


def unnamed(subject: Subject, module: str, *, broken: bool = False) -> Subject:
    """The same capture without the names of a module's functions; its files have any function."""
    names = subject.symbols
    functions = [
        dataclasses.replace(f, name=f"x+{k:#x}", full_name=f"x+{k:#x}", file="", known=False)
        if f.module == module
        else f
        for k, f in enumerate(names.functions)
    ]
    locations = [
        dataclasses.replace(x, file="", line=0) if not functions[x.function].known else x
        for x in names.locations
    ]
    problems = [SymbolProblem(module, f"{module} differs")] if broken else []
    naming = dataclasses.replace(names, functions=functions, locations=locations, problems=problems)
    return Subject(subject.profile, naming, subject.path, looking=lambda _: (True, []))


def test_a_baseline_of_a_build_with_names_says_why_all_is_new_in_one_without(
    tmp_path: Path,
) -> None:
    path = tmp_path / "check.toml"
    path.write_text('[budget]\ngrowth = "5 %"\n')
    rules = load(path)
    [(baseline, text_of)] = update_baseline(rules, [Made([PARSE]).subject()]).items()
    Path(baseline).write_text(text_of)
    more = Made([dataclasses.replace(PARSE, blocks=2 * PARSE.blocks)])
    [capture] = check_subjects(rules, [more.subject()]).captures
    assert not capture.notes
    [capture] = check_subjects(rules, [unnamed(more.subject(), "/opt/server")]).captures
    assert capture.results[0].culprits[0].text.startswith("new since")
    [note] = capture.notes
    assert note.startswith("functions of server have no names in this build, so they cannot be")


TABLE = Row(("add_cell", "read_csv"), 500, 16, module="/opt/libcsvtab.so")
ROWS = [PARSE, TABLE]


@pytest.mark.parametrize("measure", [Measure.INUSE, Measure.PEAK, Measure.ALLOC_RATE])
@pytest.mark.parametrize("word", ["function:_cell$", "file:csv", "stack:read_csv;"])
def test_a_site_that_functions_without_names_may_be_is_not_passed(
    word: str, measure: Measure
) -> None:
    subject = unnamed(Made(ROWS).subject(), "/opt/libcsvtab.so", broken=True)
    part = 10 if measure is Measure.ALLOC_RATE else 1
    for kib, verdict in ((64, Verdict.INCONCLUSIVE), (1000, Verdict.PASS)):
        budget = of_sites(word, measure=measure, amount=kib * 1024 / part)
        report = check([(subject, budget)])
        assert report.verdict is verdict
    [(_, result)] = check([(subject, of_sites(word, amount=64 * 1024))]).results
    assert re.fullmatch(
        r"50\S+ KiB in functions without names: cannot tell; capture with --symbolize",
        result.reason,
    )
    assert not check([(subject, of_sites(word, amount=64 * 1024))]).may_be_decided


def test_a_stripped_program_is_told_to_keep_its_symbols() -> None:
    subject = unnamed(Made(ROWS).subject(), "/opt/server")
    [(_, result)] = check([(subject, of_sites("function:^load", amount=64 * 1024))]).results
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.reason.endswith("without names: cannot tell; keep the symbols of server")


@pytest.mark.parametrize(
    ("word", "module"),
    [
        ("module:libz", "/opt/libcsvtab.so"),
        ("function:_cell$", "/usr/lib/libcsvtab.so.3"),
        ("function:_cell$", "/opt/libc.so.6"),
        ("function:_cell$", "[vdso]"),
    ],
)
def test_functions_that_no_site_is_about_may_be_without_names(word: str, module: str) -> None:
    rows = [PARSE, dataclasses.replace(TABLE, module=module)]
    subject = unnamed(Made(rows).subject(), module)
    subject.profile.modules.append(Module("/usr/lib/libz.so.1", []))
    assert check([(subject, of_sites(word, amount=64 * 1024))]).verdict is Verdict.PASS


def test_own_blocks_are_in_doubt_only_where_the_charged_function_has_no_name() -> None:
    rows = [PARSE, dataclasses.replace(TABLE, names=("xmalloc", "grow"), module="/opt/lib.so")]
    doubtful = unnamed(Made(rows).subject(), "/opt/lib.so")
    whole = unnamed(Made([dataclasses.replace(PARSE, module="/opt/lib.so")]).subject(), "/opt/x.so")
    for subject, verdict in ((doubtful, Verdict.INCONCLUSIVE), (whole, Verdict.PASS)):
        [site] = of_sites("function:_cell$", amount=64 * 1024).sites
        budget = Budget((), (dataclasses.replace(site, own=True),))
        assert check([(subject, budget)]).verdict is verdict


def test_what_is_the_reason_of_a_limit_is_no_second_annotation() -> None:
    lossy = Made([PARSE], lost={"live_full": 400}).subject()
    [command] = github.commands(check([(lossy, of_sites("function:main"))]))
    assert "of the samples were lost" in " ".join(command.replace("%0A", " ").split())
