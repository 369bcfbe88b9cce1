"""How far the memory of a pool goes up and down in each step: its lowest part of its highest."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mem_parser.memscope.form import FREE, MALLOC, POOL_TITLES
from mem_parser.memscope.rows import Rows
from mem_parser.memscope.steps import step_bounds, step_of

FIRST_STEP = 2
_MIB = 1 << 20


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
        begins, _ = step_bounds(rows.take((rows.device == number) | ~rows.is_event(MALLOC, FREE)))
        for pool in POOL_TITLES:
            index = np.flatnonzero(mine & rows.is_type(pool))
            step = step_of(begins, rows.id[index])
            used = rows.used[index]
            steps = []
            for value in np.unique(step[step >= FIRST_STEP]).tolist():
                values = used[step == value]
                steps.append(Gap(value, int(values.min()), int(values.max())))
            if steps:
                found.append(PoolGaps(rows.words.devices[number], pool, steps))
    return found


def table(gaps: PoolGaps) -> list[str]:
    """Return the table as the online analysis prints it."""
    title = POOL_TITLES[gaps.pool].removesuffix(" pool")
    shown = [f"======= {title} Gap Analysis of Device {gaps.device} ======="]
    shown.append(f"{'':8}{'MinAlloc/MaxAlloc(%)':>22}{'MinAllocMem(MB)':>18}{'StepId':>8}")
    for name, gap in (("MinGap", gaps.lowest), ("MaxGap", gaps.highest)):
        shown.append(
            f"{name:8}{100 * gap.ratio:>22.4f}{gap.least_bytes / _MIB:>18.4f}{gap.step:>8}"
        )
    return shown
