"""Is there room for what a capture needs: shared memory, descriptors, address space."""

from __future__ import annotations

import os
import re
from pathlib import Path

from mem_profiler import folders, procfs
from mem_profiler.doctor.findings import Finding

_WANTED_BYTES = 256 << 20  # the bound of a segment; a smaller file system only lowers it
_LITTLE_BYTES = 16 << 20
_MIB = 1 << 20
_READ_ONLY = 1  # ST_RDONLY


def _amount(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB" if size >= 1 << 30 else f"{size / _MIB:.1f} MiB"


def shared_memory(pid: int | None) -> list[Finding]:
    """The folder in which the segment will lie, as the process sees it (``pid`` None: as we do)."""
    folder = str(folders.segment_dir())
    seen = folder if pid is None else f"/proc/{pid}/root{folder}"
    try:
        room = os.statvfs(seen)
    except OSError as error:
        text = f"{folder} cannot be used: {error.strerror}"
        return [Finding("shm", "blocker", text, "set MEM_PROFILER_DIR to a folder that exists")]
    free = room.f_bavail * room.f_frsize
    if room.f_flag & _READ_ONLY:
        cure = "set MEM_PROFILER_DIR to a writable folder"
        return [Finding("shm", "blocker", f"{folder} is mounted read-only", cure)]
    if free < _MIB:
        return [
            Finding("shm", "blocker", f"{folder} is full", "make room; docker: --shm-size=256m")
        ]
    if free < _LITTLE_BYTES:
        text = f"{folder}: {_amount(free)} free, so only few stacks fit"
        return [Finding("shm", "warning", text, "docker: --shm-size=256m")]
    note = "" if free // 4 >= _WANTED_BYTES else f"; a capture may take {_amount(free // 4)}"
    return [Finding("shm", "ok", f"{folder}: {_amount(free)} free{note}")]


def limits(pid: int) -> list[Finding]:
    """Resource limits of the process that attaching meets: open files and address space."""
    try:
        text = Path(f"/proc/{pid}/limits").read_text(encoding="ascii", errors="replace")
        used = len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return []
    findings = []
    files = _soft(text, "Max open files")
    if files is not None and used + 2 > files:
        cure = f"prlimit --nofile={files + 64} --pid {pid}"
        findings.append(Finding("files", "blocker", f"no descriptor is free ({used})", cure))
    space = _soft(text, "Max address space")
    facts = procfs.status(pid)
    taken = facts.sizes.get("VmSize", 0) if facts else 0
    if space is not None and space - taken < _WANTED_BYTES:
        cure = f"prlimit --as=unlimited --pid {pid}"
        text = f"only {_amount(max(space - taken, 0))} of its address space limit are left"
        findings.append(Finding("address_space", "warning", text, cure))
    return findings


def _soft(text: str, name: str) -> int | None:
    found = re.search(rf"^{name}\s+(\d+)", text, re.MULTILINE)
    return int(found[1]) if found else None
