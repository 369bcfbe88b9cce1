"""Memory that a process's control groups still allow.

Model: a process is in one group of the unified hierarchy (v2) and, on older or hybrid systems, in
one of the memory controller's (v1). A limit holds for all groups below it, so the smallest on the
way to the root counts. In a container the group's path may not exist below the mount; the groups
above it do.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path("/sys/fs/cgroup")
_TEXT_MAX_BYTES = 1 << 16
_NO_LIMIT_BYTES = 1 << 60  # v1 writes a number near 2^63 for "none"


def limit_bytes(pid: int | str, root: Path = ROOT, proc: Path = Path("/proc")) -> int | None:
    """The smallest known memory limit of a process; None: no known limit."""
    limits = [
        limit
        for folder, name in _groups(_read(proc / str(pid) / "cgroup"), root)
        if (limit := _limit(folder / name)) is not None
    ]
    return min(limits, default=None)


def _groups(text: str, root: Path) -> Iterator[tuple[Path, str]]:
    """(folder, file of its limit) for every group of the process, and all groups above these."""
    for line in text.split("\n"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            for mount in (root, root / "unified"):
                yield from ((folder, "memory.max") for folder in _upwards(mount, path))
        elif "memory" in controllers.split(","):
            folders = _upwards(root / "memory", path)
            yield from ((folder, "memory.limit_in_bytes") for folder in folders)


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    parts = [part for part in PurePosixPath(path).parts if part not in ("/", "..")]
    for length in range(len(parts), -1, -1):
        yield mount.joinpath(*parts[:length])


def _limit(path: Path) -> int | None:
    text = _read(path).strip()
    value = int(text) if text.isascii() and text.isdigit() else None
    return value if value is not None and value < _NO_LIMIT_BYTES else None


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
