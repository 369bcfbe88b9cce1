"""The evidence for a verdict in words: how old blocks are, how many stay, when growth ended."""

from __future__ import annotations

import math

import numpy as np

from mem_parser.errors import one_line
from mem_parser.frames import native_below
from mem_parser.leaks.ages import Timeline
from mem_parser.leaks.observed import survived
from mem_parser.leaks.survivors import Group
from mem_parser.leaks.watch import time_text
from mem_parser.units import format_bytes
from mem_parser.words import joined, phrase


def leak_text(group: Group, times: Timeline) -> str:
    """Say how old a leak's blocks are, how many stay, and whose they may be."""
    born = float(group.births[times.mature].sum())
    kept = survived(group, times.mature)
    freed = max(born - kept, 0.0)
    old = times.duration_s - group.oldest_s
    what = phrase("none freed")
    if freed:
        what = phrase("{share} never freed", share=percent(kept / born))
    if kept < born / 2:  # "7 % never freed" reads as the opposite
        what = phrase("a steady part is never freed")
    if math.isfinite(old):
        what = phrase("oldest block {age}, {what}", age=time_text(old), what=what)
    return joined(phrase("; "), filter(None, [what, _who_allocates(group)]))


def _who_allocates(group: Group) -> str:
    """Say which native function allocates for a function of Python's, or that another line of
    Python may hold the blocks: where CPython recycles blocks as large as these.
    """
    if not group.frames or not group.frames[0].python:
        return ""
    below = native_below(group.frames, group.inner)
    if below is None:
        reuse = phrase("another line may hold them: CPython reuses freed dicts, lists and floats")
        return reuse if group.is_recycled else ""
    place = below.spot or ("" if below.build_id else below.module.rpartition("/")[2])
    told = one_line(", ".join(filter(None, [below.function, place])))
    return phrase("allocated by native code: {function}", function=told)


def full_at(group: Group, times: Timeline) -> int:
    """Return the bucket by which nine tenths of the blocks that are no longer young existed."""
    filled = np.cumsum(np.where(times.mature, group.bytes_by_bucket, 0.0))
    return min(int(np.searchsorted(filled, 0.9 * filled[-1])), len(filled) - 1)


def flat_text(group: Group, times: Timeline, late: float) -> str:
    """Say by when most of the memory was in use."""
    by = full_at(group, times)
    grown = format_bytes(float(group.bytes_by_bucket[: by + 1].sum()))
    when = time_text(float(times.end[by]))
    since = phrase("nearly flat since") if late else phrase("flat since")
    return phrase("grew to {size} in the first {time}, {since}", size=grown, time=when, since=since)


def percent(share: float) -> str:
    """Return a share of blocks as text, small ones with two digits."""
    return f"{100 * share:.0f} %" if share > 0.01 else f"{100 * share:.2g} %"
