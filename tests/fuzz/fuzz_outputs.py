"""What a budget's report looks like in every format when all names in it are hostile.

An input is a list of texts between bytes 0xff: names of functions, files, programs, threads.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import atheris

with atheris.instrument_imports(include=["mem_parser", "mem_cli"]):
    from mem_cli.budget_report import present
    from mem_parser.budget import (
        Budget,
        Limit,
        Measure,
        Report,
        Site,
        Subject,
        Verdict,
        check,
        parse_match,
    )
    from mem_parser.budget.outputs.text import result_lines
    from mem_parser.errors import MemError, one_line

from budget_profiles import Made, Row
from forging import text
from harness import Finding, fuzz

KIB = 1024
TEXTS = 8
COMMAND = re.compile(
    r"::(error|warning) ((?:[a-z]+=[^,:\r\n]*)(?:,[a-z]+=[^,:\r\n]*)*)::([^\r\n]*)"
)
CONTROL_ONLY = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
# What ends a line for a terminal, a CI's log or a parser of either.
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u200b\u202a-\u202e\u2066-\u2069]")
COLUMN = re.compile(r"(?<!\\)(?:\\\\)*\|")
MARKDOWN_COLUMNS = 6
MARKER = re.compile(r"<!-- mem_parser budget [\w.+]*(?:-[\w.+]+)*-? -->")
NO_FORMATS = dict.fromkeys(("json", "html", "junit", "sarif", "markdown"), None) | {"github": False}


def report_of(texts: list[str]) -> tuple[Subject, Report]:
    """One limit that fails, one that passes, one that is inconclusive."""
    name, file, exe, caller, thread, note, module, end = texts
    rows = [
        Row((name, caller, "main"), 3000, 16, file=file, line=88, module=module, thread=thread),
        Row(("grow", "main"), 500, 16, file=note, line=5),
    ]
    limits = (
        Limit(Measure.INUSE, 2000 * KIB, text="2000 KiB"),
        Limit(Measure.ALLOC_RATE, 4000 * KIB, text="4000 KiB/s"),
    )
    try:
        match = parse_match(f"function:{re.escape(name[:40])}")
    except ValueError:
        match = parse_match("function:parse")
    site = Site((match,), (Limit(Measure.INUSE, KIB, text="1 KiB"),))
    other = Site(
        (parse_match("function:grow"),), (Limit(Measure.INUSE, 500 * KIB, text="500 KiB"),)
    )
    subject = Made(rows, exe=exe, end=end).subject(path=file + ".heap")
    return subject, check([(subject, Budget(limits, (site, other)))])


def plain(text: str, what: str) -> None:
    """No character that a terminal or a log acts on, and no line that a CI takes for a command.

    GitHub's runner takes `::` for one behind blanks alone, `##[` anywhere in a line. The second is
    looked for where lines are made for logs: in a document it is content.
    """
    if found := CONTROL.search(text):
        raise Finding(f"{what}: a control character {found[0]!r}")
    command = re.compile(r"\s*::|.*##\[" if what == "text" else r"\s*::")
    for line in text.split("\n"):
        if command.match(line):
            raise Finding(f"{what}: a line that is a command: {line[:80]!r}")


def printed(report: Report, subject: Subject, **formats: Any) -> str:
    """What the command writes to standard output."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        present(report, [subject], NO_FORMATS | formats)
    return out.getvalue()


def document(report: Report, subject: Subject, name: str) -> str:
    """A document as the command writes it to a file."""
    path = Path(f"report.{name}").absolute()
    printed(report, subject, **{name: str(path)})
    return path.read_bytes().decode()


def unescaped(text: str) -> str:
    """As GitHub's runner takes it apart."""
    for code, character in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        text = text.replace(code, character)
    return text


def check_commands(lines: list[str], report: Report) -> None:
    undone = [r for _, r in report.results if r.verdict is not Verdict.PASS]
    said = {r.reason for _, r in report.results}
    notes = [note for c in report.captures for note in c.notes if note not in said]
    wanted = ["\n".join(result_lines(r)) for r in undone] + [one_line(note) for note in notes]
    if len(lines) != len(wanted):
        raise Finding("github: not one command for each limit and note")
    for line, message in zip(lines, wanted, strict=True):
        parts = COMMAND.fullmatch(line)
        if parts is None or CONTROL.search(line):
            raise Finding(f"github: no command, or more than one: {line[:80]!r}")
        properties = [entry.partition("=")[0] for entry in parts[2].split(",")]
        if properties not in (["file", "line", "title"], ["title"]):
            raise Finding(f"github: properties {properties}")
        if unescaped(parts[3]) != message:
            raise Finding("github: the message comes out as another")


def check_markdown(said: str) -> None:
    plain(said, "markdown")
    rows = [line for line in said.split("\n") if line.startswith("|")]
    if {len(COLUMN.findall(row)) for row in rows} != {MARKDOWN_COLUMNS}:
        raise Finding("markdown: a row with other columns")
    marker, _, rest = said.partition("\n")
    if not MARKER.fullmatch(marker):
        raise Finding(f"markdown: a marker of a name: {marker[:80]!r}")
    outside = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", rest)
    tags = set(re.findall(r"<[^>\n]*>?", outside))
    if not tags <= {"<details>", "<details open>", "<summary>", "</summary>", "</details>"}:
        raise Finding(f"markdown: HTML of a name: {tags}")


def one(data: bytes) -> None:
    texts = [part.decode("utf-8", "surrogateescape") for part in data.split(b"\xff")][:TEXTS]
    subject, report = report_of([t[:300] for t in texts] + ["x"] * (TEXTS - len(texts)))
    lines = printed(report, subject)
    plain(lines, "text")
    with_commands = printed(report, subject, github=True)
    if not with_commands.startswith(lines):
        raise Finding("github: other lines before the commands")
    check_commands(with_commands[len(lines) :].split("\n")[:-1], report)
    check_markdown(document(report, subject, "markdown"))
    xml = document(report, subject, "junit")
    plain(xml, "junit")
    ET.fromstring(xml)
    for name in ("sarif", "json"):
        text = document(report, subject, name)
        if CONTROL_ONLY.search(text):
            raise Finding(f"{name}: a control character")
        json.loads(text)


def mutate(data: bytes, most: int, seed: int) -> bytes:
    rng = random.Random(seed)
    if rng.random() < 0.2:
        return bytes(atheris.Mutate(data, most))
    parts = (data.split(b"\xff") + [b""] * TEXTS)[:TEXTS]
    for _ in range(rng.choice([1, 1, 2, 5])):
        at, new = rng.randrange(TEXTS), text(rng).encode("utf-8", "surrogatepass")
        cut = rng.randrange(len(parts[at]) + 1)
        parts[at] = rng.choice([new, parts[at][:cut] + new + parts[at][cut:]])
    return b"\xff".join(parts)[:most]


if __name__ == "__main__":
    fuzz(one, (MemError,), mutate)
