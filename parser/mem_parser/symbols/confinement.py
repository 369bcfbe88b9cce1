"""Take from this process the rights that reading a foreign file does not need, before it reads one.

The readers of ELF files, debug information and mangled names are partly native code. A file that
breaks them must end only the process that reads: it has bounded memory, time and files, leaves no
core, cannot gain rights by a program it starts, and ends with its parent.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import resource
import signal

LARGEST_MEMORY_BYTES = 16 << 30
MEMORY_FLOOR_BYTES = 1 << 30
"""What libraries take by themselves, and small files that are honest."""
LARGEST_FILE_BYTES = 1 << 30
_SET_PARENT_DEATH_SIGNAL, _SET_NO_NEW_PRIVILEGES = 1, 38  # linux/prctl.h


def confine(parent: int) -> None:
    """Bound what this process may write, leave behind and gain; it ends when ``parent`` does."""
    _limit(resource.RLIMIT_CORE, 0, hard=True)
    _limit(resource.RLIMIT_FSIZE, LARGEST_FILE_BYTES, hard=True)
    with contextlib.suppress(OSError, AttributeError):
        prctl = ctypes.CDLL(None).prctl
        prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
        prctl(_SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # the parent ended before prctl took effect
        os._exit(1)


def limit_memory(size_bytes: int) -> None:
    """Limit this process to so much more address space, at most LARGEST_MEMORY_BYTES more."""
    with open("/proc/self/statm", encoding="ascii") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    _limit(resource.RLIMIT_AS, now + min(size_bytes, LARGEST_MEMORY_BYTES))


def limit_time(seconds: float) -> None:
    """Limit this process to so much more CPU time; SIGXCPU ends it then."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _limit(resource.RLIMIT_CPU, math.ceil(used.ru_utime + used.ru_stime + seconds) + 1)


def _limit(which: int, wanted: int, *, hard: bool = False) -> None:
    _, highest = resource.getrlimit(which)
    if highest != resource.RLIM_INFINITY:
        wanted = min(wanted, highest)
    resource.setrlimit(which, (wanted, wanted if hard else highest))
