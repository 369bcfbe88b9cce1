"""Bytes in use by line, and over time, as tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mem_parser.records.linereport import LineReport
from mem_parser.reports.grid import Block, Column, Grid
from mem_parser.sizes import short_size
from mem_parser.units import counted

_COLUMNS = (Column("file", right=False, flexible=True), Column("line"), Column("size"))


def line_blocks(report: LineReport) -> Iterator[Block]:
    """Yield the total, and the table."""
    total = report.total_bytes
    yield f"{total} bytes ({short_size(total)}) in use, of {counted(len(report.lines), 'line')}"
    if report.lines:
        rows = [(one.file, str(one.line or "-"), str(one.size_bytes)) for one in report.lines]
        yield Grid(_COLUMNS, list(rows))


def size_blocks(sizes: Sequence[Sequence[int]]) -> Iterator[Block]:
    """Yield the highest size, and the table of all."""
    if not sizes:
        yield "the log knows no moment"
        return
    time_ms, most = max(sizes, key=lambda row: row[1])
    yield f"at most {most} bytes ({short_size(most)}) in use, in the 100 ms from {time_ms} ms on"
    yield Grid((Column("ms"), Column("size")), [(str(ms), str(size)) for ms, size in sizes])
