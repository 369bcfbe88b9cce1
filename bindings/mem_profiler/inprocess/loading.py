"""Whether the sampler is in this process, and the environment that puts it into the next one."""

from __future__ import annotations

import os

from mem_parser.errors import MemError, TargetBusy, UsageProblem
from mem_profiler.capture import preload


def why_not() -> str:
    """Why this process cannot be captured, in one line; empty where it can."""
    # Not before: they bring numpy into a program that only wants to begin a capture.
    from mem_profiler.capture import gate
    from mem_profiler.segment import discovery

    try:
        with discovery.open_process(os.getpid(), writable=False) as segment:
            gate.check_state(segment, os.getpid())
    except MemError as error:
        return str(error)
    return ""


def is_loaded() -> bool:
    """Whether this very process has a sampler that can capture."""
    return not why_not()


def captured_by() -> str:
    """Who captures this process now, in one line; empty where it is free to capture itself."""
    from mem_profiler.capture import gate
    from mem_profiler.segment import discovery

    try:
        with discovery.open_process(os.getpid(), writable=False) as segment:
            gate.check_free(segment, os.getpid())
    except TargetBusy as error:
        return str(error)
    return ""


def environment() -> dict[str, str]:
    """This process's environment, plus the variables that put the sampler into a new program.

    Raises MemError, UsageProblem.
    """
    variables = dict(os.environ)
    library = preload.library()
    if not preload.is_one_word(library):
        raise UsageProblem(f"{library} has a space or colon in its path")
    preload.put(variables, library)
    return variables
