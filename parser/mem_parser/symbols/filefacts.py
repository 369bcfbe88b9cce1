"""What is known of a file without opening it again, kept in the symbol cache by the file's path,
inode, size and time.

Opening an ELF file of many sections takes a tenth of a second, and asking the package system as
much; a report on files that were read before needs neither.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

from mem_parser.symbols.cache import SymbolCache

_VERSION = 1


def identity_of(path: str) -> list[Any] | None:
    """Return what tells the file at ``path`` from others, and from itself after a change; None
    where there is no file.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return [path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns]


class FileFact:
    """One fact of the file that is at ``path`` now; ``name`` is of lower case letters."""

    def __init__(self, cache: SymbolCache, path: str, name: str) -> None:
        self._cache = cache
        self._key = ""  # no key of a cache: nothing is found or kept
        identity = identity_of(path)
        if identity is not None:
            spelled = json.dumps([_VERSION, *identity]).encode()
            self._key = f"{hashlib.sha256(spelled).hexdigest()[:40]}-{name}"

    def get(self) -> str | None:
        """Return what was kept; None if nothing was."""
        found = self._cache.get(self._key)
        return None if found is None else found.decode("utf-8", "surrogateescape")

    def put(self, text: str) -> None:
        """Keep ``text`` as the fact of the file as it was when this object was made."""
        self._cache.put(self._key, text.encode("utf-8", "surrogateescape"))
