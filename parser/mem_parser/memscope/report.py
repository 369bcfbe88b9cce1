"""Closing report of a collection: leaks by step, gaps of pools, blocks never freed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mem_parser.memscope import gaps, steps
from mem_parser.memscope.form import HAL, MALLOC
from mem_parser.memscope.reading import read_rows
from mem_parser.memscope.rows import Rows, device_order
from mem_parser.memscope.settings import Settings

LOG_LINES_MAX = 10_000


def lines(paths: Mapping[str, str], settings: Settings) -> list[str]:
    """Return the lines of the analyses of a process's dumps, by device. Raises `DumpError`."""
    if "leaks" not in settings.analyses or settings.deferred:
        return []
    shown: list[str] = []
    for device in sorted(paths, key=device_order):
        rows = read_rows(paths[device])
        shown += steps.lines(rows, steps.find_step_leaks(rows))
        for found in gaps.find_gaps(rows):
            shown += gaps.table(found)
    return shown


def log_lines(paths: Mapping[str, str], settings: Settings) -> Iterator[str]:
    """Yield a line of the log for each block of a driver that was never freed."""
    if "leaks" not in settings.analyses or settings.deferred:
        return
    left = LOG_LINES_MAX
    for device in sorted(paths, key=device_order):
        for row, rows in _never_freed(read_rows(paths[device])):
            if not left:
                return
            left -= 1
            yield (
                f"[client {rows.pid[row]}][device: {device}]: Leak memory in Malloc operator,"
                f" addr: 0x{int(rows.address[row]):x}"
            )


def _never_freed(rows: Rows) -> Iterator[tuple[int, Rows]]:
    here = rows.is_type(HAL) & ~rows.shadow
    births, ends = steps.lives(rows, here)
    for row, end in zip(births.tolist(), ends.tolist(), strict=True):
        if end < 0 and rows.event[row] == MALLOC:
            yield row, rows
