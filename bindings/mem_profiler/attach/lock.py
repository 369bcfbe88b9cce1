"""One attach to a process at a time: two would each put a sampler into it.

Model: the lock is on /proc/PID/mem itself (flock), which only a process that may trace the target
can open; so no other process can hold the lock. The kernel frees it when its holder dies. The
target's own user can hold it too, and so keep others from attaching to its process. Controllers
with different mounts of /proc (in different pid namespaces) do not share this lock; `remote`
refuses the second of those once the sampler of the first is mapped.
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
def held(pid: int) -> Iterator[None]:
    """Hold the lock for a process. Raises TargetBusy where another process has it, OSError."""
    fd = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _busy(pid, fd) from None
        yield
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)  # which children that were forked meanwhile share
        os.close(fd)


def _busy(pid: int, fd: int) -> TargetBusy:
    holder = _holder(os.fstat(fd).st_ino)
    who = f"pid {holder} ({procfs.program_name(holder) or '?'})" if holder else "another process"
    return TargetBusy(f"{who} is attaching to pid {pid} now", hint="try again")


def _holder(inode: int) -> int | None:
    """Pid of the holder of a lock on that inode of /proc, where the kernel shows it."""
    try:
        text = Path("/proc/locks").read_text(encoding="ascii")
    except OSError:
        return None
    found = re.search(rf"FLOCK +ADVISORY +WRITE +(\d+) +00:[0-9a-f]+:{inode} ", text)
    return int(found[1]) or None if found else None
