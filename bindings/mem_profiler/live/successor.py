"""Find the successor of a process that has ended: a restarted service.

Model: `Identity.of` records, while a process lives, what survives a restart: user, program file,
command line, control group, parent. `find` looks for processes of the same user and program that
started later, of the same unit or with the same command line: first one that started after the end.
One from before the end may be that of a restart without a gap, but is none where it is a sibling:
the other workers of a server. A process that this user may not read is none.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from mem_profiler.process import cgroup, procfs

_DELETED = " (deleted)"


@dataclass(frozen=True)
class Identity:
    """The identity of a process. `group` is empty if it shares its control group."""

    pid: int
    uid: int
    started_ticks: int
    exe: str
    arguments: tuple[str, ...]
    group: str
    parent: int

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """The identity of a running process; None where it is gone, or may not be read."""
        facts, ticks, exe = procfs.status(pid), procfs.start_ticks(pid), procfs.exe(pid)
        if facts is None or not facts.uids or ticks is None or exe is None or procfs.is_gone(pid):
            return None
        arguments = tuple(procfs.arguments(pid))
        # A package that was updated has replaced the file.
        program = exe.removesuffix(_DELETED)
        return cls(
            pid, facts.uids[0], ticks, program, arguments, cgroup.unit_of(pid), procfs.parent(pid)
        )


def find(ended: Identity, seen_s: float) -> list[int]:
    """The pid of the successor; empty while there is none. ``seen_s``: when the process was last
    seen alive, since the boot. Of several that started after that, the one of its parent, else the
    first, which is mostly the parent of the others; of several from before, all: nobody knows.
    """
    later = sorted(_later(ended), key=lambda one: (one.started_ticks, one.pid))
    same = [one for one in later if ended.group and one.group == ended.group]
    same += [one for one in later if one.arguments == ended.arguments and one not in same]
    seen_ticks = int(seen_s * os.sysconf("SC_CLK_TCK"))
    after = [one for one in same if one.started_ticks >= seen_ticks]
    if after:
        mine = [one for one in after if one.parent == ended.parent]
        return [(mine or after)[0].pid]
    return [one.pid for one in same if one.parent != ended.parent]


def _later(ended: Identity) -> Iterator[Identity]:
    """Processes of the same user and program that were started later."""
    for pid in procfs.pids():
        if pid in (ended.pid, os.getpid()):
            continue
        ticks, exe = procfs.start_ticks(pid), procfs.exe(pid)
        if ticks is None or ticks < ended.started_ticks or exe is None:
            continue
        if exe.removesuffix(_DELETED) != ended.exe:
            continue
        found = Identity.of(pid)
        if found is not None and found.uid == ended.uid:
            yield found
