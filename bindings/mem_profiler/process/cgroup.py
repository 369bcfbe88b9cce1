"""Memory that a process's control groups allow, and use.

Model: a process is in one group of the unified hierarchy (v2) and, on older or hybrid systems, in
one of the memory controller's (v1). A limit holds for all groups below it, so the smallest on the
way to the root counts. In a container the group's path may not exist below the mount; the groups
above it do. The use of a group is that of all its processes, without the file pages that the kernel
drops first (Kubernetes' working set).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = Path("/sys/fs/cgroup")
_TEXT_MAX_BYTES = 1 << 16
_NO_LIMIT_BYTES = 1 << 60  # v1 writes a number near 2^63 for "none"


@dataclass(frozen=True)
class _Files:
    """Names of a group's files, and of the file pages in `memory.stat` that go first."""

    limit: str
    used: str
    inactive: str


_UNIFIED = _Files("memory.max", "memory.current", "inactive_file")
_OLDER = _Files("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


@dataclass(frozen=True)
class Use:
    """The limit of a group, and what its processes use of it; None: unknown."""

    limit_bytes: int
    used_bytes: int | None


def limit_bytes(pid: int | str, root: Path = ROOT, proc: Path = Path("/proc")) -> int | None:
    """The smallest known memory limit of a process; None: no known limit."""
    return min((limit for limit, _, _ in _limits(pid, root, proc)), default=None)


def use(pid: int | str, root: Path = ROOT, proc: Path = Path("/proc")) -> Use | None:
    """The group with the smallest known limit of a process; None: no known limit. Of several with
    that limit it is the outermost, whose use includes the others'. None also outside of our own
    groups ("/.."), whose use would be another container's.
    """
    if "/.." in _read(proc / str(pid) / "cgroup"):
        return None
    found = min(_limits(pid, root, proc), key=lambda one: one[0], default=None)
    return None if found is None else Use(found[0], _used(found[1], found[2]))


def _limits(pid: int | str, root: Path, proc: Path) -> Iterator[tuple[int, Path, _Files]]:
    for folder, files in _groups(_read(proc / str(pid) / "cgroup"), root):
        limit = _number(folder / files.limit)
        if limit is not None and limit < _NO_LIMIT_BYTES:
            yield limit, folder, files


def _used(folder: Path, files: _Files) -> int | None:
    used = _number(folder / files.used)
    if used is None:
        return None
    dropped = re.search(rf"^{files.inactive} (\d+)$", _read(folder / "memory.stat"), re.MULTILINE)
    return max(used - int(dropped[1]), 0) if dropped else used


def _groups(text: str, root: Path) -> Iterator[tuple[Path, _Files]]:
    """(folder, its files) for every group of the process, and all groups above these: the outermost
    first.
    """
    for line in text.split("\n"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            for mount in (root, root / "unified"):
                yield from ((folder, _UNIFIED) for folder in _upwards(mount, path))
        elif "memory" in controllers.split(","):
            folders = _upwards(root / "memory", path)
            yield from ((folder, _OLDER) for folder in folders)


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    parts = [part for part in PurePosixPath(path).parts if part not in ("/", "..")]
    for length in range(len(parts) + 1):
        yield mount.joinpath(*parts[:length])


def _number(path: Path) -> int | None:
    text = _read(path).strip()
    return int(text) if text.isascii() and text.isdigit() else None


def _read(path: Path) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError):
        return ""
    try:
        return os.read(fd, _TEXT_MAX_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
    finally:
        os.close(fd)


def unit_of(pid: int | str, proc: Path = Path("/proc")) -> str:
    """The control group of a process's systemd service or container; empty where it is in one that
    unrelated processes share: the root, a session, a slice.
    """
    for line in _read(proc / str(pid) / "cgroup").split("\n"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        named = (number == "0" and not controllers) or controllers == "name=systemd"
        of_one = path.endswith(".service") or path.split("/")[-1].startswith("docker-")
        if named and of_one:
            return path
    return ""
