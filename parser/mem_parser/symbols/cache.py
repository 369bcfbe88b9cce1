"""Symbol caches on disk, one file per build-id, in the user's cache folder.

Writers make a temporary file and rename it, so two may run at once; readers check a header and
discard a file that does not fit. The folder has a bound: the files unused longest go first. An
unusable cache costs time, never a report.
"""

from __future__ import annotations

import contextlib
import os
import re
import struct
import zlib
from pathlib import Path

from mem_parser.symbols.ownfolder import OwnFolder, read_own, write_new

CACHE_VARIABLE = "MEM_PROFILER_CACHE"
"""Names the folder to use; empty: no cache."""
DEFAULT_LIMIT_BYTES = 1 << 30
_MAGIC = b"MPSYM\x001\n"
_HEADER = struct.Struct("<8sQII")
_KEY = re.compile(r"[0-9a-f]{8,128}(?:-[0-9a-z]+)*$")


def default_folder() -> Path | None:
    """Return the folder that the environment names; None where it names none."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen is not None:
        return Path(chosen) if chosen else None
    base = os.environ.get("XDG_CACHE_HOME")
    if base and os.path.isabs(base):
        return Path(base) / "mem-profiler"
    home = os.path.expanduser("~")
    return Path(home) / ".cache" / "mem-profiler" if os.path.isabs(home) else None


class SymbolCache:
    """The files of one folder. With ``folder`` None it finds and keeps nothing; likewise with a
    folder that is not the user's own (see `ownfolder`).
    """

    def __init__(self, folder: Path | None, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self._folder = OwnFolder(folder) if folder is not None else None
        self.limit_bytes = limit_bytes

    def folders(self) -> list[str]:
        """Return the folder that `put` changes, made where it is missing; none if unusable."""
        if self._folder is None:
            return []
        with self._folder.opened(make=True) as folder:
            return [] if folder is None else [str(self._folder.path)]

    def get(self, key: str) -> bytes | None:
        """Return the payload stored under ``key``, or None; removes a damaged file."""
        if self._folder is None or not _KEY.match(key):
            return None
        name = f"{key}.sym"
        payload = None
        with self._folder.opened() as folder, contextlib.suppress(OSError):
            data = None if folder is None else read_own(folder, name, self.limit_bytes)
            payload = None if data is None else _checked(data)
            if data is not None and payload is None:
                os.unlink(name, dir_fd=folder)
            elif payload is not None:
                os.utime(name, dir_fd=folder, follow_symlinks=False)
        return payload

    def put(self, key: str, payload: bytes) -> None:
        """Store ``payload`` under ``key``; does nothing where that fails."""
        usable = self._folder is not None and _KEY.match(key)
        if self._folder is None or not usable or len(payload) > self.limit_bytes // 2:
            return
        header = _HEADER.pack(_MAGIC, len(payload), zlib.crc32(payload), 0)
        with self._folder.opened(make=True) as folder, contextlib.suppress(OSError):
            if folder is not None:
                _write_renamed(folder, f"{key}.sym", header + payload)
                self._trim(folder)

    def _trim(self, folder: int) -> None:
        """Remove the files unused longest until the folder is within its bound."""
        entries = []
        for name in os.listdir(folder):
            with contextlib.suppress(OSError):
                if name.endswith(".sym"):
                    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                    entries.append((status.st_mtime, status.st_size, name))
        total = sum(size for _, size, _ in entries)
        for _, size, name in sorted(entries):
            if total <= self.limit_bytes:
                break
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=folder)
            total -= size


def _checked(data: bytes) -> bytes | None:
    if len(data) < _HEADER.size:
        return None
    magic, size, crc, _ = _HEADER.unpack_from(data)
    payload = data[_HEADER.size :]
    if magic != _MAGIC or size != len(payload) or zlib.crc32(payload) != crc:
        return None
    return payload


def _write_renamed(folder: int, name: str, data: bytes) -> None:
    temporary = f".new-{os.urandom(8).hex()}"
    try:
        with os.fdopen(write_new(folder, temporary), "wb") as file:
            file.write(data)
        os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise
