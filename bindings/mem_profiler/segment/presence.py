"""Does a living process still write to the segment that somebody has open?

Model: an exec takes the segment out of the process with everything else, and its state stays what
it was. A detach writes into the segment that the sampler has ended, and unmaps it afterwards.
"""

from __future__ import annotations

import enum

from mem_profiler.process import procfs
from mem_profiler.segment import layout
from mem_profiler.segment.file import Control


class Left(enum.StrEnum):
    """Why it does not, in words for a viewer."""

    EXEC = "it started another program (exec)"
    DETACHED = "its sampler was taken out (mem_profiler detach)"


def left(pid: int, control: Control) -> Left | None:
    """Why a process has the segment of ``control`` no longer; None: it has it, or it is gone."""
    try:
        raw = procfs.raw_maps(pid)
    except PermissionError:
        return Left.EXEC  # only a program with other rights hides what was seen before
    if not raw or _is_mapped(raw, control.identity.encode()):
        return None
    is_over = control.number("state") == layout.STATE_EXITED
    return Left.DETACHED if is_over else Left.EXEC


def _is_mapped(raw: bytes, name: bytes) -> bool:
    """Whether maps have a file of that name, which may have been removed."""
    return b"/%s\n" % name in raw or b"/%s (deleted)\n" % name in raw
