"""System calls that Python has no function for.

Numbers: the kernel's tables (asm/unistd_64.h, asm-generic/unistd.h); those from 424 on are the same
on every architecture.
"""

from __future__ import annotations

import errno
import os
import platform
import signal

from mem_profiler._core import ffi, lib

_NUMBERS = {"prctl": (157, 167), "seccomp": (317, 277)}
_COLUMN = {"x86_64": 0, "aarch64": 1}

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38


def number_of(name: str) -> int:
    """The number of a system call on this machine. Raises OSError where it is not known."""
    column = _COLUMN.get(platform.machine())
    if column is None:
        raise OSError(errno.ENOSYS, f"the system call {name} is not known on this machine")
    return _NUMBERS[name][column]


def checked(result: int) -> int:
    """A system call's result. Raises OSError for a negative one."""
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result


def prctl(option: int, value: int) -> None:
    """Ask something for this process: an option with one value. Raises OSError."""
    checked(lib.mp_syscall(number_of("prctl"), option, value, 0, 0, 0))


def address_of(buffer: object) -> int:
    """The address of a cffi buffer, as a system call takes it."""
    return int(ffi.cast("uintptr_t", buffer))


def die_with_parent() -> None:
    """Have the kernel end this process when its parent ends. For a child that was just forked."""
    parent = os.getppid()
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
