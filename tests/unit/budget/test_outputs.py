"""The report in every format, held against the rules of each."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

import heapfiles
from budget_profiles import Made, Row
from json_outputs import checked_json
from mem_cli.budget_report import _rendered as rendered
from mem_parser import sarif as sarif_file
from mem_parser.budget import Budget, Limit, Measure, Report, Site, Verdict, check, parse_match
from mem_parser.budget.outputs import github, junit, markdown, sarif, text
from mem_parser.budget.outputs.words import own_frame, page_block, place, source_frame
from mem_parser.frames import Frame
from mem_parser.web.report import render as render_page
from parser_run import parse
from sarif_checks import check_results
from web_profiles import blocks_of

KIB = 1024
HOSTILE = "a<b>|`x`\x1b]0;owned\x07::error::%0A,:\n@everyone\ufffe"


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A working folder with the source file of the culprit."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "header file.c").write_text("int x;\n")
    monkeypatch.chdir(tmp_path)
    return str(tmp_path / "src" / "header file.c")


def report_of(file: str = "server.c", name: str = "parse_header") -> Report:
    """One limit that fails, one that passes, one that is inconclusive."""
    rows = [
        Row((name, "load_index", "main"), 3000, 16, file=file, line=88),
        Row(("grow", "main"), 500, 16, file="/usr/include/vec.h", line=5),
    ]
    site = Site((parse_match("function:grow"),), (Limit(Measure.INUSE, 500 * KIB, text="500 KiB"),))
    limits = (
        Limit(Measure.INUSE, 2000 * KIB, text="2000 KiB", where="ci/check.toml:6:1"),
        Limit(Measure.ALLOC_RATE, 4000 * KIB, text="4000 KiB/s"),
    )
    subject = Made(rows).subject()
    return check([(subject, Budget(limits, (site,)))])


def test_the_text_says_who_and_by_how_much_within_80_columns() -> None:
    lines = [line for line, _ in text.lines(report_of())]

    assert max(map(len, lines)) <= 80
    joined = "\n".join(lines)
    assert re.search(
        r"^FAIL  inuse  3\.4\d\d MiB ± 0\.1\d MiB over 1\.953 MiB by 1\.\d+ MiB$",
        joined,
        re.MULTILINE,
    )
    assert re.search(
        r"^ {6}2\.9\S+ MiB ± \S+ MiB  parse_header  server\.c:88$", joined, re.MULTILINE
    )
    assert "        called by load_index  server.c:7" in lines
    assert re.search(
        r"^PASS  alloc_rate  \S+ KiB/s ± \S+ KiB/s under 3\.906 MiB/s$", joined, re.MULTILINE
    )
    assert re.search(r"^\?     inuse of function:grow .* limit 500\.0 KiB:", joined, re.MULTILINE)
    assert lines[-1].endswith("exit code 6")


@pytest.mark.parametrize(
    ("less", "said"),
    [(300, ", 300 B under 28.81 MiB"), (0, ", limit 28.81 MiB"), (90_000, " under 28.89 MiB")],
)
def test_what_passes_under_a_limit_that_reads_the_same_says_by_how_little(
    less: int, said: str
) -> None:
    rows = [Row(("f", "main"), 29_497, KIB)]
    limit = Limit(Measure.INUSE, 29_497 * KIB + less)
    [(_, result)] = check([(Made(rows, rate=1).subject(), Budget((limit,)))]).results
    assert text.result_lines(result) == [f"PASS  inuse  28.81 MiB{said}"]


def test_a_failure_comes_first_and_verdicts_are_marked_for_colour() -> None:
    marked = [v for _, v in text.lines(report_of()) if v is not None]
    assert marked == [Verdict.FAIL, Verdict.PASS, Verdict.INCONCLUSIVE]


def test_captures_that_pass_with_next_to_nothing_share_a_line() -> None:
    budget = Budget((Limit(Measure.INUSE, 2000 * KIB),))
    rows = [Row(("f", "main"), 5, 16)]
    small = [
        (Made(rows, exe=f"/bin/{name}").subject(), budget) for name in ("date", "sleep", "date")
    ]
    large = (Made([Row(("f", "main"), 3000, 16)]).subject(), budget)
    lines = [line for line, _ in text.lines(check([*small, large]))]
    assert "PASS  3 more with next to no samples: date (×2), sleep" in lines
    assert sum(line.startswith(("date", "sleep")) for line in lines) == 0
    assert lines[-1].startswith("1 over budget, 3 passed")
    assert sum(line.startswith("PASS  inuse") for line, _ in text.lines(check(small))) == 3


def test_callers_go_on_to_the_programs_own_source() -> None:
    inner = [Frame(f"std::f{k}", "/usr/include/c++/map.h", 5, "server") for k in range(6)]
    own = [Frame("add", "/src/wordcount.cc", 4, "server"), Frame("main", "/src/m.cc", 9, "server")]
    libc = [Frame("__libc_start_main", "/src/libc.c", 1, "libc.so")]
    report = report_of()
    culprit = report.captures[0].results[0].culprits[0]
    for frames, last in (
        (inner + own + libc, "… called by add  wordcount.cc:4"),
        (inner, "map.h:5"),
    ):
        changed = dataclasses.replace(culprit, frames=tuple(frames))
        report.captures[0].results[0].culprits = [changed]
        said = [x for x in text.result_lines(report.captures[0].results[0]) if "called by" in x]
        assert said[-1].strip().endswith(last)
        assert len(said) == 3 + last.startswith("…")
    frame = source_frame(inner + own)
    assert frame is not None
    assert frame.function == "add"


def test_junit_has_a_case_for_every_limit() -> None:
    report = report_of()
    report.captures[0].started = 1e9
    root = ET.fromstring(junit.render(report))

    assert root.tag == "testsuites"
    [suite] = root
    for element in (root, suite):
        counts = {k: element.get(k) for k in ("tests", "failures", "errors")}
        assert counts == {"tests": "3", "failures": "1", "errors": "1"}
    children = {c.get("name"): [x.tag for x in c] for c in suite}
    assert children == {
        "inuse": ["failure"], "alloc_rate": ["system-out"], "inuse of function:grow": ["error"]
    }  # fmt: skip
    for case in suite:
        assert set(case.attrib) == {"classname", "name", "time"}
    assert suite.get("time") == root.get("time") == "10.000"
    assert suite.get("timestamp") == "2001-09-09T01:46:40"
    failure = suite[0][0]
    assert failure.get("type") == "over budget"
    assert "over 1.953 MiB" in str(failure.get("message"))
    assert "parse_header  server.c:88" in str(failure.text)


def test_sarif_keeps_to_the_standard(source: str) -> None:
    results = check_results(json.loads(sarif.render(report_of(source))))
    assert len(results) == 2
    place = results[0]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "src/header%20file.c"
    assert place["region"] == {"startLine": 88}
    first, _ = check_results(json.loads(sarif.render(report_of(file=""))))
    assert first["locations"] == [sarif_file.line_of("ci/check.toml", 6)]


def test_annotations_stand_on_the_source_line_in_the_working_folder(source: str) -> None:
    failed, undecided = github.commands(report_of(source))

    assert failed.startswith("::error file=src/header file.c,line=88,title=server%3A inuse::FAIL")
    assert "%0A" in failed
    assert undecided.startswith("::warning title=server%3A inuse of")


def test_a_log_of_a_machine_has_each_sentence_in_one_line() -> None:
    report = report_of()
    for result in report.captures[0].results:
        result.notes = [*result.notes, "a note of many words, " * 8 + "to its end"]
        result.reason = "a reason of many words, " * 8 + "to its end"
    root = ET.fromstring(junit.render(report))
    logs = [str(element.text) for case in root[0] for element in case]
    for log in [*logs, *github.commands(report)]:
        lines = log.replace("%0A", "\n").splitlines()
        assert sum(line.endswith("to its end") for line in lines) == log.count("to its end") > 0


@pytest.mark.parametrize(("line", "hinted"), [(0, True), (88, False)])
def test_an_annotation_without_a_source_line_says_how_to_have_one(
    line: int, *, hinted: bool
) -> None:
    report = report_of()
    culprit = report.captures[0].results[0].culprits[0]
    frames = (dataclasses.replace(culprit.frames[0], line=line),)
    report.captures[0].results[0].culprits = [dataclasses.replace(culprit, frames=frames)]
    error = next(iter(github.commands(report)))
    assert ("build with debug information (-g)" in error) == hinted


def test_code_hosts_have_names_of_the_repository(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".git").mkdir()
    monkeypatch.delenv("GITHUB_WORKSPACE", raising=False)
    monkeypatch.chdir(tmp_path / "src")
    failed, _ = github.commands(report_of(source))
    assert failed.startswith("::error file=src/header file.c,line=88,")
    first = check_results(json.loads(sarif.render(report_of(source))))[0]
    place = first["locations"][0]["physicalLocation"]["artifactLocation"]
    assert place["uri"] == "src/header%20file.c"


@pytest.mark.parametrize("file", ["/usr/include/vec.h", "sysdeps/nptl/start.h", ""])
def test_no_annotation_stands_on_a_line_that_is_not_the_programs(source: str, file: str) -> None:
    failed, _ = github.commands(report_of(file))
    assert failed.startswith("::error title=")


def test_markdown_is_a_table_with_the_failures_opened() -> None:
    lines = markdown.render(report_of()).splitlines()

    assert lines[:2] == ["<!-- mem_parser budget server -->", "### Memory: over budget"]
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 5
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {6}
    assert sum(line.startswith("<details open>") for line in lines) == 1
    assert any("`parse_header` `server.c:88`" in line for line in lines)


def test_a_program_that_failed_by_itself_is_in_no_format_green() -> None:
    report = check(
        [(Made([Row(("main",), 10, 16)]).subject(), Budget((Limit(Measure.INUSE, 1 << 30),)))]
    )
    report.program_code = 3
    said = "exit code 3, the program's own"
    assert report.verdict is Verdict.PASS
    assert [line for line, _ in text.lines(report)][-1].endswith(said)
    root = ET.fromstring(junit.render(report))
    counts = [(s.get("tests"), s.get("failures"), s.get("errors")) for s in (root, *root)]
    assert sorted(counts) == [("1", "0", "0"), ("1", "0", "1"), ("2", "0", "1")]
    assert [e.get("message") for e in root.iter("error")] == [said]
    assert f"❌ {said}" in markdown.render(report).splitlines()
    assert next(c for c in github.commands(report) if c.startswith("::error")).endswith(said)
    assert said in sarif.render(report)


def test_hostile_names_break_no_format() -> None:
    report = report_of(file=HOSTILE, name=HOSTILE)
    assert ET.fromstring(junit.render(report)) is not None
    assert json.loads(sarif.render(report))
    lines = [line for line, _ in text.lines(report)]
    assert all(c.isprintable() for line in lines for c in line)
    for command in github.commands(report):
        assert command.count("::") >= 2
        assert "\n" not in command
        head = command.removeprefix("::").split("::", 1)[0]
        assert re.fullmatch(r"(?:error|warning) (?:file=[^,:]*,line=\d+,)?title=[^,:]*", head)
    assert "%250A" in next(github.commands(report))
    said = markdown.render(report)
    assert "<b>" not in re.sub(r"(`+) .*? \1", "", said)  # code spans show it as it is
    rows = [line for line in said.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {6}


def test_the_page_has_a_budget_tab() -> None:
    report = report_of()
    profile, symbols = Made([Row(("parse", "main"), 3000, 16)]).profile()
    page = render_page(profile, symbols, budget=page_block(report.captures[0]))
    assert '<script type="application/json" id="budget">' in page
    assert 'id="budget"' not in render_page(profile, symbols)


def test_the_page_says_of_a_limit_what_the_text_says() -> None:
    report = report_of()
    said = "\n".join(line for line, _ in text.lines(report))
    rows = page_block(report.captures[0])["rows"]
    assert [row["heading"] for row in rows] == ["the largest lines, old or new", "", ""]
    assert f"{rows[0]['heading']}:" in said
    assert rows[2]["reason"].split(": ")[0] in " ".join(said.split())
    assert rows[2]["reason"].startswith("between ")


def test_the_page_is_of_the_worst_capture_and_names_what_the_others_lack() -> None:
    limits = Budget((Limit(Measure.INUSE, 1 << 20),))
    subjects = [
        Made([Row((name, "main"), blocks, 1600)]).subject(f"{name}.heap")
        for name, blocks in (("fine", 10), ("first", 3000), ("second", 4000), ("near", 518))
    ]
    page = rendered("html", check([(one, limits) for one in subjects]), subjects)
    block = blocks_of(page)["budget"]
    assert block["file"] == "first.heap"
    assert block["counts"] == {"fail": 1}
    said = [note.partition(" inuse  ")[0] for note in block["notes"]]
    assert said == [
        "another capture fails: server  second.heap:",
        "another capture is inconclusive: server  near.heap:",
    ]


@pytest.mark.parametrize(
    ("judged", "shown"),
    [
        ({Measure.PEAK: 1, Measure.INUSE: 1 << 30}, "peak"),
        ({Measure.PEAK: 1 << 30, Measure.INUSE: 1}, "inuse"),
        ({Measure.INUSE: 1 << 30, Measure.ALLOC_RATE: 1}, "alloc"),
        ({Measure.PEAK: 1 << 30, Measure.INUSE: 1 << 30}, "peak"),
    ],
)
def test_the_page_begins_with_what_the_worst_limit_counts(
    judged: dict[Measure, float], shown: str
) -> None:
    subject = Made([Row(("parse", "main"), 300, 1600, peak=3000)]).subject()
    limits = tuple(Limit(measure, amount) for measure, amount in judged.items())
    page = rendered("html", check([(subject, Budget(limits))]), [subject])
    assert blocks_of(page)["facts"]["start"]["count"] == shown


# the command


@pytest.fixture
def heap(tmp_path: Path) -> Path:
    records = [heapfiles.Record((0x1000, 0x2001), 4000, 64000)]
    path = tmp_path / "x.heap"
    header = {"exe": "/opt/none", "duration_s": 1.0, "samples": 4000}
    path.write_bytes(heapfiles.HeapFile(records, header=header).data)
    return path


def budget(folder: Path, *arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
    return parse("budget", *arguments, cwd=folder, **more)


@pytest.mark.parametrize(
    ("limit", "code", "word"), [("5 MiB", 0, "PASS"), ("3 MiB", 6, "FAIL"), ("3.95 MiB", 7, "?")]
)
def test_exit_codes_of_the_command(
    tmp_path: Path, heap: Path, limit: str, code: int, word: str
) -> None:
    (tmp_path / "check.toml").write_text(f'[budget]\ninuse = "{limit}"\n')
    done = budget(tmp_path, "check.toml", heap)
    assert (done.returncode, done.stderr) == (code, "")
    assert done.stdout.splitlines()[1].startswith(f"{word} ")
    assert "\x1b" not in done.stdout


def test_quiet_leaves_notes_out(tmp_path: Path, heap: Path) -> None:
    (tmp_path / "check.toml").write_text(
        '[[budget.site]]\nmatch = "file:nosuch"\ninuse = "5 MiB"\n'
    )
    for options, notes in (((), 1), (("-q",), 0)):
        done = budget(tmp_path, "check.toml", heap, *options)
        assert (done.returncode, done.stdout.count("note: ")) == (0, notes)


def test_the_help_shows_its_examples_line_by_line(tmp_path: Path) -> None:
    lines = budget(tmp_path, "--help").stdout.splitlines()
    assert "  mem_parser budget CHECK.toml custom_prof.4711.1.heap" in lines


def test_all_outputs_at_once(tmp_path: Path, heap: Path) -> None:
    (tmp_path / "check.toml").write_text('[budget]\ninuse = "3 MiB"\n')
    files = {name: f"out.{name}" for name in ("json", "junit", "sarif", "markdown", "html")}
    options = [word for name, path in files.items() for word in (f"--{name}", path)]
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    done = budget(
        tmp_path, "check.toml", heap, *options, "--github", GITHUB_STEP_SUMMARY=str(summary)
    )
    assert done.returncode == 6
    found = checked_json("budget", (tmp_path / "out.json").read_text())
    assert (found["verdict"], found["exit_code"]) == ("fail", 6)
    assert next(iter(found)) == "rows"
    assert found["rows"][0]["rows"][0]["culprits"]
    assert "::error title=none%3A inuse::FAIL" in done.stdout
    assert summary.read_text().startswith("before\n<!-- mem_parser budget none -->")
    assert (tmp_path / "out.markdown").read_text() == summary.read_text().removeprefix("before\n")
    assert 'id="budget"' in (tmp_path / "out.html").read_text()


def test_comments_of_two_programs_do_not_replace_each_other() -> None:
    names = ("/b/test_a", "/b/test_b", "/b/x--><b>")
    budget = Budget((Limit(Measure.INUSE, 1.0),))
    subjects = [Made([Row(("f",), 1)], exe=name).subject() for name in names]
    first = [markdown.render(check([(one, budget)])).split("\n")[0] for one in subjects]
    assert first == [f"<!-- mem_parser budget {n} -->" for n in ("test_a", "test_b", "x-b-")]


def test_from_a_build_folder_places_are_those_of_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (".git", "build", "src"):
        (tmp_path / folder).mkdir()
    (tmp_path / "src" / "table.cc").write_text("")
    monkeypatch.delenv("GITHUB_WORKSPACE", raising=False)
    monkeypatch.chdir(tmp_path / "build")
    frame = Frame("store", str(tmp_path / "src" / "table.cc"), 7, "t")
    assert place(frame) == "src/table.cc:7"
    assert own_frame([Frame("add", "/opt/b.cc", 1, "t"), frame]) == frame


def test_a_culprit_without_a_name_says_how_to_get_it() -> None:
    made = Made([Row(("server+0x1440", "main"), 3000, 16)])
    subject = made.subject()
    subject.symbols.functions[0] = dataclasses.replace(subject.symbols.functions[0], known=False)
    report = check([(subject, Budget((Limit(Measure.INUSE, 1.0),)))])
    said = "server has no symbols: keep them, or mem_parser budget -p UNSTRIPPED"
    assert f"      {said}" in [line for line, _ in text.lines(report)]


def test_a_format_on_standard_output_is_alone_there(tmp_path: Path, heap: Path) -> None:
    (tmp_path / "check.toml").write_text('[budget]\ninuse = "5 MiB"\n')
    assert json.loads(budget(tmp_path, "check.toml", heap, "--json", "-").stdout)
    done = budget(tmp_path, "check.toml", heap, "--json", "-", "--junit", "-")
    assert (done.returncode, done.stdout) == (2, "")
    assert "cannot both go to standard output" in done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[budget]\npeek = "1 MiB"\n', "check.toml:2:1: unknown key 'peek'"),
        ('[budget]\ngrowth = "5 %"\n', "check.baseline: there is no such baseline"),
        ('[target.other]\npeak = "1 MiB"\n', "check.toml has no limit for none"),
        (
            '[[budget.site]]\nmatch = "domain:mmap"\npeak = "1 MiB"\n',
            "check.toml has no limit for none\nhint:  its sites are of memory that these captures",
        ),
    ],
)
def test_what_is_broken_is_one_line_and_code_3(
    tmp_path: Path, heap: Path, text: str, said: str
) -> None:
    (tmp_path / "check.toml").write_text(text)
    done = budget(tmp_path, "check.toml", heap)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith(f"error: {said}")
    assert len(done.stderr.splitlines()) == 2


def test_the_baseline_is_made_and_then_held_against(tmp_path: Path, heap: Path) -> None:
    (tmp_path / "check.toml").write_text('[budget]\ngrowth = "20 %"\n')
    made = budget(tmp_path, "check.toml", heap, "--update-baseline")
    assert made.returncode == 0
    assert re.fullmatch(r"wrote check.baseline, [\d.]+ K?i?B\n", made.stderr)
    assert (tmp_path / "check.baseline").read_text().startswith("mem_parser baseline 1\n")
    assert budget(tmp_path, "check.toml", heap).returncode == 0


def test_a_cut_capture_neither_passes_nor_makes_a_baseline(tmp_path: Path, heap: Path) -> None:
    heap.write_bytes(heap.read_bytes()[:-20])
    (tmp_path / "check.toml").write_text('[budget]\ninuse = "1 GiB"\n')
    done = budget(tmp_path, "check.toml", heap)
    assert done.returncode == 7
    assert "incomplete" in done.stdout
    assert budget(tmp_path, "check.toml", heap, "--update-baseline").returncode == 3
    assert not (tmp_path / "check.baseline").exists()
