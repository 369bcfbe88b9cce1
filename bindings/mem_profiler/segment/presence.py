"""Does a living process still write to an open segment?

Model: an exec takes the segment out of the process with everything else, and leaves its state
unchanged. A detach writes into the segment that the sampler has ended, and unmaps it afterwards.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Sequence

from mem_parser.errors import MemError
from mem_profiler.process import procfs
from mem_profiler.segment import layout
from mem_profiler.segment.file import Control


class Left(enum.StrEnum):
    """The reasons, as shown to a viewer."""

    EXEC = "it started another program (exec)"
    DETACHED = "its sampler was taken out (mem_profiler detach)"


def left(pid: int, control: Control) -> Left | None:
    """Why a process no longer has the segment of ``control``; None if it has, or is gone."""
    try:
        raw = procfs.raw_maps(pid)
    except PermissionError:
        return Left.EXEC  # only a program with other rights can hide a mapping seen before
    if not raw or _is_mapped(raw, control.identity.encode()):
        return None
    is_over = control.number("state") == layout.STATE_EXITED
    return Left.DETACHED if is_over else Left.EXEC


def _is_mapped(raw: bytes, name: bytes) -> bool:
    """Whether maps list a file of that name, even a deleted one."""
    return b"/%s\n" % name in raw or b"/%s (deleted)\n" % name in raw


def open_of(
    pid: int, control: Control, kinds: Sequence[Callable[[int], int]]
) -> tuple[list[int], list[str]] | None:
    """Descriptors of a process's files, which the caller closes, up to the first that cannot be
    opened, and why that is; None where the process has the segment of ``control`` no longer.
    """
    opened: list[int] = []
    notes: list[str] = []
    for kind in kinds:
        try:
            opened.append(kind(pid))
        except MemError as error:
            notes.append(str(error))
            break
    if not opened or left(pid, control) is None:
        return opened, notes
    for fd in opened:  # of another program
        os.close(fd)
    return None
