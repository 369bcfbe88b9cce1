"""The two forms of a `.heap` file: text, and the same text packed with gzip (docs/heap-format.md).

Readers tell them apart by the first two bytes. Small files stay text, which people and old tools
can read directly.
"""

from __future__ import annotations

import enum
import itertools
import zlib
from collections.abc import Iterable, Iterator

PLAIN_MOST_BYTES = 4 << 20
"""A file with more text than this is packed, unless somebody chose."""
COLUMN_MARK = b"%column "
GZIP_MAGIC = b"\x1f\x8b"
_LEVEL = 1
"""zlib's: 6 makes files a quarter smaller and takes twice the time."""
_GZIP_BITS = 31
"""The largest window, and gzip's header: without a name and a time, so equal texts pack equally."""


class Form(enum.StrEnum):
    """How a file is written. AUTO: packed if its text is larger than `PLAIN_MOST_BYTES`."""

    AUTO = "auto"
    PLAIN = "plain"
    GZIP = "gzip"


def in_form(parts: Iterable[bytes], form: Form) -> Iterator[bytes]:
    """Yield a file with the text ``parts`` in its form; one part starts with the columns. Holds
    `PLAIN_MOST_BYTES` and a part at most.
    """
    rest = iter(parts)
    if form is Form.PLAIN:
        yield from rest
        return
    if form is Form.AUTO:
        first: list[bytes] = []
        size = 0
        for part in rest:
            first.append(part)
            size += len(part)
            if size > PLAIN_MOST_BYTES:
                break
        else:
            yield from first
            return
        rest = itertools.chain(first, rest)
    yield from _packed(rest)


def _packed(parts: Iterable[bytes]) -> Iterator[bytes]:
    engine = _engine(zlib.Z_DEFAULT_STRATEGY)
    columns = False
    for part in parts:
        if not columns and part.startswith(COLUMN_MARK):
            # Columns are packed already: only base64's overhead can be saved.
            columns = True
            yield engine.flush()
            engine = _engine(zlib.Z_HUFFMAN_ONLY)
        if some := engine.compress(part):
            yield some
    yield engine.flush()


def _engine(strategy: int) -> zlib._Compress:
    return zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP_BITS, zlib.DEF_MEM_LEVEL, strategy)
