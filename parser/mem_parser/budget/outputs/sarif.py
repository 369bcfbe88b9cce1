"""SARIF 2.1.0 (OASIS): a result for every limit that does not hold, on the source line of its
largest culprit, else on that of the limit, with its stack: code hosts refuse results without a
place. A limit over budget is an error; an inconclusive one is *open*. Notes are notifications.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from mem_parser import sarif
from mem_parser.budget.outputs.words import blamed, gain, own_code, sentence, source_frame
from mem_parser.budget.rules import Measure
from mem_parser.budget.verdict import CaptureReport, Report, Result, Verdict
from mem_parser.escape import sarif_text
from mem_parser.frames import Frame

_RULES = {
    Measure.PEAK: "The highest live total is above its limit",
    Measure.RSS: "More memory is resident than its limit",
    Measure.INUSE: "Memory in use at the end is above its limit",
    Measure.ALLOC_RATE: "Memory is allocated faster than its limit",
    Measure.LEAKS: "Memory leaks",
    Measure.GROWTH: "Memory has grown since the baseline",
    Measure.ALLOC: "More memory is allocated in the run than its limit",
    Measure.ALLOCS: "More blocks are allocated in the run than its limit",
    Measure.ALLOC_GROWTH: "More memory is allocated in the run than in the baseline",
    Measure.ALLOCS_GROWTH: "More blocks are allocated in the run than in the baseline",
}
_PLACE = re.compile(r"(.+):(\d+):\d+", re.DOTALL)


def render(report: Report) -> str:
    """Return the document."""
    results = [_result(c, r) for c, r in report.results if r.verdict is not Verdict.PASS]
    rules = {f"memory/{measure}": text for measure, text in _RULES.items()}
    notes = [sarif_text(f"{c.program}: {note}") for c in report.captures for note in c.notes]
    if report.program_code:
        notes.append(own_code(report))
    return sarif.document("mem_parser budget", rules, results, notes)


def _result(capture: CaptureReport, result: Result) -> dict[str, Any]:
    failed = result.verdict is Verdict.FAIL
    row: dict[str, Any] = {
        "ruleId": f"memory/{result.limit.measure}",
        "ruleIndex": list(_RULES).index(result.limit.measure),
        "kind": "fail" if failed else "open",
        "level": "error" if failed else "none",
        "message": {"text": sarif_text(f"{capture.program}: {result.name}: {sentence(result)}")},
        "partialFingerprints": {"limit/v1": f"{capture.program}/{result.name}"},
    }
    frame = source_frame(blamed(result))
    if frame is not None:
        row["locations"] = [sarif.location(frame)]
    elif place := _PLACE.fullmatch(result.limit.where):
        row["locations"] = [sarif.line_of(place[1], int(place[2]))]
    if result.culprits:
        row["stacks"] = [_stack(c.frames, gain(c, result)) for c in result.culprits if c.frames]
    return row


def _stack(frames: Sequence[Frame], text: str) -> dict[str, Any]:
    return {"message": {"text": text}, "frames": [{"location": sarif.location(f)} for f in frames]}
