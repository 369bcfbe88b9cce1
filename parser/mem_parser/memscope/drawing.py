"""Bytes in use over time in lines of text."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from mem_parser.memscope.rows import FloatArray


def chart(values: FloatArray, dots: FloatArray, seconds: float, lines: int) -> Iterable[str]:
    """Yield the lines of an area, of its second series as dots, and of the axis of time.

    Characters that standard output cannot write are drawn with others. Raises ValueError before
    Python 3.11, which the drawing needs.
    """
    if sys.version_info < (3, 11):  # noqa: UP036 - no command: a program of any version
        raise ValueError(f"a chart needs Python 3.11, and this is {sys.version.split()[0]}")
    from mem_parser.reports.chart import area, axis

    plain = not _draws_blocks()
    yield from area(values, dots, height=lines, ascii_only=plain)
    yield from axis(len(values), 0.0, seconds, ascii_only=plain)


def _draws_blocks() -> bool:
    try:
        "█·│└─".encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
