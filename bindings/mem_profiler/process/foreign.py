"""Open files that another user's process has mapped, without endless waits and without harm.

Model: we open a mapped file through /proc/PID/map_files, which leads to that very file and uses no
path that the process arranged; where that is not allowed, under /proc/PID/root. We open only
regular files, and refuse files on a file system that an ordinary user can serve (FUSE), or that
another machine serves: any access to them may wait for ever. Even this check may, so a child does
it and sends the descriptor.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from pathlib import Path

from mem_parser.errors import MemError, TargetUnsupported
from mem_parser.plainfile import open_plain
from mem_profiler import system
from mem_profiler.process import procfs
from mem_profiler.process.procfs import Mapping
from mem_sandbox import child

LIMIT_S = 5.0


def open_mapped(pid: int, mapping: Mapping, flags: int) -> int:
    """A descriptor of the regular file that a process has mapped. Raises OSError, MemError."""
    if not procfs.is_strange(pid):
        return _open(pid, mapping, flags)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:

        def hand_over(_asked: child.Asked) -> int | None:
            try:
                fd = _open(pid, mapping, flags)
                _refuse_served(fd, pid, mapping)
            except OSError as error:
                return error.errno
            socket.send_fds(theirs, [b"!"], [fd])
            return None

        code = child.call(hand_over, f"pid {pid}", LIMIT_S, keep=(theirs.fileno(),))
        if code is not None:
            raise OSError(int(code), os.strerror(int(code)), mapping.path)
        ours.setblocking(False)
        _, fds, _, _ = socket.recv_fds(ours, 1, 1)
    if len(fds) != 1:
        raise MemError(f"pid {pid}: the child process that reads it gave an invalid answer")
    os.set_inheritable(fds[0], False)
    return fds[0]


def _open(pid: int, mapping: Mapping, flags: int) -> int:
    fd = -1
    with contextlib.suppress(PermissionError, FileNotFoundError):
        fd = open_plain(f"/proc/{pid}/map_files/{mapping.start:x}-{mapping.end:x}", flags)
    if fd < 0:
        identity = (os.makedev(*mapping.device), mapping.inode)
        path = f"/proc/{pid}/root{mapping.path}"
        return open_plain(path, flags, follow=False, identity=identity)
    if os.fstat(fd).st_ino != mapping.inode:
        os.close(fd)
        raise OSError(errno.ESTALE, "the mapping has changed", mapping.path)
    return fd


def _refuse_served(fd: int, pid: int, mapping: Mapping) -> None:
    try:
        kind = system.file_system_of(fd)
    except OSError:  # an ordinary file system always answers
        kind = "FUSE"
    if kind in system.SERVED_FILE_SYSTEMS:
        name = Path(mapping.path).name
        raise TargetUnsupported(f"the file {name} of pid {pid} is on {kind}, which may not answer")
