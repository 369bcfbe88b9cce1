"""The report of bytes in use by line, as text: columns of one width, the largest first.

/test/test.gs                                      line:6       size:79558144
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mem_parser.escape import one_line
from mem_parser.model import MISSING_SAMPLES
from mem_parser.readers import read_profile
from mem_parser.records.lines import LineBytes, lines_in_use
from mem_parser.units import counted

_AFTER_FILE, _AFTER_LINE = 5, 4
"""Spaces behind the longest entry of each column."""


@dataclass(frozen=True, slots=True)
class LineReport:
    """Bytes in use by line, and in all. ``lost``: samples that no line has, by cause; ``sure``: no
    event is missing that could tell of more, or of less.
    """

    lines: list[LineBytes]
    lost: dict[str, int] = field(default_factory=dict)
    sure: bool = True

    @property
    def missing(self) -> int:
        """Samples that no line has."""
        return sum(self.lost.values())

    @property
    def problem(self) -> str:
        """Why the report is not whole, in a line; empty where it is."""
        if self.missing:
            causes = ", ".join(f"{cause} {number}" for cause, number in self.lost.items())
            return f"{counted(self.missing, 'block')} not in the report: {causes}"
        if not self.sure:
            return "events before this moment are missing in the log: the report may be wrong"
        return ""

    @property
    def total_bytes(self) -> int:
        """The bytes of all lines."""
        return sum(line.size_bytes for line in self.lines)

    def text(self) -> list[str]:
        """Return a text for each line."""
        return aligned(self.lines)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as scripts get it."""
        return {"total_size": self.total_bytes, "mem_report": self.text()}


def report_of_file(path: str | os.PathLike[str]) -> LineReport:
    """Return the report of a capture's file. Raises InputFileError."""
    profile = read_profile(os.fspath(path))
    lost = {cause: n for cause, n in profile.capture.lost.items() if n and cause in MISSING_SAMPLES}
    return LineReport(lines_in_use(profile), lost)


def aligned(lines: Sequence[LineBytes]) -> list[str]:
    """Return file, line and size of each line, in columns."""
    files = [one_line(one.file) for one in lines]
    numbers = [f"line:{one.line}" for one in lines]
    file_width = max(map(len, files), default=0) + _AFTER_FILE
    line_width = max(map(len, numbers), default=0) + _AFTER_LINE
    return [
        f"{file:<{file_width}}{number:<{line_width}}size:{one.size_bytes}"
        for file, number, one in zip(files, numbers, lines, strict=True)
    ]
