"""Is there enough for a capture: shared memory, descriptors, address space, file sizes."""

from __future__ import annotations

import os
import re
import resource
import stat
from pathlib import Path

from mem_parser.errors import MemError
from mem_profiler.doctor import inside
from mem_profiler.doctor.findings import Finding
from mem_profiler.process import procfs
from mem_profiler.segment import bound, discovery, folders, layout

_WANTED_BYTES = 256 << 20  # the bound of a segment; a smaller file system only lowers it
_LITTLE_BYTES = 16 << 20
_MIB = 1 << 20
_READ_ONLY = 1  # ST_RDONLY
_OTHERS = 0o077


def _amount(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB" if size >= 1 << 30 else f"{size / _MIB:.1f} MiB"


def shared_memory(pid: int | None) -> list[Finding]:
    """The folder of the segment that the process has or gets, as it sees it (``pid`` None: as we
    do).
    """
    own = None if pid is None else _own(pid)
    path = str(folders.segment_dir()) if own is None else own[0]
    try:
        with inside.folder(pid, path) as folder:
            room = os.fstatvfs(folder)
            free = room.f_bavail * room.f_frsize
            most = min(max(free // 4, layout.LIMIT_WHOLE_BYTES), bound.of_process(pid))
            found = _room(path, room, most if own is None else own[1])
            return [found, *_taken(pid, path, folder)]
    except OSError as error:
        text = f"{path} cannot be used: {error.strerror}"
        return [Finding("shm", "blocker", text, "set MEM_PROFILER_DIR to a folder that exists")]


def _own(pid: int) -> tuple[str, int] | None:
    """The folder above that of the segment which the process has, and the segment's bound."""
    try:
        with discovery.open_process(pid, writable=False) as segment:
            folder = os.path.dirname(segment.path)
            return os.path.dirname(folder), segment.control().limit_bytes
    except MemError:
        return None


def _room(path: str, room: os.statvfs_result, most: int) -> Finding:
    free = room.f_bavail * room.f_frsize
    if room.f_flag & _READ_ONLY:
        cure = "set MEM_PROFILER_DIR to a writable folder"
        return Finding("shm", "blocker", f"{path} is mounted read-only", cure)
    if free < _MIB:
        return Finding("shm", "blocker", f"{path} is full", "make room; docker: --shm-size=256m")
    if free < _LITTLE_BYTES:
        text = f"{path}: {_amount(free)} free, so only few stacks fit"
        return Finding("shm", "warning", text, "docker: --shm-size=256m")
    note = "" if most >= _WANTED_BYTES else f"; a capture may take {_amount(most)}"
    return Finding("shm", "ok", f"{path}: {_amount(free)} free{note}")


def _taken(pid: int | None, path: str, folder: int) -> list[Finding]:
    """Whether something not private to the user has the name of the user's own folder."""
    facts = procfs.status(pid) if pid is not None else None
    uid = os.geteuid() if pid is None else facts.uids[1] if facts and len(facts.uids) > 1 else None
    if uid is None:
        return []
    named = uid if pid is None else _inner_uid(pid, uid)
    name = f"mem_profiler.{named}"
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return []
    if status.st_uid != uid:
        what = f"belongs to uid {status.st_uid}"
    elif not stat.S_ISDIR(status.st_mode):
        what = "is no folder"
    elif status.st_mode & _OTHERS:
        what = f"is open to others (mode {stat.S_IMODE(status.st_mode):04o})"
    else:
        return []
    text = f"{path}/{name} {what}; the sampler uses another folder beside it"
    # Beside a user namespace it may be the folder of who has that number outside, in use.
    cure = "" if status.st_uid == named else f"remove {path}/{name}"
    return [Finding("shm_folder", "warning", text, cure)]


def _inner_uid(pid: int, uid: int) -> int:
    """The uid that the process itself sees: it may be in a user namespace."""
    try:
        text = Path(f"/proc/{pid}/uid_map").read_text(encoding="ascii", errors="replace")
    except OSError:
        return uid
    for words in (line.split() for line in text.splitlines()):
        if len(words) == 3 and all(word.isdigit() for word in words):
            inner, outer, count = map(int, words)
            if outer <= uid < outer + count:
                return inner + uid - outer
    return uid


def limits(pid: int) -> list[Finding]:
    """Resource limits of the process that affect a capture: open files, memory, file sizes."""
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
        left = _amount(max(space - taken, 0))
        text_left = f"it may map {left} more (ulimit -v), a 16th of that a segment: fewer stacks"
        findings.append(Finding("address_space", "warning", text_left, cure))
    cure = f"prlimit --fsize=unlimited --pid {pid}"
    return findings + _file_size(_soft(text, "Max file size"), cure)


def own_limits() -> list[Finding]:
    """The limits that a program inherits from us."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    return _file_size(None if soft == resource.RLIM_INFINITY else soft, "ulimit -f unlimited")


def _file_size(most: int | None, cure: str) -> list[Finding]:
    """The finding on the limit of file sizes: the segment is a file too."""
    if most is None or most >= _WANTED_BYTES:
        return []
    if most < _MIB:
        text = f"its files may have {most} bytes at most (ulimit -f): no segment fits"
        return [Finding("file_size", "blocker", text, cure)]
    text = f"its files may have {_amount(most)} at most (ulimit -f), a segment too: fewer stacks"
    return [Finding("file_size", "warning", text, cure)]


def _soft(text: str, name: str) -> int | None:
    found = re.search(rf"^{name}\s+(\d+)", text, re.MULTILINE)
    return int(found[1]) if found else None
