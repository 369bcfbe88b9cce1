"""Facts about files, limits and the clock that Python has no function for."""

from __future__ import annotations

import resource
import struct
import time

from mem_sandbox import syscalls

# statfs(2): file systems that a process or another machine serves.
_SERVED = {
    0x65735546: "FUSE", 0x6969: "NFS", 0xFF534D42: "CIFS", 0xFE534D42: "SMB", 0x01021997: "9P",
    0x00C36400: "CEPH", 0x5346414F: "AFS", 0x73757245: "CODA",
}  # fmt: skip
SERVED_FILE_SYSTEMS = frozenset(_SERVED.values())
_STATFS_BYTES = 256  # more than struct statfs of any architecture


def file_system_of(fd: int) -> str:
    """The kind of file system that a file is on; "" for an ordinary one.

    Such a file system can make this call wait for ever. Raises OSError.
    """
    told = syscalls.Buffer(bytes(_STATFS_BYTES))
    syscalls.call(syscalls.number_of("fstatfs"), fd, told.address)
    (kind,) = struct.unpack_from("=q", told.data)
    return _SERVED.get(kind & 0xFFFFFFFF, "")


def allow_descriptors() -> int:
    """Raise this process's limit of open files to its hard limit. Returns the old limit, which
    programs that it starts should have again.
    """
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return before


def clock_time(seconds: float) -> str:
    """A Unix time as `17:04:32`, with its date unless that is today."""
    moment = time.localtime(min(seconds, 1 << 32))  # a target may have written any number
    is_today = moment[:3] == time.localtime()[:3]
    return time.strftime("%H:%M:%S" if is_today else "%Y-%m-%d %H:%M:%S", moment)
