"""What a segment had no room for, a line each: for the list of processes and the notes of a file.

Model: a segment's size follows from the memory limit of its control group and from
MEM_PROFILER_MAX_MEMORY (sampler/process/segment_file.c). In a small one the tables fill up, and
there are no rings of events at all. A full file system stops them from growing before.
"""

from __future__ import annotations

import os

from mem_parser.sizes import short_size
from mem_profiler.segment import bound, layout
from mem_profiler.segment.collect import QuickCounts
from mem_profiler.segment.file import Control

_REFUSED = next(i for i, name in layout.LOST_NAMES.items() if name == "reserve")
_TABLES = [i for i, name in layout.LOST_NAMES.items() if name in ("live_full", "site_full")]


def no_events(control: Control) -> list[str]:
    """Why the latest capture has no events, though MEM_PROFILER_EVENTS asked for them."""
    refused = control.number("startup_flags") & layout.STARTUP_NO_EVENTS
    if not refused or control.number("capture_number") != 1:
        return []
    size, least = control.limit_bytes, layout.LIMIT_WHOLE_BYTES
    if size >= least:
        return ["no events: the file system of the segment had no room for them"]
    sizes = f"a segment of {short_size(least)}, this one has {short_size(size)}"
    return [f"no events: they need {sizes} ({bound.VARIABLE})"]


def full_tables(control: Control, counts: QuickCounts, path: str) -> list[str]:
    """What the latest capture loses because its tables are full, or cannot grow in the file system
    of the segment at ``path``.
    """
    lost = sum(int(control["lost"][i]) for i in _TABLES)
    losses = []
    if counts.without_room:
        losses.append(f"{counts.without_room:,} of {counts.samples:,} samples without a stack")
    if lost:
        losses.append(f"{lost:,} lost")
    if not losses:
        return []
    full, cure = "tables full", f"a coarser rate, or a larger {bound.VARIABLE}, keeps them"
    if control["lost"][_REFUSED]:
        full = f"no room left in {os.path.dirname(os.path.dirname(path))}"  # above the user's
        cure = "free some, or name a larger MEM_PROFILER_DIR"
    return [f"{full}: {', '.join(losses)}; {cure}"]
