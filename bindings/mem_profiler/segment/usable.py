"""Check that a process's sampler can be used, from its segment.

Model: captures, attaches and the doctor share these reasons. A sampler behind the program's own
malloc is unusable only until an attach redirects that malloc to it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from mem_profiler.process import procfs
from mem_profiler.segment import discovery, layout
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


def needs_attach(pid: int) -> bool:
    """Whether the sampler in a process is behind the program's own malloc.

    Raises MemError, NoSampler where there is none.
    """
    with discovery.open_process(pid, writable=False) as segment:
        return is_behind_program(segment.control())


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
