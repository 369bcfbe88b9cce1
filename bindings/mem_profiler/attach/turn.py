"""One attach to a process at a time: two would each put a sampler into it.

Model: a name in the abstract socket namespace, made of what tells the process apart from everywhere
(its pid namespace, its pid there, its start time). The kernel gives a name to one holder and takes
it back when the holder dies. Controllers in different network namespaces do not meet here; the
second of those is refused once the sampler of the first is mapped (`remote`).
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from mem_parser.errors import TargetBusy
from mem_profiler import procfs


@contextlib.contextmanager
def taken(pid: int) -> Iterator[None]:
    """Hold the turn for a process. Raises TargetBusy where somebody else has it."""
    facts = procfs.status(pid)
    inner = facts.inner_pid if facts is not None else pid
    name = f"mem_profiler.attach.{procfs.pidns_inode(pid)}.{inner}.{procfs.start_ticks(pid)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as holder:
        try:
            holder.bind(f"\0{name}")
        except OSError:
            raise TargetBusy(f"somebody else attaches to pid {pid} at this moment") from None
        yield
