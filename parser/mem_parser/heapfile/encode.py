"""Lines of our own section: JSON objects and compressed columns, each line within the bound."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from mem_parser.escape import json_ascii, utf8
from mem_parser.heapfile.form import COLUMN_MARK

LINE_CHARS = 4000
"""Most characters of a line behind its mark: readers of the first part stop at 4096."""
_LEVEL = 3
"""zlib's: higher ones take several times as long for a few per cent."""


def json_lines(mark: str, value: object) -> Iterator[bytes]:
    """Yield a JSON text after ``mark``, cut into lines; a cut may be inside an escape sequence.

    No line has an ``=``, which old readers take for a setting.
    """
    text = json_ascii(value).replace("=", "\\u003d")
    for at in range(0, max(len(text), 1), LINE_CHARS):
        yield f"{mark if at == 0 else '%+'} {text[at : at + LINE_CHARS]}\n".encode()


def column_lines(name: str, dtype: str, values: npt.ArrayLike) -> Iterator[bytes]:
    """Yield a column: its name, type, count and number of lines, then the array itself."""
    yield from column_lines_of(name, dtype, [values])


def column_lines_of(name: str, dtype: str, parts: Iterable[npt.ArrayLike]) -> Iterator[bytes]:
    """Yield a column whose array comes in parts, with one part in memory at a time."""
    engine = zlib.compressobj(_LEVEL)
    packed = bytearray()
    count = 0
    for part in parts:
        flat = np.ascontiguousarray(part, dtype=dtype).reshape(-1)
        packed += engine.compress(flat.data)
        count += len(flat)
    packed += engine.flush()
    text = base64.b64encode(packed).rstrip(b"=")
    starts = range(0, len(text), LINE_CHARS)
    yield COLUMN_MARK + f"{name} {dtype} {count} {len(starts)}\n".encode()
    for at in starts:
        yield b"%| " + text[at : at + LINE_CHARS] + b"\n"


def text_lines(name: str, texts: Iterable[str]) -> Iterator[bytes]:
    """Yield a column of texts without line ends."""
    return column_lines(name, "|u1", np.frombuffer(utf8("\n".join(texts)), dtype=np.uint8))
