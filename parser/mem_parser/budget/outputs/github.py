"""GitHub workflow commands: annotations on the source lines of what is over budget.

::error file=src/header.c,line=88,title=memory budget: inuse::67.10 MiB ± 0.40 over ...
"""

from __future__ import annotations

from collections.abc import Iterator

from mem_parser.budget.outputs.text import result_lines
from mem_parser.budget.outputs.words import own_frame, relative
from mem_parser.budget.verdict import Report, Result, Verdict

_LEVEL = {Verdict.FAIL: "error", Verdict.INCONCLUSIVE: "warning"}


def commands(report: Report) -> Iterator[str]:
    """Yield a command for every limit that does not hold."""
    for capture, result in report.results:
        if result.verdict is not Verdict.PASS:
            yield _annotation(capture.program, result)


def _annotation(program: str, result: Result) -> str:
    properties = []
    frame = own_frame(result.culprits[0].frames) if result.culprits else None
    if frame is not None:
        properties += [f"file={_property(relative(frame.file))}", f"line={frame.line}"]
    properties.append(f"title={_property(f'{program}: {result.name}')}")
    message = "\n".join(result_lines(result))
    return f"::{_LEVEL[result.verdict]} {','.join(properties)}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
