"""Find processes by name.

A name matches the process's own name (comm) or its program's file. The command line is not used:
the kernel reads it from the process's memory, and such a read may block forever.
"""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass

from mem_parser import sudo
from mem_parser.errors import nearest
from mem_profiler.process import procfs

COMM_MAX_BYTES = 15  # the kernel keeps this much of a name


@dataclass(frozen=True)
class Named:
    """A process of a name. `uid` is its real user; it started `started_s` after the boot."""

    pid: int
    uid: int
    started_s: float

    @property
    def is_own(self) -> bool:
        """Whether it is a process of this user, or of the one who ran sudo."""
        user = sudo.caller()
        return self.uid in {os.geteuid(), user.uid if user else -1}

    @property
    def age_s(self) -> float:
        """The time since its start."""
        return max(time.clock_gettime(time.CLOCK_BOOTTIME) - self.started_s, 0.0)


def find(name: str) -> list[Named]:
    """All visible processes of that name but this one and kernel threads: those of this user, and
    of who ran sudo, come first, and of each the newest.
    """
    cut = os.fsencode(name)[:COMM_MAX_BYTES].decode("utf-8", "replace")
    found = (
        _facts(pid) for pid in procfs.pids() if pid != os.getpid() and _is_called(pid, name, cut)
    )
    return sorted(
        (one for one in found if one is not None),
        key=lambda one: (not one.is_own, -one.started_s, -one.pid),
    )


def names() -> set[str]:
    """The names of all programs of this user that run."""
    return {
        procfs.comm(pid)
        for pid in procfs.pids()
        if pid != os.getpid() and procfs.exe(pid) is not None
    }


def near(name: str) -> str | None:
    """A hint at programs that run and may be meant: ``name`` is a slip of theirs, or a link to
    one's file, as `mysqld` is to `mariadbd`.
    """
    known, found = names(), shutil.which(name)
    linked = os.path.basename(os.path.realpath(found or name))[:COMM_MAX_BYTES]
    return f"did you mean {linked}?" if linked in known else nearest(name, known)


def _is_called(pid: int, name: str, cut: str) -> bool:
    exe = procfs.exe(pid)
    if exe is not None and os.path.basename(exe) == name:
        return True
    return procfs.comm(pid) == cut


def _facts(pid: int) -> Named | None:
    facts, ticks = procfs.status(pid), procfs.start_ticks(pid)
    if facts is None or not facts.uids or ticks is None or procfs.is_gone(pid):
        return None
    if not facts.sizes.get("VmSize"):
        return None
    return Named(pid, facts.uids[0], ticks / os.sysconf("SC_CLK_TCK"))
