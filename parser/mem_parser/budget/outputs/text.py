"""The report as lines for people.

FAIL  inuse  67.10 MiB ± 0.40 MiB over 64.00 MiB by 3.100 MiB
      +3.000 MiB ± 0.20 MiB  parse_header  src/header.c:88
        new since the baseline of build 3f2c1a9
        called by load_index  src/index.c:140
PASS  peak  190.0 MiB ± 2.0 MiB under 256.0 MiB
"""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from mem_parser.budget.culprits import Culprit
from mem_parser.budget.outputs.words import (
    gain,
    heading,
    own_code,
    own_frame,
    place,
    samples_text,
    sentence,
    up_to_test,
)
from mem_parser.budget.verdict import CaptureReport, Report, Result, Verdict
from mem_parser.escape import log_line, one_line
from mem_parser.frames import Frame

MARKS = {Verdict.FAIL: "FAIL", Verdict.PASS: "PASS", Verdict.INCONCLUSIVE: "?"}
RENEW = "meant to grow? the same command with --update-baseline renews the baseline"
_INDENT = 6
_CALLERS = 3
_FEW = 30
_WIDTH = 80


def lines(report: Report, *, notes: bool = True) -> Iterator[tuple[str, Verdict | None]]:
    """Yield the lines, each with the verdict that its first word names, for colour."""
    small, results = _with_next_to_nothing(report), report.results
    for capture in report.captures:
        if capture in small:
            continue
        yield _head(capture), None
        for note in capture.notes if notes else ():
            yield f"note: {one_line(note)}", None
        for result in sorted(capture.results, key=lambda r: list(MARKS).index(r.verdict)):
            yield from _result(result, _wrap)
    if small:
        names = Counter(capture.title for capture in small)
        words = (name if count == 1 else f"{name} (×{count})" for name, count in names.items())
        text = one_line(f"PASS  {len(small)} more with next to no samples: {', '.join(words)}")
        yield from ((line, None) for line in _wrap(text))
    if any(r.verdict is Verdict.FAIL and r.limit.measure.is_growth for _, r in results):
        yield RENEW, None
    if results or report.program_code:
        yield _last(report), None


def _with_next_to_nothing(report: Report) -> list[CaptureReport]:
    """Return the captures that passed with so few samples that one line is enough; never all."""
    few = [
        capture
        for capture in report.captures
        if capture.verdict is Verdict.PASS and capture.samples < _FEW and not capture.notes
    ]
    return few if 1 < len(few) < len(report.captures) else []


def result_lines(result: Result) -> list[str]:
    """Return the lines about one limit, without colour, for a log: each sentence is one."""
    return [log_line(line) for line, _ in _result(result, lambda text: [text])]


def _head(capture: CaptureReport) -> str:
    samples = samples_text(capture.samples, capture.rate_bytes, capture.sampling)
    return one_line(f"{capture.program}  {capture.path}  {samples}")


def _result(
    result: Result, wrap: Callable[[str], list[str]]
) -> Iterator[tuple[str, Verdict | None]]:
    word = MARKS[result.verdict]
    first, *rest = wrap(one_line(f"{result.name}  {sentence(result)}"))
    yield f"{word:<{_INDENT}}{first}", result.verdict
    for line in rest:
        yield " " * (_INDENT + 2) + line, None
    for note in result.notes:
        for line in wrap(one_line(note)):
            yield " " * _INDENT + line, None
    if title := heading(result):
        yield f"{' ' * _INDENT}{title}:", None
    for culprit in result.culprits:
        yield from ((line, None) for line in _culprit(culprit, result, wrap))


def _culprit(culprit: Culprit, result: Result, wrap: Callable[[str], list[str]]) -> Iterator[str]:
    pad = " " * _INDENT
    first = culprit.frames[0] if culprit.frames else None
    name = "[no stack]" if first is None else one_line(first.function)
    where = "" if first is None else place(first)
    yield f"{pad}{gain(culprit, result)}  {name}  {where}".rstrip()
    if culprit.text:
        for line in wrap(one_line(culprit.text)):
            yield f"{pad}  {line}"
    yield from (f"{pad}  {line}" for line in _called_by(culprit.frames))


def _called_by(frames: Sequence[Frame]) -> Iterator[str]:
    """Yield a few callers, up to `main` or a test; if those are all of libraries, the first of the
    program's own source as well.
    """
    frames = up_to_test(frames)
    names = [f.function for f in frames]
    end = names.index("main") + 1 if "main" in names else len(frames)
    near = frames[: min(1 + _CALLERS, end)]
    shown = [(f, "") for f in near[1:]]
    own = own_frame(frames[:end])
    if own is not None and own not in near:
        shown.append((own, "… "))
    for frame, skipped in shown:
        yield f"{skipped}called by {one_line(frame.function)}  {place(frame)}".rstrip()


def _last(report: Report) -> str:
    counts = {v: sum(r.verdict is v for _, r in report.results) for v in Verdict}
    words = {
        Verdict.FAIL: "over budget",
        Verdict.INCONCLUSIVE: "inconclusive",
        Verdict.PASS: "passed",
    }
    text = ", ".join(f"{counts[v]} {words[v]}" for v in Verdict if counts[v])
    code = f"exit code {report.exit_code}" if report.exit_code else ""
    if report.program_code:
        code = own_code(report)
    return f"{text:<{_WIDTH - len(code)}}{code}".rstrip()


def _wrap(text: str) -> list[str]:
    # A number stays with its unit.
    bound = re.sub(r"(?<=[0-9±]) (?=[KMGTPE]?i?B\b|±|[0-9])|(?<=/[hs]) (?=±)", "\xa0", text)
    wrapped = textwrap.wrap(
        bound, _WIDTH - _INDENT - 2, break_long_words=False, break_on_hyphens=False
    )
    return [line.replace("\xa0", " ") for line in wrapped] or [""]
