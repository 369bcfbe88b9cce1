"""Words that every format shares: amounts of a result, its sentence, and source lines."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

from mem_parser.budget.culprits import Culprit
from mem_parser.budget.rules import Measure
from mem_parser.budget.tries import rate_for
from mem_parser.budget.verdict import CaptureReport, Report, Result, Verdict
from mem_parser.errors import one_line
from mem_parser.estimate import Estimate
from mem_parser.frames import Frame, in_repository
from mem_parser.startframes import runs_tests
from mem_parser.units import counted, format_estimate, format_rate, format_value, per
from mem_parser.words import phrase

_SYSTEM = ("/usr/", "/build/", "/rustc/")
_MOST_OTHERS = 20


def amount(value: float, result: Result) -> str:
    """Return bytes, bytes per second, or a number of blocks."""
    text = format_value(value, result.limit.measure.unit)
    return text + "/s" if result.limit.measure is Measure.ALLOC_RATE else text


def estimate(value: Estimate, result: Result) -> str:
    """Return `67.10 MiB ± 0.40`, with the margin of 95 %."""
    text = format_estimate(value, result.limit.measure.unit)
    return per("s", text) if result.limit.measure is Measure.ALLOC_RATE else text


def sentence(result: Result) -> str:
    """Return the sentence on a limit: `67.10 MiB ± 0.40 over 64 MiB by 3.1 MiB`."""
    if result.estimate is None or result.amount is None:
        return result.reason
    what, limit = estimate(result.estimate, result), amount(result.amount, result)
    limit += _allowed(result)
    if result.limit.measure is Measure.LEAKS:
        return _of_leaks(result, limit)
    if result.verdict is Verdict.FAIL:
        return f"{what} over {limit} by {amount(result.excess, result)}"
    if result.verdict is Verdict.PASS:
        at = not result.excess
        return f"{what}, limit {limit}" if at else f"{what}{_how_little(result)} under {limit}"
    return f"{what}, limit {limit}: {reason(result)}"


def reason(result: Result) -> str:
    """Return why a result is inconclusive."""
    if result.reason:
        return result.reason
    upper, lower = amount(result.upper, result), amount(max(result.lower, 0.0), result)
    if result.limit.measure is Measure.LEAKS and result.estimate and not result.estimate.samples:
        return f"none found, but up to {upper} may leak: {_another_try(result)}"
    if not result.estimate or not result.estimate.samples:
        return f"0 samples, which leaves up to {upper}: {_another_try(result)}"
    both = " with the baseline's error" if result.limit.measure.is_growth else ""
    return f"between {lower} and {upper}{both}: {_another_try(result)}"


def _another_try(result: Result) -> str:
    if not result.rate_bytes:
        return "capture longer, or at a finer rate"
    if result.rate_bytes <= 1:
        return "capture longer"
    rate = max(round(rate_for(result, result.rate_bytes)), 1)
    if result.limit.measure.counts_blocks:
        return f"capture with -c {rate}"
    return f"capture longer, or with -c {rate}"


def _of_leaks(result: Result, limit: str) -> str:
    if result.verdict is Verdict.INCONCLUSIVE:
        return reason(result)
    assert result.estimate is not None
    if not result.estimate.samples:
        return f"none found, limit {limit}"
    what = f"{estimate(result.estimate, result)} leaking"
    over = "over" if result.verdict is Verdict.FAIL else "under"
    led = f"{result.headline}: " if result.headline else ""
    return f"{led}{what}, {over} {limit}"


def _allowed(result: Result) -> str:
    """Say how the amount comes about where it is not the one in the file."""
    if result.limit.measure.is_growth:
        return f" (baseline + {result.limit.text})"
    if result.amount is not None and not math.isclose(result.amount, result.limit.amount):
        return f" ({result.limit.text} and tolerance)"
    return ""


def _how_little(result: Result) -> str:
    """Say how far below its limit an amount is that reads as if it were the limit."""
    assert result.estimate is not None
    assert result.amount is not None
    if amount(result.estimate.value, result) != amount(result.amount, result):
        return ""
    return f", {amount(abs(result.excess), result)}"


def gain(culprit: Culprit, result: Result) -> str:
    """Return a culprit's part of a result: `+3.000 MiB ± 0.2`."""
    return ("+" if culprit.delta is not None else "") + estimate(culprit.amount, result)


def heading(result: Result) -> str:
    """Return what the rows of a result are, where nobody knows which of them is new; else empty."""
    rows = result.culprits
    is_of_size = len(rows) > 1 and result.limit.measure is not Measure.LEAKS
    return phrase("the largest lines, old or new") if is_of_size and rows[0].delta is None else ""


def page_block(capture: CaptureReport, report: Report | None = None) -> dict[str, Any]:
    """Return the block of the page's tab: what JSON has of each limit, with the words of the text
    on why its verdict is what it is, and on what its rows are. Its notes name the limits that do
    not hold of the other captures of ``report``.
    """
    block = capture.as_json()
    block["notes"] = [*capture.notes, *(_of_others(capture, report) if report else ())]
    for row, result in zip(block["rows"], capture.results, strict=True):
        is_open = result.verdict is Verdict.INCONCLUSIVE
        row["reason"] = reason(result) if is_open else result.headline
        row["heading"] = heading(result)
    return block


def _of_others(capture: CaptureReport, report: Report) -> list[str]:
    words = {Verdict.FAIL: "fails", Verdict.INCONCLUSIVE: "is inconclusive"}
    found = [
        f"another capture {words[result.verdict]}: {other.program}  {other.path}: "
        f"{result.name}  {sentence(result)}"
        for verdict in words
        for other, result in report.results
        if other is not capture and result.verdict is verdict
    ]
    more = len(found) - _MOST_OTHERS
    return found[:_MOST_OTHERS] + ([f"and {more} more limits of other captures"] * (more > 0))


def place(frame: Frame) -> str:
    """Return `src/header.c:88`, or the module where there is no source line. A file outside the
    repository and the working folder has only its name.
    """
    if frame.file:
        path = in_repository(frame.file)
        path = os.path.basename(path) if os.path.isabs(path) else path
        return one_line(f"{path}:{frame.line}" if frame.line else path)
    return one_line(os.path.basename(frame.module))


def up_to_test(frames: Sequence[Frame]) -> Sequence[Frame]:
    """Return the frames without those that run a test, where they are of one; never none."""
    end = next((k for k, f in enumerate(frames) if k and runs_tests(f.file)), len(frames))
    return frames[:end]


def own_code(report: Report) -> str:
    """Return with what a program ended that failed by itself."""
    return f"exit code {report.program_code}, the program's own"


def source_frame(frames: Sequence[Frame]) -> Frame | None:
    """Return the innermost frame of the program's own source, for annotations; else the innermost
    with a line.
    """
    return own_frame(frames) or next((f for f in frames if f.file and f.line), None)


def blamed(result: Result) -> Sequence[Frame]:
    """Return the frames that an annotation may stand on: of the first culprit as many as all its
    stacks share. None where it is only large: of a growth that may be any other line.
    """
    first = result.culprits[0] if result.culprits else None
    if first is None or (result.limit.measure.is_growth and first.delta is None):
        return ()
    return first.frames[: first.shared]


def own_frame(frames: Sequence[Frame]) -> Frame | None:
    """Return the innermost frame whose source is in the repository or the working folder, else the
    innermost whose source is not the system's; None where there is no such frame. Only the first
    may lack its line.
    """
    known = [f for k, f in enumerate(frames) if f.file and (f.line or not k)]
    for frame in known:
        if not os.path.isabs(in_repository(frame.file)) and os.path.exists(frame.file):
            return frame
    other = (f for f in known if os.path.isabs(f.file) and not f.file.startswith(_SYSTEM))
    return next(other, None)


def samples_text(report_samples: int, rate_bytes: float, sampling: str = "") -> str:
    """Return `12,345 samples at 16 KiB`; ``sampling`` is that of the profile."""
    samples = counted(report_samples, "sample")
    if sampling:
        return f"{samples}, {sampling}" if rate_bytes > 1 else sampling
    if rate_bytes <= 1:
        return f"{samples}, every block"
    return f"{samples} at {format_rate(rate_bytes)}"
