"""The report as Markdown: a comment for a pull request, a job's step summary."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mem_parser.budget.culprits import Culprit
from mem_parser.budget.outputs.words import (
    amount,
    estimate,
    gain,
    heading,
    own_code,
    place,
    reason,
    samples_text,
    sentence,
    up_to_test,
)
from mem_parser.budget.verdict import CaptureReport, Report, Result, Verdict
from mem_parser.escape import markdown_code, markdown_html, markdown_row, markdown_text

_WORD = {Verdict.FAIL: "❌ over", Verdict.INCONCLUSIVE: "❔ inconclusive", Verdict.PASS: "✅ pass"}
_TITLE = {
    Verdict.FAIL: "over budget",
    Verdict.INCONCLUSIVE: "inconclusive",
    Verdict.PASS: "within budget",
}
_PLAIN = re.compile(r"[^\w.+]+")


def marker(report: Report) -> str:
    """Return the first line of a comment, by which the next run of the same program can find and
    replace it.
    """
    first = report.captures[0].program if report.captures else ""
    return f"<!-- mem_parser budget {_PLAIN.sub('-', first)} -->"


def render(report: Report) -> str:
    """Return the text."""
    lines = [marker(report), f"### Memory: {_TITLE[report.verdict]}"]
    if report.program_code:
        lines += ["", f"❌ {own_code(report)}"]
    for capture in report.captures:
        lines += ["", *_capture(capture)]
    return "\n".join(lines) + "\n"


def _capture(capture: CaptureReport) -> Iterator[str]:
    samples = markdown_text(samples_text(capture.samples, capture.rate_bytes, capture.sampling))
    yield f"**{markdown_text(capture.program)}** · {samples}"
    for note in capture.notes:
        yield f"> {markdown_text(note)}"
    yield ""
    yield "| | limit of | measured | limit | |"
    yield "|---|---|--:|--:|---|"
    for result in capture.results:
        yield _row(result)
    for result in capture.results:
        if result.culprits:
            yield from _details(result)


def _row(result: Result) -> str:
    known = "" if result.estimate is None else estimate(result.estimate, result)
    limit = "" if result.amount is None else amount(result.amount, result)
    more = list(result.notes)
    if result.verdict is Verdict.FAIL:
        more.insert(0, f"by {amount(result.excess, result)}")
    elif result.verdict is Verdict.INCONCLUSIVE:
        more.insert(0, reason(result))
    cells = (_WORD[result.verdict], result.name, known, limit, "; ".join(more))
    return markdown_row(cells)


def _details(result: Result) -> Iterator[str]:
    yield ""
    title = markdown_html(f"{result.name}: {sentence(result)}")
    opened = " open" if result.verdict is Verdict.FAIL else ""
    yield f"<details{opened}><summary>{title}</summary>"
    yield ""
    if title := heading(result):
        yield from (f"{title}:", "")
    for culprit in result.culprits:
        yield from _culprit(culprit, result)
    yield ""
    yield "</details>"


def _culprit(culprit: Culprit, result: Result) -> Iterator[str]:
    first, *callers = up_to_test(culprit.frames) or (None,)
    where = "" if first is None else f" {markdown_code(place(first))}"
    name = "no stack" if first is None else first.function
    text = f" – {markdown_text(culprit.text)}" if culprit.text else ""
    yield f"- {gain(culprit, result)} {markdown_code(name)}{where}{text}"
    names = [c.function for c in callers if c is not None]
    if names:
        yield f"  called by {' ← '.join(markdown_code(n) for n in names[:4])}"
