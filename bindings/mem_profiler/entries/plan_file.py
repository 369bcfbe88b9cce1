"""The plans for allocators inside a program and libraries, given to the program that `run` starts.

Model: the plan says which bytes of code the sampler changes, so no other process may change it. It
is a sealed memory file that the program inherits; MEM_PROFILER_PLAN=fd:N names the descriptor. The
sampler accepts nothing else (sampler/process/plan_file.h).

A wrapper or a start script becomes the program, or starts it. Then the file has the plans for all
programs that the command names, and MEM_PROFILER_PLAN=exec:N leaves it open for them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Sequence
from dataclasses import dataclass

from mem_parser.errors import MemError
from mem_profiler.entries import planning
from mem_sandbox.child import write_all

VARIABLE = "MEM_PROFILER_PLAN"
PLANS_MAX = 32  # MP_PLAN_FILE_PLANS_MAX
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
# Programs expect small numbers for the files that they open themselves.
_FIRST_NUMBER = 200


@dataclass(frozen=True)
class Handed:
    """The plan for a program: the descriptor of the file, which the caller closes, and the value of
    the variable. ``fd`` is None if no plan is needed or possible.
    """

    fd: int | None = None
    value: str = ""


def make(path: str, named: Sequence[str] = (), libraries: Sequence[str] = ()) -> Handed:
    """The plan for the program at `path`, or those for the programs that it may become or start;
    and those for libraries that they may open.

    Raises OSError.
    """
    data, problem = _plan(path)
    plans, word = [data], "fd"
    if not (data or problem):
        plans, word = [plan for plan, _ in map(_plan, named)], "exec" if named else "fd"
    plans = [plan for plan in plans if plan]
    with contextlib.suppress(MemError, OSError):
        plans += planning.of_own_libraries(libraries)
    if not plans:
        return Handed()
    fd = sealed(b"".join(plans[:PLANS_MAX]))
    return Handed(fd, f"{word}:{fd}")


def _plan(path: str) -> tuple[bytes, str]:
    """The plan for a program, and the reason if there is none; both may be empty."""
    try:
        return planning.of_file(path, 0, path)
    except MemError as error:
        return b"", str(error)


def sealed(data: bytes) -> int:
    """A memory file with `data`, sealed against changes. Raises OSError."""
    fd = os.memfd_create("mem_profiler.plan", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        write_all(fd, data)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        try:
            return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FIRST_NUMBER)
        except OSError:
            return os.dup(fd)  # the limit of descriptors is lower than that
    finally:
        os.close(fd)
