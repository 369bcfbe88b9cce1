"""Source lines and inlined frames, from DWARF, by the library `symbolic`.

It turns the debug information of a file into a compact table once (the slow part, kept in the cache
by build-id) and answers look-ups from that. The table is made in a child process, because debug
information may crash its reader and a report must not go down with it. Addresses are counted from
the file's lowest segment there; here they are the file's virtual addresses.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mem_parser.symbols.cache import SymbolCache
from mem_parser.symbols.elf import ElfImage
from mem_parser.symbols.isolation import signal_name

DWARF_LIMIT_BYTES = 2 << 30
"""A file with more debug information than this is named by its symbols only."""
BUILD_TIMEOUT_S = 300.0
"""What reading the debug information of one file may take."""
_BUILDER = str(Path(__file__).with_name("linebuilder.py"))


class LinesFailed(Exception):
    """Debug information that cannot be used; the text says what it did, without a subject."""


@dataclass(frozen=True, slots=True)
class SourceFrame:
    """One function at an address: inlined ones come first, the one that is really there last."""

    symbol: str
    file: str
    line: int


class LineTable:
    """Lines and inlined frames of one file."""

    def __init__(self, table: Any, load_base: int) -> None:
        self._table = table
        self._load_base = load_base

    def find(self, address: int) -> list[SourceFrame]:
        """Return the frames at a virtual address, innermost first; none if no line is known."""
        if address < self._load_base:
            return []
        try:
            found = self._table.lookup(address - self._load_base)
        except Exception:  # the library raises its own errors for damaged tables
            return []
        if not any(f.line for f in found):
            return []
        return [SourceFrame(str(f.symbol), str(f.full_path or ""), int(f.line)) for f in found]


def open_lines(image: ElfImage, cache: SymbolCache) -> LineTable | None:
    """Return the line table of ``image``; None if it has no debug information.

    Raises `LinesFailed` if it has some that cannot be used.
    """
    if not image.has_dwarf or _debug_size(image) > DWARF_LIMIT_BYTES:
        return None
    from symbolic.symcache import SYMCACHE_LATEST_VERSION

    key = f"{image.build_id}-lines{SYMCACHE_LATEST_VERSION}-{_identity(image.path)}"
    data = cache.get_or_make(key, lambda: _build(image.path))
    try:
        table = _symcache_class().from_bytes(data) if data else None
    except Exception:  # as above
        return None
    return None if table is None else LineTable(table, image.load_base)


def _identity(path: str) -> str:
    """Return what tells this very file from a forged one with the same build-id."""
    status = os.stat(path)
    return f"{status.st_size:x}x{status.st_mtime_ns:x}"


def _symcache_class() -> Any:
    from symbolic.symcache import SymCache

    return SymCache


def _build(path: str) -> bytes | None:
    """Return the table of ``path`` as a child process makes it. Raises `LinesFailed`."""
    with tempfile.TemporaryDirectory(prefix="mem_parser-") as folder:
        out = os.path.join(folder, "lines")
        found = [p for p in sys.path if p]
        try:
            done = subprocess.run(
                [sys.executable, "-P", _BUILDER, path, out],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(found)},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=BUILD_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired as error:
            raise LinesFailed(f"took longer than {BUILD_TIMEOUT_S:.0f} s to read") from error
        except OSError as error:
            raise LinesFailed(f"was not read: no process for it ({error.strerror})") from error
        if done.returncode < 0:
            raise LinesFailed(f"crashed its reader ({signal_name(-done.returncode)})")
        if done.returncode:
            raise LinesFailed("cannot be read")
        return Path(out).read_bytes() or None


def _debug_size(image: ElfImage) -> int:
    section = image.sections.get(".debug_info") or image.sections.get(".zdebug_info")
    return int(section["sh_size"]) if section is not None else 0
