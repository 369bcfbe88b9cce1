"""Check that a process's sampler can be used, from its segment.

Model: captures, attaches and the doctor share these reasons. A sampler behind the program's own
malloc is unusable only until an attach redirects that malloc to it; one beside an allocator of the
program under other names (jemalloc with a prefix) misses its blocks until then.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from mem_profiler.process import procfs
from mem_profiler.segment import layout
from mem_profiler.segment.file import Control

_LIBRARY = "libmem_sampler.so"
_SHADOW_MAX_BYTES = 199  # of the path that the sampler names; it cuts a longer one


@dataclass(frozen=True)
class Obstacle:
    """Why no capture can begin, in one line without the process, and the cure."""

    text: str
    cure: str = ""


def is_behind_program(control: Control) -> bool:
    """Whether the program's own malloc is before the sampler: an attach can redirect it."""
    program, first = os.fsencode(control.text("exe")), os.fsencode(control.text("state_text"))
    is_first = bool(program) and first == program[:_SHADOW_MAX_BYTES]
    return control.number("state") == layout.STATE_SHADOWED and is_first


def sees_inside(control: Control) -> bool:
    """Whether an allocator inside the program, if it has one, leads to the sampler."""
    return bool(control.number("startup_flags") & layout.STARTUP_ENTRIES)


def may_be_beside_program(control: Control) -> bool:
    """Whether the sampler sees the C library's allocator, but not one inside the program, if it has
    one: an attach can redirect that while no capture runs.
    """
    return control.number("state") == layout.STATE_READY and not sees_inside(control)


def is_captured(control: Control, pid: int) -> bool:
    """Whether a capture of the process runs."""
    return control.running(time.monotonic_ns() + procfs.clock_offset_ns(pid))


def captured_hint(pid: int | str) -> str:
    """What can be done while a capture of another runs."""
    return f"mem_profiler snapshot {pid} writes what it has, mem_profiler stop {pid} ends it"


def obstacle(control: Control, pid: int) -> Obstacle | None:
    """Why the segment allows no capture; None if it does, or is not ready yet."""
    state, why = control.number("state"), control.text("state_text")
    if is_behind_program(control):
        return Obstacle(
            f"the sampler is behind the malloc of the program itself ({why})",
            f"mem_profiler attach {pid} leads it to the sampler",
        )
    if state == layout.STATE_SHADOWED:
        return Obstacle(
            f"the sampler is shadowed by {why}, which gets the calls of malloc first",
            f'start the program with LD_PRELOAD="{_library(pid)} {why}"',
        )
    if state == layout.STATE_REFUSED:
        return Obstacle(f"cannot be captured: {why}")
    return None


def _library(pid: int) -> str:
    """The sampler's file, as the process names it."""
    try:
        paths = {mapping.path for mapping in procfs.maps(pid)}
    except PermissionError:
        paths = set()
    named = [path for path in paths if os.path.basename(path) == _LIBRARY]
    return named[0] if named else _LIBRARY
