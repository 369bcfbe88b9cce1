"""System calls that Python has no function for.

Numbers: the kernel's tables (asm/unistd_64.h, asm-generic/unistd.h); those from 424 on are the same
on every architecture.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import struct

_NUMBERS = {
    "prctl": (157, 167),
    "ptrace": (101, 117),
    "seccomp": (317, 277),
    "fstatfs": (138, 44),
    "capget": (125, 90),
    "capset": (126, 91),
    "getrlimit": (97, 163),
    "setrlimit": (160, 164),
}
_COLUMN = {"x86_64": 0, "aarch64": 1}
# Found here: a child without rights can load nothing any more.
_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.argtypes = [ctypes.c_long] * 6
_syscall.restype = ctypes.c_long

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38
_CAPABILITY_VERSION = 0x20080522


def number_of(name: str) -> int:
    """Return the number of a system call on this machine. Raises OSError where it is unknown."""
    column = _COLUMN.get(os.uname().machine)
    if column is None:
        raise OSError(errno.ENOSYS, f"the system call {name} is not known on this machine")
    return _NUMBERS[name][column]


def call(number: int, *arguments: int) -> int:
    """Make a system call, with up to five arguments. Raises OSError."""
    result = int(_syscall(number, *arguments, *[0] * (5 - len(arguments))))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


class Buffer:
    """Bytes at an address, as a system call reads and changes them."""

    def __init__(self, data: bytes) -> None:
        self._held = ctypes.create_string_buffer(data, len(data))

    @property
    def address(self) -> int:
        """Where they are."""
        return ctypes.addressof(self._held)

    @property
    def data(self) -> bytes:
        """The present values."""
        return self._held.raw


def prctl(option: int, value: int) -> None:
    """Set an option of this process to a value. Raises OSError."""
    call(number_of("prctl"), option, value)


def lower_limit(which: int, wanted: int) -> None:
    """Set a soft limit of this process, at most the hard one. Raises OSError.

    The library's own function is a call that can change other processes, which confined ones lack.
    """
    held = Buffer(bytes(16))
    call(number_of("getrlimit"), which, held.address)
    _, hard = struct.unpack("=QQ", held.data)
    held = Buffer(struct.pack("=QQ", min(wanted, hard), hard))
    call(number_of("setrlimit"), which, held.address)


def has_capabilities() -> bool:
    """Tell whether this thread has any right of root's. Raises OSError."""
    low, _, _, high, _, _ = _capabilities()[1]
    return bool(low or high)


def _capabilities() -> tuple[Buffer, tuple[int, ...]]:
    head, data = Buffer(struct.pack("=Ii", _CAPABILITY_VERSION, 0)), Buffer(bytes(24))
    call(number_of("capget"), head.address, data.address)
    return head, struct.unpack("=6I", data.data)


def keep_capabilities(mask: int) -> None:
    """Drop the other capabilities, if there are any. Raises OSError."""
    head, had = _capabilities()
    low, high = mask & 0xFFFFFFFF, mask >> 32
    wanted = (low, low, 0, high, high, 0)
    kept = Buffer(struct.pack("=6I", *(a & b for a, b in zip(had, wanted, strict=True))))
    call(number_of("capset"), head.address, kept.address)


def die_with_parent(parent: int) -> None:
    """Make the kernel end this process, a new child of `parent`, when the parent ends.

    Call it again after a change of the user, which makes the kernel forget it.
    """
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
