"""Symbol caches on disk, one file per build-id, in the user's cache folder.

Writers make a file of their own and rename it, so two may run at once; readers check a header and
throw away what does not fit. The folder is bounded: the files unused longest are removed first. A
cache that cannot be used costs time, never a report.
"""

from __future__ import annotations

import contextlib
import os
import re
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

CACHE_VARIABLE = "MEM_PROFILER_CACHE"
"""Names the folder to use; empty: no cache."""
DEFAULT_LIMIT_BYTES = 1 << 30
_MAGIC = b"MPSYM\x001\n"
_HEADER = struct.Struct("<8sQII")
_KEY = re.compile(r"[0-9a-f]{8,128}(?:-[0-9a-z]+)*$")


def default_folder() -> Path | None:
    """Return the folder that the environment asks for; None where it asks for none."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen is not None:
        return Path(chosen) if chosen else None
    base = os.environ.get("XDG_CACHE_HOME")
    if base and os.path.isabs(base):
        return Path(base) / "mem-profiler"
    home = os.path.expanduser("~")
    return Path(home) / ".cache" / "mem-profiler" if os.path.isabs(home) else None


class SymbolCache:
    """The files of one folder. ``folder`` None: nothing is ever found or kept."""

    def __init__(self, folder: Path | None, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes

    def get(self, key: str) -> bytes | None:
        """Return what was stored under ``key``, or None; a damaged file is removed."""
        path = self._path(key)
        if path is None:
            return None
        try:
            data = path.read_bytes()
        except OSError:
            return None
        payload = _checked(data)
        with contextlib.suppress(OSError):
            if payload is None:
                path.unlink()
            else:
                os.utime(path)
        return payload

    def put(self, key: str, payload: bytes) -> None:
        """Store ``payload`` under ``key``; does nothing where that is not possible."""
        path = self._path(key)
        if path is None or self.folder is None or len(payload) > self.limit_bytes // 2:
            return
        header = _HEADER.pack(_MAGIC, len(payload), zlib.crc32(payload), 0)
        with contextlib.suppress(OSError):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write_renamed(self.folder, path, header + payload)
            self._trim()

    def get_or_make(self, key: str, make: Callable[[], bytes | None]) -> bytes | None:
        """Return what is stored under ``key``, made and stored first if need be."""
        found = self.get(key)
        if found is None:
            found = make()
            if found is not None:
                self.put(key, found)
        return found

    def _path(self, key: str) -> Path | None:
        if self.folder is None or not _KEY.match(key):
            return None
        return self.folder / f"{key}.sym"

    def _trim(self) -> None:
        """Remove the files unused longest until the folder is within its bound."""
        if self.folder is None:
            return
        entries = []
        for path in self.folder.glob("*.sym"):
            with contextlib.suppress(OSError):
                status = path.stat()
                entries.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if total <= self.limit_bytes:
                break
            with contextlib.suppress(OSError):
                path.unlink()
            total -= size


def _checked(data: bytes) -> bytes | None:
    if len(data) < _HEADER.size:
        return None
    magic, size, crc, _ = _HEADER.unpack_from(data)
    payload = data[_HEADER.size :]
    if magic != _MAGIC or size != len(payload) or zlib.crc32(payload) != crc:
        return None
    return payload


def _write_renamed(folder: Path, path: Path, data: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
