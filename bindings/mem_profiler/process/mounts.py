"""File systems that a process sees and we do not: they end with its mount namespace.

A container's own /dev/shm is one; a volume is not, because the host has mounted it too.
"""

from __future__ import annotations

import os

from mem_profiler.process import procfs

_IN_MEMORY = {b"tmpfs", b"ramfs"}


def ends_with_namespace(pid: int, device: int) -> bool:
    """Whether a device (`st_dev`) is a file system in memory that is mounted for a process and not
    for us. False where that cannot be read.
    """
    theirs, ours = _mounts(pid), _mounts("self")
    name = f"{os.major(device)}:{os.minor(device)}".encode()
    kinds = {kind for kind, _ in theirs.get(name, [])}
    return bool(kinds & _IN_MEMORY and ours) and name not in ours


def points() -> dict[bytes, list[str]]:
    """Where file systems are mounted for us, by device, but those that a program serves (FUSE)."""
    return {
        device: [os.fsdecode(point) for kind, point in found if not kind.startswith(b"fuse")]
        for device, found in _mounts("self").items()
    }


def _mounts(pid: int | str) -> dict[bytes, list[tuple[bytes, bytes]]]:
    """Types and places of the mounted file systems, by device."""
    found: dict[bytes, list[tuple[bytes, bytes]]] = {}
    try:
        lines = procfs.bounded(f"/proc/{pid}/mountinfo").splitlines()
    except OSError:
        return found
    for line in lines:
        # ID PARENT DEVICE ROOT POINT OPTIONS [FIELD...] - TYPE SOURCE OPTIONS
        words, _, after = line.partition(b" - ")
        parts, kind = words.split(), after.split()
        if len(parts) > 4 and kind:
            found.setdefault(parts[2], []).append((kind[0], parts[4]))
    return found
