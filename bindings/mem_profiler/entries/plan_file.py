"""The plan for an allocator inside a program, given to the program that `run` starts.

Model: the plan says which bytes of code the sampler changes, so no other process may change it. It
is a sealed memory file that the program inherits; MEM_PROFILER_PLAN=fd:N names the descriptor. The
sampler accepts nothing else (sampler/preload/plan_file.h).
"""

from __future__ import annotations

import fcntl
import os

from mem_parser.errors import MemError
from mem_profiler.entries import planning

VARIABLE = "MEM_PROFILER_PLAN"
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
# Programs expect small numbers for the files that they open themselves.
_FIRST_NUMBER = 200


def make(path: str) -> tuple[int | None, str]:
    """A descriptor of the plan for the program at `path`, which the caller closes, and a problem.

    The descriptor is None where the program needs no plan or none is possible; the problem says why
    none is possible, and is empty otherwise.
    """
    try:
        data, problem = planning.of_file(path, 0, path)
    except MemError as error:
        return None, str(error)
    return (sealed(data) if data else None), problem


def sealed(data: bytes) -> int:
    """A memory file with `data`, sealed against changes. Raises OSError."""
    fd = os.memfd_create("mem_profiler.plan", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        try:
            return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FIRST_NUMBER)
        except OSError:
            return os.dup(fd)  # the limit of descriptors is lower than that
    finally:
        os.close(fd)
