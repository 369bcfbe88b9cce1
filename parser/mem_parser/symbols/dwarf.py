"""Source lines and inlined frames, from DWARF, by the library `symbolic`.

The library converts the debug information of a file to a compact table once (the slow part; the
cache keeps the table by build-id) and answers look-ups from that. A child process makes the table,
because debug information may crash its reader, which must not end a report. The child gets the open
file, so it reads the checked one, and is confined (see `confinement`).

The library counts addresses from the file's lowest segment; here they are the file's virtual
addresses.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from mem_parser.allowance import bound_bytes
from mem_parser.plainfile import PlainFile
from mem_parser.symbols import linebuilder
from mem_parser.symbols.cache import SymbolCache
from mem_parser.symbols.confinement import LARGEST_FILE_BYTES, MEMORY_FLOOR_BYTES
from mem_parser.symbols.elf import ElfImage
from mem_parser.symbols.isolation import signal_name

DWARF_LIMIT_BYTES = 2 << 30
"""A file with more debug information than this is named by its symbols only."""
BUILD_TIMEOUT_S = 300.0
"""What reading the debug information of one file may take."""
_BUILDER = str(Path(__file__).with_name("linebuilder.py"))


class LinesFailed(Exception):
    """Unusable debug information; the text says what it did, without a subject."""


@dataclass(frozen=True, slots=True)
class SourceFrame:
    """One function at an address: inlined ones come first, the real one last."""

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

    Raises `LinesFailed` if that is unusable.
    """
    if not image.has_dwarf or _debug_size(image) > DWARF_LIMIT_BYTES:
        return None
    from symbolic.symcache import SYMCACHE_LATEST_VERSION

    if not isinstance(image.file, PlainFile):
        return None
    file = image.file
    identity = f"{file.status.st_size:x}x{file.status.st_mtime_ns:x}"
    key = f"{image.build_id}-lines{SYMCACHE_LATEST_VERSION}-{identity}"
    data = cache.get_or_make(key, lambda: _build(file))
    try:
        table = _symcache_class().from_bytes(data) if data else None
    except Exception:  # as above
        return None
    return None if table is None else LineTable(table, image.load_base)


def _symcache_class() -> Any:
    from symbolic.symcache import SymCache

    return SymCache


def _build(file: PlainFile) -> bytes | None:
    """Return the table of ``file``, made by a child process. Raises `LinesFailed`."""
    memory = bound_bytes(file.stored_bytes, MEMORY_FLOOR_BYTES)
    with tempfile.TemporaryFile(prefix="mem_parser-") as out:
        numbers = (file.fileno(), out.fileno(), memory, math.ceil(BUILD_TIMEOUT_S), os.getpid())
        try:
            done = subprocess.run(
                [sys.executable, "-P", _BUILDER, *map(str, numbers)],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=numbers[:2],
                check=False,
                timeout=BUILD_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired as error:
            raise LinesFailed(f"took longer than {BUILD_TIMEOUT_S:.0f} s to read") from error
        except OSError as error:
            raise LinesFailed(
                f"was not read: cannot start a process for it ({error.strerror})"
            ) from error
        if done.returncode < 0:
            raise LinesFailed(f"crashed its reader ({signal_name(-done.returncode)})")
        if done.returncode == linebuilder.NO_MEMORY:
            raise LinesFailed("needs too much memory to read for a file of its size")
        if done.returncode:
            raise LinesFailed("cannot be read")
        return _made(out) or None


def _made(out: BinaryIO) -> bytes:
    if os.fstat(out.fileno()).st_size > LARGEST_FILE_BYTES:
        raise LinesFailed("has too many lines")
    out.seek(0)
    return out.read()


def _debug_size(image: ElfImage) -> int:
    return max(image.held_bytes(name) for name in (".debug_info", ".zdebug_info"))
