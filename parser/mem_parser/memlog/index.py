"""Index the blocks of a `.memlog` file in one pass over their heads.

The pass reads no block, only heads: a thousand times fewer bytes than the file has. Where a head is
damaged, it looks for the next good one; the bytes in between are a gap.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from mem_parser.allowance import MemoryAllowance
from mem_parser.errors import NotAProfile, UnsupportedVersion
from mem_parser.memlog.blocks import (
    BLOCK_MARK,
    HEAD_BYTES,
    MAGIC,
    START,
    VERSION,
    BlockKind,
    Head,
    parse_head,
)
from mem_parser.plainfile import Readable

_LOOK_BYTES = 1 << 20
_ENTRY_BYTES = 400


class Entry(NamedTuple):
    """A block: its head, and the offset of the bytes behind the head."""

    head: Head
    offset: int


class Gap(NamedTuple):
    """Bytes of the file that make no sense, and the last block's last time before them."""

    offset: int
    end: int
    after_ns: int
    before_ns: int


@dataclass(slots=True)
class Index:
    """The blocks of a file. ``cut_at``: the offset of the part of a block at its end, if any."""

    entries: list[Entry] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    cut_at: int | None = None


_TIMED = {BlockKind.EVENTS, BlockKind.KEYFRAME, BlockKind.HOLE, BlockKind.READINGS}


def make_index(file: Readable, name: str, allowance: MemoryAllowance) -> Index:
    """Return the index of a file; ``name`` is its name in errors.

    Raises NotAProfile, UnsupportedVersion, AllowanceExceeded, OSError.
    """
    _check_start(file.read(0, START.size), name)
    index = Index()
    at, last_ns = START.size, 0
    gap_from: int | None = None
    while at < file.size_bytes:
        head = parse_head(file.read(at, HEAD_BYTES))
        if head is None:
            gap_from = at if gap_from is None else gap_from
            found = _next_mark(file, at + 1)
            if found is None:
                break
            at = found
            continue
        if at + HEAD_BYTES + head.stored_bytes > file.size_bytes:
            gap_from = at if gap_from is None else gap_from
            # The checksum of a head is right by chance in one of 2^32: this is where it was cut.
            break
        if gap_from is not None:
            index.gaps.append(Gap(gap_from, at, last_ns, max(head.first, last_ns)))
            gap_from = None
        allowance.take(_ENTRY_BYTES)
        index.entries.append(Entry(head, at + HEAD_BYTES))
        if head.kind in _TIMED:
            last_ns = max(last_ns, head.last)
        at += HEAD_BYTES + head.stored_bytes
    index.cut_at = gap_from
    return index


def _check_start(start: bytes, name: str) -> None:
    if not start:
        raise NotAProfile(f"{name}: the file is empty")
    if not start.startswith(MAGIC):
        raise NotAProfile(f"{name}: not a log of events", hint="mem_profiler writes .memlog files")
    version = START.unpack(start)[1] if len(start) == START.size else VERSION
    if version != VERSION:
        raise UnsupportedVersion(
            f"{name}: unknown format version {version} (at most {VERSION} here)",
            hint="a newer mem_parser reads it",
        )


def _next_mark(file: Readable, at: int) -> int | None:
    """Return the offset of the next block's mark from ``at`` on."""
    while at < file.size_bytes:
        data = file.read(at, _LOOK_BYTES)
        found = data.find(BLOCK_MARK)
        if found >= 0:
            return at + found
        if len(data) < _LOOK_BYTES:
            return None
        at += len(data) - len(BLOCK_MARK) + 1
    return None
