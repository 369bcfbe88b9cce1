"""GitHub workflow commands: annotations on the source lines of exceeded limits.

::error file=src/header.c,line=88,title=memory budget: inuse::67.10 MiB ± 0.40 over ...
"""

from __future__ import annotations

from collections.abc import Iterator

from mem_parser.budget.outputs.text import result_lines
from mem_parser.budget.outputs.words import blamed, own_code, own_frame
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
    frame = own_frame(blamed(result))
    lines = result_lines(result)
    first = result.culprits[0] if result.culprits else None
    if first and first.frames and first.lines == 1 and not any(f.line for f in first.frames):
        lines.append("no source line is known: build with debug information (-g)")
    place = {}
    if frame is not None:
        place = {"file": in_repository(frame.file)}
        place |= {"line": str(frame.line)} if frame.line else {}
    title = {"title": f"{program}: {result.name}"}
    return github_command(_LEVEL[result.verdict], place | title, lines)
