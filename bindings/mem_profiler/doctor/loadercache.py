"""/etc/ld.so.cache: the paths of this machine's libraries, from ldconfig.

Model: we read the file whole, up to a bound, and check every offset in it. Of several entries of a
name, the one for the highest level of our processor counts, else the first that names no level.

Format: glibc, elf/dl-cache.h, "glibc-ld.so.cache1.1", alone or after one of "ld.so-1.7.0":
header (48 bytes: nlibs at 20, extension_offset at 32), entries (24 bytes: flags, key, value,
osversion, hwcap), strings by offset from the header.
"""

from __future__ import annotations

import os
import platform
import re
import struct
from pathlib import Path

from mem_parser.plainfile import open_plain

CACHE = Path("/etc/ld.so.cache")
_MAX_BYTES = 32 << 20
_ENTRIES_MAX = 200_000
_TEXT_MAX_BYTES = 4096
_OLD_MAGIC, _OLD_HEADER_BYTES, _OLD_ENTRY_BYTES = b"ld.so-1.7.0", 16, 12
_MAGIC = b"glibc-ld.so.cache1.1"
_HEADER_BYTES = 48
_ENTRY = struct.Struct("<iIIIQ")
_EXTENSION_MAGIC = 0xEAA42174
_EXTENSION_HWCAPS = 1
_SECTIONS_MAX = 64
_HWCAP_EXTENSION = 1 << 62
_FLAGS = {"x86_64": 0x0303, "aarch64": 0x0A03}  # an ELF library of libc6, and its machine

# Of an x86-64 level, by the words of /proc/cpuinfo; each contains those before it.
_LEVELS = (
    ("x86-64-v2", {"cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"}),
    ("x86-64-v3", {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"}),
    ("x86-64-v4", {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}),
)


def processor_levels() -> tuple[str, ...]:
    """The levels of this processor, highest first, as glibc-hwcaps names them."""
    if platform.machine() != "x86_64":
        return ()
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ()
    found = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    flags = set(found[1].split()) if found else set()
    reached = []
    for name, wanted in _LEVELS:
        if not wanted <= flags:
            break
        reached.append(name)
    return tuple(reversed(reached))


def load(path: Path = CACHE, levels: tuple[str, ...] | None = None) -> dict[str, str]:
    """Paths of libraries of our machine by their names; empty where the file is absent."""
    data = _read(path)
    start = _start(data)
    if start is None:
        return {}
    best = {
        name: rank for rank, name in enumerate(processor_levels() if levels is None else levels)
    }
    ranks = [best.get(name) for name in _hwcap_names(data, start)]
    plain = len(best)
    found: dict[str, tuple[int, str]] = {}
    for flags, key, value, _, hwcap in _entries(data, start):
        if flags != _FLAGS.get(platform.machine()):
            continue
        rank: int | None = plain
        if hwcap & _HWCAP_EXTENSION:
            index = hwcap & 0xFFFFFFFF
            rank = ranks[index] if index < len(ranks) else None
        elif hwcap:
            continue
        name, where = _text(data, start + key), _text(data, start + value)
        if rank is None or not name or not where.startswith("/"):
            continue
        if name not in found or rank < found[name][0]:
            found[name] = rank, where
    return {name: where for name, (_, where) in found.items()}


def _read(path: Path) -> bytes:
    try:
        fd = open_plain(path)
    except OSError:
        return b""
    with os.fdopen(fd, "rb") as file:
        try:
            return file.read(_MAX_BYTES)
        except OSError:
            return b""


def _start(data: bytes) -> int | None:
    """Offset of the format that we know; None: absent."""
    at = 0
    if data.startswith(_OLD_MAGIC) and len(data) >= _OLD_HEADER_BYTES:
        [count] = struct.unpack_from("<I", data, 12)
        at = (_OLD_HEADER_BYTES + count * _OLD_ENTRY_BYTES + 7) // 8 * 8
    known = data[at : at + len(_MAGIC)] == _MAGIC and len(data) >= at + _HEADER_BYTES
    return at if known else None


def _entries(data: bytes, start: int) -> list[tuple[int, int, int, int, int]]:
    [count] = struct.unpack_from("<I", data, start + 20)
    first = start + _HEADER_BYTES
    room = (len(data) - first) // _ENTRY.size
    count = min(count, room, _ENTRIES_MAX)
    return list(_ENTRY.iter_unpack(data[first : first + count * _ENTRY.size]))


def _hwcap_names(data: bytes, start: int) -> list[str]:
    """The processor levels to which entries refer by number."""
    [offset] = struct.unpack_from("<I", data, start + 32)
    at = start + offset
    if offset == 0 or at + 8 > len(data):
        return []
    magic, count = struct.unpack_from("<II", data, at)
    if magic != _EXTENSION_MAGIC:
        return []
    for i in range(min(count, _SECTIONS_MAX)):
        if at + 8 + 16 * (i + 1) > len(data):
            break
        tag, _flags, where, size = struct.unpack_from("<IIII", data, at + 8 + 16 * i)
        if tag == _EXTENSION_HWCAPS:
            raw = data[start + where : start + where + min(size, 4 * _SECTIONS_MAX) // 4 * 4]
            return [
                _text(data, start + o)
                for (o,) in struct.iter_unpack("<I", raw[: len(raw) // 4 * 4])
            ]
    return []


def _text(data: bytes, at: int) -> str:
    end = data.find(b"\0", at, at + _TEXT_MAX_BYTES)
    return os.fsdecode(data[at:end]) if end >= 0 else ""
