"""System calls that Python has no function for.

Numbers: the kernel's tables (asm/unistd_64.h, asm-generic/unistd.h); those from 424 on are the same
on every architecture.
"""

from __future__ import annotations

import errno
import os
import platform
import resource
import signal

from mem_profiler._core import ffi, lib

_NUMBERS = {
    "prctl": (157, 167),
    "seccomp": (317, 277),
    "fstatfs": (138, 44),
    "capget": (125, 90),
    "capset": (126, 91),
}
_COLUMN = {"x86_64": 0, "aarch64": 1}

# statfs(2): file systems that a process or another machine serves.
_SERVED = {
    0x65735546: "FUSE", 0x6969: "NFS", 0xFF534D42: "CIFS", 0xFE534D42: "SMB", 0x01021997: "9P",
    0x00C36400: "CEPH", 0x5346414F: "AFS", 0x73757245: "CODA",
}  # fmt: skip
SERVED_FILE_SYSTEMS = frozenset(_SERVED.values())
_STATFS_BYTES = 256  # more than struct statfs of any architecture

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38


def number_of(name: str) -> int:
    """The number of a system call on this machine. Raises OSError where it is unknown."""
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
    """Set an option of this process to a value. Raises OSError."""
    checked(lib.mp_syscall(number_of("prctl"), option, value, 0, 0, 0))


def address_of(buffer: object) -> int:
    """The address of a cffi buffer, as a system call takes it."""
    return int(ffi.cast("uintptr_t", buffer))


def file_system_of(fd: int) -> str:
    """The kind of file system that a file is on; "" for an ordinary one.

    Such a file system can make this call wait for ever. Raises OSError.
    """
    buffer = ffi.new("long[]", _STATFS_BYTES // ffi.sizeof("long"))
    checked(lib.mp_syscall(number_of("fstatfs"), fd, address_of(buffer), 0, 0, 0))
    return _SERVED.get(int(buffer[0]) & 0xFFFFFFFF, "")


def allow_descriptors() -> int:
    """Raise this process's limit of open files to its hard limit. Returns the old limit, which
    programs that it starts should have again.
    """
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return before


def die_with_parent(parent: int) -> None:
    """Make the kernel end this process, a new child of `parent`, when the parent ends.

    Call it again after a change of the user, which makes the kernel forget it.
    """
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
