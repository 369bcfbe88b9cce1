"""Blocks of a `.memlog` file: a checksummed head of 48 bytes, then the contents it announces.

A block is complete or ignored: a reader accepts it only if the checksum of its head and that
of its stored bytes are right.
"""

from __future__ import annotations

import enum
import importlib
import struct
import sys
import zlib
from typing import Any, NamedTuple

MAGIC = b"\x89MEMLOG\r\n\x1a\n\x00"
VERSION = 1
START = struct.Struct("<12sI")
"""The first bytes of a file: `MAGIC` and the version."""
BLOCK_MARK = b"\xabMLB"
HEAD = struct.Struct("<4sBBHIIIIqqI")
_CRC = struct.Struct("<I")
HEAD_BYTES = HEAD.size + _CRC.size
MOST_RAW_BYTES = 1 << 24
"""No block has more, unpacked."""
MORE = 1
"""Flag of a block: the next one of its kind goes on with it."""
_LEVEL = 1
_WINDOW_BITS = 24


class BlockKind(enum.IntEnum):
    """The content of a block."""

    FILE = 1
    FACTS = 2
    STACKS = 3
    PYTHON = 4
    EVENTS = 5
    KEYFRAME = 6
    HOLE = 7
    READINGS = 8
    END = 9
    LABELS = 10
    TEXTS = 11
    LAUNCHES = 12


class Codec(enum.IntEnum):
    """How a block's bytes are stored."""

    NONE = 0
    ZSTD = 1


class BadBlockError(Exception):
    """A block that is damaged; the text says in what way."""


class Head(NamedTuple):
    """The head of a block.

    ``first`` and ``last`` are times of what is in it (nanoseconds since the capture's start), and
    of tables the numbers of its first row and of the one behind its last.
    """

    kind: int
    codec: int
    flags: int
    rows: int
    raw_bytes: int
    stored_bytes: int
    first: int
    last: int
    checksum: int


def pack_block(
    kind: BlockKind, payload: bytes, *, rows: int, first: int, last: int, flags: int = 0
) -> bytes:
    """Return a whole block. Raises ValueError for a payload of more than `MOST_RAW_BYTES`."""
    if len(payload) > MOST_RAW_BYTES:
        raise ValueError("too much for a block")
    stored, codec = _zstd.compress(payload, _LEVEL), Codec.ZSTD
    if len(stored) >= len(payload):
        stored, codec = payload, Codec.NONE
    head = HEAD.pack(
        BLOCK_MARK, kind, codec, flags, rows, len(payload), len(stored), 0, first, last,
        zlib.crc32(stored),
    )  # fmt: skip
    return b"".join((head, _CRC.pack(zlib.crc32(head)), stored))


def parse_head(data: bytes) -> Head | None:
    """Return the head that ``data`` begins with; None if there is none, or it is damaged."""
    if len(data) < HEAD_BYTES or not data.startswith(BLOCK_MARK):
        return None
    if zlib.crc32(data[: HEAD.size]) != _CRC.unpack_from(data, HEAD.size)[0]:
        return None
    _, kind, codec, flags, rows, raw, stored, _, first, last, checksum = HEAD.unpack_from(data)
    return Head(kind, codec, flags, rows, raw, stored, first, last, checksum)


def unpack(head: Head, stored: bytes) -> bytes:
    """Return the content of a block from its stored bytes. Raises BadBlockError."""
    if len(stored) != head.stored_bytes or zlib.crc32(stored) != head.checksum:
        raise BadBlockError("its checksum is wrong")
    if head.raw_bytes > MOST_RAW_BYTES:
        raise BadBlockError("it claims to be too large")
    if head.codec == Codec.NONE:
        data = stored
    elif head.codec == Codec.ZSTD:
        data = _decompressed(stored, head.raw_bytes)
    else:
        raise BadBlockError("it is packed in an unknown way")
    if len(data) != head.raw_bytes:
        raise BadBlockError("it does not have the bytes that it claims")
    return data


def _decompressed(stored: bytes, raw_bytes: int) -> bytes:
    window = {_zstd.DecompressionParameter.window_log_max: _WINDOW_BITS}
    engine = _zstd.ZstdDecompressor(options=window)
    try:
        data: bytes = engine.decompress(stored, raw_bytes + 1)
    except (_zstd.ZstdError, ValueError, EOFError) as error:
        raise BadBlockError("its zstd data is damaged") from error
    if not engine.eof:
        raise BadBlockError("its zstd data does not end")
    return data


def _zstd_module() -> Any:
    name = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    return importlib.import_module(name)


_zstd: Any = _zstd_module()
