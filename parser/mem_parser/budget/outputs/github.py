"""GitHub workflow commands: annotations on the source lines of exceeded limits.

::error file=src/header.c,line=88,title=memory budget: inuse::67.10 MiB ± 0.40 over ...
"""

from __future__ import annotations

from collections.abc import Iterator

from mem_parser.budget.outputs.text import result_lines
from mem_parser.budget.outputs.words import own_code, own_frame
from mem_parser.budget.verdict import Report, Result, Verdict
from mem_parser.escape import github_command
from mem_parser.frames import in_repository

_LEVEL = {Verdict.FAIL: "error", Verdict.INCONCLUSIVE: "warning"}


def commands(report: Report) -> Iterator[str]:
    """Yield a command for every limit that does not hold, and for every note that is no reason."""
    for capture, result in report.results:
        if result.verdict is not Verdict.PASS:
            yield _annotation(capture.program, result)
    if report.program_code:
        yield github_command("error", {"title": "memory budget"}, [own_code(report)])
    for capture in report.captures:
        said = {result.reason for result in capture.results}
        for note in (note for note in capture.notes if note not in said):
            yield github_command("warning", {"title": f"{capture.program}: memory budget"}, [note])


def _annotation(program: str, result: Result) -> str:
    frames = result.culprits[0].frames if result.culprits else ()
    frame = own_frame(frames)
    lines = result_lines(result)
    if frames and not any(f.line for f in frames):
        lines.append("no source line is known: build with debug information (-g)")
    place = {}
    if frame is not None:
        place = {"file": in_repository(frame.file), "line": str(frame.line)}
    title = {"title": f"{program}: {result.name}"}
    return github_command(_LEVEL[result.verdict], place | title, lines)
