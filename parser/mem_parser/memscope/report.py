"""Closing report of a collection: leaks by step, gaps of pools, blocks never freed.

A gap of a pool is its fluctuation in a step: lowest over highest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from mem_parser.memscope import steps
from mem_parser.memscope.form import FREE, HAL, MALLOC, STEP_TITLES
from mem_parser.memscope.reading import read_rows
from mem_parser.memscope.rows import Rows, device_order
from mem_parser.memscope.settings import Settings
from mem_parser.memscope.steps import ended, steps_of

FIRST_STEP = 2
_MIB = 1 << 20
_CELL_CHARS = 25


class Gap(NamedTuple):
    """A step: the least and the most bytes that were allocated in it."""

    step: int
    least_bytes: int
    most_bytes: int

    @property
    def ratio(self) -> float:
        """Least of most; 1 is a step without any change."""
        return self.least_bytes / self.most_bytes if self.most_bytes else 1.0


class PoolGaps(NamedTuple):
    """The steps of one pool of a device, from step 2 on."""

    device: str
    pool: str
    steps: list[Gap]

    @property
    def lowest(self) -> Gap:
        """The step with the lowest ratio, the first of several."""
        return min(self.steps, key=lambda gap: gap.ratio)

    @property
    def highest(self) -> Gap:
        """The step with the highest ratio."""
        return max(self.steps, key=lambda gap: gap.ratio)


def find_gaps(rows: Rows) -> list[PoolGaps]:
    """Return the steps of each pool and device, from what the rows say is in use (`used`)."""
    found = []
    for number in rows.devices():
        mine = (rows.device == number) & rows.is_event(MALLOC, FREE) & (rows.used >= 0)
        steps = [one for one in ended(steps_of(rows, number)) if one[0].number >= FIRST_STEP]
        for pool in STEP_TITLES:
            index = np.flatnonzero(mine & rows.is_type(pool))
            index = index[np.argsort(rows.id[index], kind="stable")]
            ids, used = rows.id[index], rows.used[index]
            gaps = []
            for step, end in steps:
                values = used[slice(*np.searchsorted(ids, [step.begin, end], side="right"))]
                if len(values):
                    gaps.append(Gap(step.number, int(values.min()), int(values.max())))
            if gaps:
                found.append(PoolGaps(rows.words.devices[number], pool, gaps))
    return found


def table(gaps: PoolGaps) -> list[str]:
    """Return the table as the online analysis prints it."""
    title = STEP_TITLES[gaps.pool]
    shown = [f"======= {title} Gap Analysis of Device {gaps.device} ======="]
    shown.append(_line("", "MinAlloc/MaxAlloc(%)", "MinAllocMem(MB)", "StepId"))
    for name, gap in (("MinGap", gaps.lowest), ("MaxGap", gaps.highest)):
        ratio, least = f"{100 * gap.ratio:.4f}", f"{gap.least_bytes / _MIB:.4f}"
        shown.append(_line(name, ratio, least, str(gap.step)))
    return shown


def _line(name: str, *cells: str) -> str:
    return f"{name:8}{''.join(cell.ljust(_CELL_CHARS) for cell in cells)}".rstrip()


LOG_LINES_MAX = 10_000


def lines(paths: Mapping[str, str], settings: Settings) -> list[str]:
    """Return the lines of the analyses of a process's dumps, by device. Raises `DumpError`."""
    if "leaks" not in settings.analyses or settings.deferred:
        return []
    shown: list[str] = []
    for device in sorted(paths, key=device_order):
        rows = read_rows(paths[device])
        shown += steps.lines(rows, steps.find_step_leaks(rows))
        for found in find_gaps(rows):
            shown += table(found)
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
