"""Facts of a file that need no new open; the symbol cache keeps them by the file's path, inode,
size and time.

Opening an ELF file of many sections takes a tenth of a second, and asking the package system takes
as long; a report on files with known facts needs neither.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

from mem_parser.symbols.cache import SymbolCache

_VERSION = 1


def identity_of(path: str) -> list[Any] | None:
    """Return values that identify a file and its version; None if there is no file at ``path``."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return [path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns]


class FileFact:
    """One fact of the file that is at ``path`` now; ``name`` is of lower case letters."""

    def __init__(self, cache: SymbolCache, path: str, name: str) -> None:
        self._cache = cache
        self._key = ""  # no valid key: the cache finds and keeps nothing
        identity = identity_of(path)
        if identity is not None:
            spelled = json.dumps([_VERSION, *identity]).encode()
            self._key = f"{hashlib.sha256(spelled).hexdigest()[:40]}-{name}"

    def get(self) -> str | None:
        """Return the kept fact; None if there is none."""
        found = self._cache.get(self._key)
        return None if found is None else found.decode("utf-8", "surrogateescape")

    def put(self, text: str) -> None:
        """Keep ``text`` as the fact of the file in its state at this object's creation."""
        self._cache.put(self._key, text.encode("utf-8", "surrogateescape"))
