"""Steps of a training, and blocks that outlive the step after the one that made them.

Steps are numbered from 1. A call of `step()` ends step n, which its row names, and begins step
n + 1; the first of them begins with the dump. Or a step is a range of the program named
`step start`. A dump that has both has the steps of the calls.

At the end of step s every live block of a pool, or of the host, is a candidate if its step a is
behind the warm-up (a > ``skip``) and s - a >= ``duration``. A block from before the first row of a
step has step 0; one from behind a range, and before the next, has that range's step. A candidate
that is freed later is none any more, but for frees behind the last step: at its end a program frees
what it kept all the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mem_parser.interning import next_equal, previous_equal
from mem_parser.memscope.form import (
    ATB,
    FREE,
    HOST_TYPE,
    KERNEL_LAUNCH,
    MALLOC,
    MINDSPORE,
    MSTX,
    NOTHING,
    PTA,
    STEP_TITLES,
    SYSTEM,
)
from mem_parser.memscope.rows import BoolArray, IntArray, Rows

STEP_MESSAGE = "step start"
SKIP_STEPS = 1
DURATION_STEPS = 1
_MIB = 1 << 20
_NUMBER_CHARS = 18


class Candidate(NamedTuple):
    """A block that outlived a step. ``row`` is that of its allocation."""

    row: int
    step: int
    seen_steps: int
    """For how many steps it had lasted at the last end of a step that saw it."""
    freed: bool
    """Before the last step ended."""


class StepLeaks(NamedTuple):
    """Findings on a device."""

    device: str
    steps: int
    """Steps that ended."""
    candidates: list[Candidate]

    @property
    def leaks(self) -> list[Candidate]:
        """Those that were never freed."""
        return [one for one in self.candidates if not one.freed]


class Step(NamedTuple):
    """A step, by IDs of rows."""

    name: str
    number: int
    begin: int
    """The row behind which it begins; -1: it began with the dump."""
    end: int | None
    """The row with which it ends; None: the dump ends in it."""


def steps_of(rows: Rows, device: int | None = None) -> list[Step]:
    """Return the steps, in order: those that the rows of a device tell, given by its number in
    `words.devices`, or else, and where it has none, those that all rows tell.

    Rows that belong to no device are of every one.
    """
    is_call = rows.is_event(SYSTEM) & rows.is_type("STEP")
    named = np.array([*(name == STEP_MESSAGE for name in rows.words.names), False], dtype=bool)
    is_range = rows.is_event(MSTX) & named[rows.name]
    is_start, is_end = (is_range & rows.is_type(f"RANGE_{word}") for word in ("START", "END"))
    if device is not None:
        nobody = [k for k, word in enumerate(rows.words.devices) if word == NOTHING]
        mine = np.isin(rows.device, [device, *nobody])
        if (mine & (is_call | is_start)).any():
            is_call, is_start, is_end = is_call & mine, is_start & mine, is_end & mine
    if is_call.any():
        ids, first = np.unique(rows.id[is_call], return_index=True)
        at = np.flatnonzero(is_call)[first]
        names = [rows.words.names[k] for k in rows.name[at].tolist()]
        return _of_calls(ids.tolist(), names)
    return _of_ranges(np.unique(rows.id[is_start]), np.unique(rows.id[is_end]))


def _of_calls(ids: Sequence[int], names: Sequence[str]) -> list[Step]:
    found: list[Step] = []
    begin, number = -1, 0
    for end, name in zip(ids, names):  # noqa: B905 - Python 3.9
        is_number = name.isascii() and name.isdigit() and len(name) < _NUMBER_CHARS
        number = int(name) if is_number else number + 1
        found.append(Step(name, number, begin, end))
        begin = end
    return [*found, Step(str(number + 1), number + 1, begin, None)]


def _of_ranges(begins: IntArray, ends: IntArray) -> list[Step]:
    """Return ranges as steps: one ends with the first end behind its begin, or where there are no
    ends with the next one's begin.
    """
    stops = ends if len(ends) else begins
    where = np.searchsorted(stops, begins, side="right")
    return [
        Step(str(k + 1), k + 1, begin, int(stops[place]) if place < len(stops) else None)
        for k, (begin, place) in enumerate(zip(begins.tolist(), where.tolist()))  # noqa: B905
    ]


def ended(steps: Sequence[Step]) -> list[tuple[Step, int]]:
    """Return the steps that end, with their ends."""
    return [(step, step.end) for step in steps if step.end is not None]


def find_step_leaks(
    rows: Rows, *, skip: int = SKIP_STEPS, duration: int = DURATION_STEPS
) -> list[StepLeaks]:
    """Return the candidates of each device, by ID."""
    # What the end of a collection frees was never freed. A block from before a window ends the one
    # at its address.
    pools = rows.is_type(PTA, ATB, MINDSPORE, HOST_TYPE) & ~(rows.shadow & rows.is_event(FREE))
    found = []
    for number in rows.devices():
        here = (rows.device == number) & pools
        steps = steps_of(rows, number)
        candidates = _candidates(rows, here, steps, skip, duration)
        found.append(StepLeaks(rows.words.devices[number], len(ended(steps)), candidates))
    return found


def _candidates(
    rows: Rows, here: BoolArray, steps: Sequence[Step], skip: int, duration: int
) -> list[Candidate]:
    births, free_id = lives(rows, here)
    begun = [step for step in steps if step.begin >= 0]
    step = _numbered([(one.begin, one.number) for one in begun], rows.id[births])
    # The last end before the free is what saw the block last.
    last = np.where(free_id < 0, np.iinfo(np.int64).max, free_id)
    seen = _numbered([(end, one.number) for one, end in ended(steps)], last)
    last_end = max((end for _, end in ended(steps)), default=-1)
    is_freed = (free_id >= 0) & (free_id < last_end)
    is_one = (step > skip) & (seen - step >= duration) & ~rows.shadow[births]
    return [
        Candidate(int(births[k]), int(step[k]), int(seen[k] - step[k]), bool(is_freed[k]))
        for k in np.flatnonzero(is_one).tolist()
    ]


def _numbered(bounds: Sequence[tuple[int, int]], ids: IntArray) -> IntArray:
    """Return the number of the last bound before each ID; 0 before the first."""
    at = np.array([place for place, _ in bounds], dtype=np.int64)
    numbers = np.array([0, *(number for _, number in bounds)], dtype=np.int64)
    found: IntArray = numbers[np.searchsorted(at, ids)]
    return found


def lives(rows: Rows, here: BoolArray) -> tuple[IntArray, IntArray]:
    """Return the rows of allocations, by ID, and the ID of the free of each; -1: it lives.

    A block ends with the next event of its process, device and pool at its address: where that is
    an allocation, its free is missing in the dump.
    """
    index = np.flatnonzero(here & rows.is_event(MALLOC, FREE))
    index = index[np.argsort(rows.id[index], kind="stable")]
    places = (rows.address, rows.type, rows.device, rows.pid)
    after = next_equal(previous_equal(*(column[index] for column in places)))
    ended = np.where(after >= 0, rows.id[index][after], -1)
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
            title = STEP_TITLES[rows.words.types[rows.type[leak.row]]]
            shown.append(
                f"Direct {title} leak of {rows.size[leak.row] / _MIB:f} Mb(s)"
                f" at 0x{int(rows.address[leak.row]):x} in kernel_{kernels[k]} at step {leak.step}."
            )
        total = sum(int(rows.size[leak.row]) for leak in leaks) / _MIB
        shown.append(f"====== SUMMARY: {total:g} Mb(s) leaked in {len(leaks)} allocation(s) ======")
    return shown
