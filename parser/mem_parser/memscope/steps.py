"""Leaks by steps of a training: blocks that outlive the step after the one that made them.

A step begins with a range of the program named `step start` and ends with that range, or begins
with a call of `step()`, which ends the one before. Steps are numbered from 1; what comes before the
first has step 0. At the end of step s every live block of a pool is a candidate if its step a is
behind the warm-up (a > ``skip``) and s - a >= ``duration``. A candidate that is freed later is none
any more.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mem_parser.memscope.form import (
    ATB,
    FREE,
    KERNEL_LAUNCH,
    MALLOC,
    MINDSPORE,
    MSTX,
    POOL_TITLES,
    PTA,
    SYSTEM,
)
from mem_parser.memscope.rows import BoolArray, IntArray, Rows

STEP_MESSAGE = "step start"
SKIP_STEPS = 1
DURATION_STEPS = 1
_MIB = 1 << 20


class Candidate(NamedTuple):
    """A block that outlived a step. ``row`` is that of its allocation."""

    row: int
    step: int
    seen_steps: int
    """For how many steps it had lasted at the last end of a step that saw it."""
    freed: bool


class StepLeaks(NamedTuple):
    """What was found on a device."""

    device: str
    steps: int
    candidates: list[Candidate]

    @property
    def leaks(self) -> list[Candidate]:
        """Those that were never freed."""
        return [one for one in self.candidates if not one.freed]


def step_bounds(rows: Rows) -> tuple[IntArray, IntArray]:
    """Return the IDs at which steps 1, 2, ... begin and end; the last one may have no end."""
    order = np.argsort(rows.id, kind="stable")
    is_step = rows.is_event(SYSTEM) & rows.is_type("STEP")
    named = np.array([name == STEP_MESSAGE for name in rows.words.names], dtype=bool)
    is_named = named[rows.name] if len(rows) else np.zeros(0, dtype=bool)
    is_begin = rows.is_event(MSTX) & rows.is_type("RANGE_START") & is_named
    if is_step.any():
        at = np.unique(rows.id[order[is_step[order]]])
        return at, at[1:]
    begins = np.unique(rows.id[is_begin])
    ends = np.unique(rows.id[rows.is_event(MSTX) & rows.is_type("RANGE_END") & is_named])
    if not len(ends):
        return begins, begins[1:]
    # The end of a step is the first end behind its begin.
    where = np.searchsorted(ends, begins, side="right")
    whole = where < len(ends)
    return begins, ends[where[whole]]


def step_spans(rows: Rows) -> list[tuple[str, int, int]]:
    """Return the steps that end, in order: name, and the IDs behind which and with which they do.

    A call of `step()` ends the step that its row names; the first begins with the dump. Ranges are
    numbered from 1 on.
    """
    order = np.argsort(rows.id, kind="stable")
    is_step = rows.is_event(SYSTEM) & rows.is_type("STEP")
    at = order[is_step[order]]
    if len(at):
        ids, first = np.unique(rows.id[at], return_index=True)
        names = [rows.words.names[k] for k in rows.name[at[first]].tolist()]
        ends = ids.tolist()
        return list(zip(names, [-1, *ends[:-1]], ends))  # noqa: B905 - Python 3.9
    begins, range_ends = step_bounds(rows)
    pairs = zip(begins.tolist(), np.sort(range_ends).tolist())  # noqa: B905 - Python 3.9
    return [(str(k + 1), begin, end) for k, (begin, end) in enumerate(pairs)]


def step_of(begins: IntArray, ids: IntArray) -> IntArray:
    """Return the step in which each ID is; 0 before the first."""
    found: IntArray = np.searchsorted(begins, ids, side="right")
    return found


def find_step_leaks(
    rows: Rows, *, skip: int = SKIP_STEPS, duration: int = DURATION_STEPS
) -> list[StepLeaks]:
    """Return the candidates of each device, by ID."""
    pools = rows.is_type(PTA, ATB, MINDSPORE) & ~rows.shadow
    found = []
    for number in rows.devices():
        # Marks belong to no device: they are in the file of every one.
        here = (rows.device == number) & pools
        marks = rows.take((rows.device == number) | ~rows.is_event(MALLOC, FREE))
        begins, ends = step_bounds(marks)
        candidates = _candidates(rows, here, (begins, ends), skip, duration)
        found.append(StepLeaks(rows.words.devices[number], len(begins), candidates))
    return found


def _candidates(
    rows: Rows, here: BoolArray, bounds: tuple[IntArray, IntArray], skip: int, duration: int
) -> list[Candidate]:
    begins, ends = bounds
    births, free_id = lives(rows, here)
    step = step_of(begins, rows.id[births])
    # The end of step s has index s - 1; the last end before the free is what saw the block last.
    seen = np.where(free_id < 0, len(ends), np.searchsorted(ends, np.maximum(free_id, 0)))
    is_one = (step > skip) & (seen - step >= duration)
    return [
        Candidate(int(births[k]), int(step[k]), int(seen[k] - step[k]), bool(free_id[k] >= 0))
        for k in np.flatnonzero(is_one).tolist()
    ]


def lives(rows: Rows, here: BoolArray) -> tuple[IntArray, IntArray]:
    """Return the rows of allocations, by ID, and the ID of the free of each; -1: it lives.

    A block ends with the next event at its address: where that is an allocation, its free is
    missing in the dump.
    """
    index = np.flatnonzero(here & rows.is_event(MALLOC, FREE))
    index = index[np.argsort(rows.id[index], kind="stable")]
    kind, address = rows.type[index], rows.address[index]
    order = np.lexsort((np.arange(len(index)), address, kind))
    follows = np.zeros(len(index), dtype=bool)
    follows[:-1] = (address[order][1:] == address[order][:-1]) & (
        kind[order][1:] == kind[order][:-1]
    )
    ended = np.full(len(index), -1, dtype=np.int64)
    after = np.roll(rows.id[index][order], -1)
    ended[order] = np.where(follows, after, -1)
    is_birth = rows.event[index] == MALLOC
    return index[is_birth], ended[is_birth]


def kernels_before(rows: Rows, births: list[int]) -> list[int]:
    """Return how many kernels of the device had been launched before each allocation."""
    is_launch = rows.is_event(KERNEL_LAUNCH) & rows.is_type("KERNEL_LAUNCH")
    found = []
    for row in births:
        ids = np.sort(rows.id[is_launch & (rows.device == rows.device[row])])
        found.append(int(np.searchsorted(ids, rows.id[row])))
    return found


def lines(rows: Rows, found: list[StepLeaks]) -> list[str]:
    """Return the lines that say what leaked, as the online analysis says it at the end."""
    shown = []
    for device in found:
        leaks = device.leaks
        if not leaks:
            continue
        shown.append(f"====== ERROR: Detected memory leaks on device {device.device} ======")
        kernels = kernels_before(rows, [leak.row for leak in leaks])
        for k, leak in enumerate(leaks):
            title = POOL_TITLES[rows.words.types[rows.type[leak.row]]]
            shown.append(
                f"Direct {title} leak of {rows.size[leak.row] / _MIB:f} Mb(s)"
                f" at 0x{int(rows.address[leak.row]):x} in kernel_{kernels[k]} at step {leak.step}."
            )
        total = sum(int(rows.size[leak.row]) for leak in leaks) / _MIB
        shown.append(f"====== SUMMARY: {total:f} Mb(s) leaked in {len(leaks)} allocation(s) ======")
    return shown
