"""The report as lines for people.

FAIL  inuse  67.10 MiB ± 0.40 over 64.00 MiB by 3.100 MiB
      +3.000 MiB ± 0.2  parse_header  src/header.c:88
        new since the baseline of 3f2c1a9
        called by load_index  src/index.c:140
PASS  peak  190.0 MiB ± 2 under 256.0 MiB
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator

from mem_parser.budget.culprits import Culprit
from mem_parser.budget.outputs.words import gain, place, samples_text, sentence
from mem_parser.budget.rules import Measure
from mem_parser.budget.verdict import CaptureReport, Report, Result, Verdict
from mem_parser.errors import one_line

MARKS = {Verdict.FAIL: "FAIL", Verdict.PASS: "PASS", Verdict.INCONCLUSIVE: "?"}
_INDENT = 6
_CALLERS = 3
_WIDTH = 80


def lines(report: Report, exit_code: int = 0) -> Iterator[tuple[str, Verdict | None]]:
    """Yield the lines, each with the verdict that its first word names, for colour.

    ``exit_code`` is what the command ends with where that is not the verdict's.
    """
    for capture in report.captures:
        yield _head(capture), None
        for note in capture.notes:
            yield f"note: {one_line(note)}", None
        for result in sorted(capture.results, key=lambda r: list(MARKS).index(r.verdict)):
            yield from _result(result)
    yield _last(report, exit_code), None


def result_lines(result: Result) -> list[str]:
    """Return the lines about one limit, without colour."""
    return [line for line, _ in _result(result)]


def _head(capture: CaptureReport) -> str:
    samples = samples_text(capture.samples, capture.rate_bytes)
    return one_line(f"{capture.program}  {capture.path}  {samples}")


def _result(result: Result) -> Iterator[tuple[str, Verdict | None]]:
    word = MARKS[result.verdict]
    first, *rest = _wrap(one_line(f"{result.name}  {sentence(result)}"))
    yield f"{word:<{_INDENT}}{first}", result.verdict
    for line in rest:
        yield " " * (_INDENT + 2) + line, None
    for note in result.notes:
        for line in _wrap(one_line(note)):
            yield " " * _INDENT + line, None
    for culprit in result.culprits:
        yield from ((line, None) for line in _culprit(culprit, result))


def _culprit(culprit: Culprit, result: Result) -> Iterator[str]:
    pad = " " * _INDENT
    rate = result.limit.measure is Measure.ALLOC_RATE
    first, *callers = culprit.frames or (None,)
    name = "[no stack]" if first is None else one_line(first.function)
    where = "" if first is None else place(first)
    yield f"{pad}{gain(culprit, rate=rate)}  {name}  {where}".rstrip()
    if culprit.text:
        for line in _wrap(one_line(culprit.text)):
            yield f"{pad}  {line}"
    for caller in callers[:_CALLERS]:
        if caller is None or first is None or first.function == "main":
            break
        yield f"{pad}  called by {one_line(caller.function)}  {place(caller)}".rstrip()
        first = caller


def _last(report: Report, exit_code: int) -> str:
    counts = {v: sum(r.verdict is v for _, r in report.results) for v in Verdict}
    words = {
        Verdict.FAIL: "over budget",
        Verdict.INCONCLUSIVE: "inconclusive",
        Verdict.PASS: "passed",
    }
    text = ", ".join(f"{counts[v]} {words[v]}" for v in Verdict if counts[v]) or "no limits"
    code = f"exit code {report.exit_code}" if report.exit_code else ""
    if exit_code and exit_code != report.exit_code:
        code = f"exit code {exit_code}, the program's own"
    return f"{text:<{_WIDTH - len(code)}}{code}".rstrip()


def _wrap(text: str) -> list[str]:
    # A number stays with its unit.
    bound = re.sub(r"(?<=[0-9±]) (?=[KMGTPE]?i?B\b|±|[0-9])", "\xa0", text)
    wrapped = textwrap.wrap(
        bound, _WIDTH - _INDENT - 2, break_long_words=False, break_on_hyphens=False
    )
    return [line.replace("\xa0", " ") for line in wrapped] or [""]
