"""One attach to a process at a time: two would each put a sampler into it.

Model: the lock is on /proc/PID/mem itself (flock), which only those can open who may trace the
process; so nobody else can hold it, whatever name they take anywhere. The kernel takes it back when
its holder dies. The process's own user can hold it too, and so keep others from attaching to what
is his. Controllers that see different mounts of /proc (in different pid namespaces) do not
meet here; the second of those is refused once the sampler of the first is mapped (`remote`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path

from mem_parser.errors import TargetBusy
from mem_profiler.process import procfs


@contextlib.contextmanager
def taken(pid: int) -> Iterator[None]:
    """Hold the turn for a process. Raises TargetBusy where somebody else has it, OSError."""
    fd = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _busy(pid, fd) from None
        yield
    finally:
        os.close(fd)


def _busy(pid: int, fd: int) -> TargetBusy:
    holder = _holder(os.fstat(fd).st_ino)
    who = f"pid {holder} ({procfs.comm(holder) or '?'})" if holder else "somebody else"
    return TargetBusy(f"{who} attaches to pid {pid} at this moment")


def _holder(inode: int) -> int | None:
    """Who holds a lock on that inode of /proc, as far as the kernel shows it here."""
    try:
        text = Path("/proc/locks").read_text(encoding="ascii")
    except OSError:
        return None
    found = re.search(rf"FLOCK +ADVISORY +WRITE +(\d+) +00:[0-9a-f]+:{inode} ", text)
    return int(found[1]) or None if found else None
