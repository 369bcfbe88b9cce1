"""Where the rows and fields of a `memscope_dump_*.csv` are in its bytes, block by block.

A comma ends a field where an even number of quotes is before it. The standard library's reader says
the same of files in which a quote stands only at the begin and at the end of a field, or twice
inside of quotes. Every block is checked for that; what a check refuses is left to that reader
(`csvfile.chunks`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Union

import numpy as np
import numpy.typing as npt

from mem_parser.memscope import csvfile
from mem_parser.memscope.fieldbytes import WORD_MAX_BYTES, BoolArray, FieldBytes, IntArray
from mem_parser.memscope.form import COLUMNS
from mem_parser.plainfile import PlainFile

BLOCK_BYTES = 1 << 20
BLOCK_MAX_BYTES = 8 << 20
"""A row that is longer is left to the other reader."""
STACKS = len(COLUMNS) - 2
"""The first of the columns of stacks, whose texts are not looked at."""
NAME, ATTR = COLUMNS.index("Name"), COLUMNS.index("Attr")
_COMMA, _QUOTE, _LINE = ord(","), ord('"'), ord("\n")
HEADER = (",".join(COLUMNS) + "\n").encode()


class Block(NamedTuple):
    """Whole rows: a row and a column for each field, without its quotes."""

    offset: int
    """Of the first byte in the file."""
    size: int
    fields: FieldBytes
    begin: IntArray
    end: IntArray
    marks: IntArray
    """Places of all commas, quotes and line breaks. Inside of an Attr there are commas alone."""
    attr_first: IntArray
    """Number of the first mark inside of each Attr."""
    attr_last: IntArray
    """Number of the mark that ends it."""

    def __len__(self) -> int:
        return len(self.begin)


class Unread(NamedTuple):
    """Bytes that are left to the other reader: whole rows, or all that is left of the file."""

    offset: int
    size: int | None
    """None: up to the end of the file."""


Part = Union[Block, Unread]  # noqa: UP007 - Python 3.9 evaluates it


def blocks(file: PlainFile, block_bytes: int = 0) -> Iterator[Part]:
    """Yield all rows of an open file. Raises OSError."""
    size = block_bytes or BLOCK_BYTES
    if file.read(0, len(HEADER)) != HEADER:
        yield Unread(0, None)
        return
    offset = len(HEADER)
    wanted = size
    while data := file.read(offset, wanted):
        is_end = len(data) < wanted or offset + len(data) >= file.size_bytes
        if is_end and not data.endswith(b"\n"):
            data += b"\n"
        part = _block(data, offset)
        if part is None and not is_end and wanted < BLOCK_MAX_BYTES:
            wanted *= 2
            continue
        if part is None or part.size is None or (is_end and part.size < len(data)):
            yield Unread(offset, None)
            return
        yield part
        offset += part.size
        wanted = size


def _block(data: bytes, offset: int) -> Part | None:
    """Return the whole rows that some bytes begin with; None: there is none."""
    if b"\r" in data or b"\0" in data:
        return Unread(offset, None)
    raw = np.frombuffer(data, dtype=np.uint8)
    place = np.flatnonzero((raw == _COMMA) | (raw == _QUOTE) | (raw == _LINE))
    kind = raw[place]
    is_quote = kind == _QUOTE
    quotes = np.cumsum(is_quote, dtype=np.int32)
    ends = np.flatnonzero(~is_quote & ((quotes & 1) == 0))
    lines = np.flatnonzero(kind[ends] == _LINE)
    if not len(lines):
        return None
    ends = ends[: lines[-1] + 1]
    size = int(place[ends[-1]]) + 1
    count = int(ends[-1]) + 1
    place, kind, is_quote, quotes = place[:count], kind[:count], is_quote[:count], quotes[:count]
    if not _are_quotes_around_fields(raw, place[is_quote]):
        return Unread(offset, None)
    return _fields(data[:size], offset, place, (kind, quotes, ends)) or Unread(offset, size)


def _are_quotes_around_fields(raw: npt.NDArray[np.uint8], quote: IntArray) -> bool:
    """Whether each opening quote begins a field or is the second of two, and each closing one ends
    it or is the first of two.
    """
    opening, closing = quote[::2], quote[1::2]
    before = np.where(opening > 0, raw[opening - 1], _LINE)
    behind = raw[closing + 1]
    return bool(
        ((before == _COMMA) | (before == _LINE) | (before == _QUOTE)).all()
        and ((behind == _COMMA) | (behind == _LINE) | (behind == _QUOTE)).all()
    )


def _fields(
    data: bytes,
    offset: int,
    place: IntArray,
    marks: tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32], IntArray],
) -> Block | None:
    """Return a block of rows; None where one of them is not as all others are."""
    kind, quotes, ends = marks
    width = len(COLUMNS)
    if len(ends) % width:
        return None
    table = ends.reshape(-1, width)
    is_line = kind[table] == _LINE
    if is_line[:, :-1].any() or not is_line[:, -1].all():
        return None
    end = place[table]
    begin = np.empty_like(end)
    begin.reshape(-1)[0] = 0
    begin.reshape(-1)[1:] = end.reshape(-1)[:-1] + 1
    if int((end[:, -1] - begin[:, 0]).max()) > csvfile.FIELD_MAX_CHARS:
        return None
    if int((end[:, :STACKS] - begin[:, :STACKS]).max()) > WORD_MAX_BYTES:
        return None
    inside = np.diff(quotes[table].reshape(-1), prepend=0).reshape(-1, width)[:, :STACKS]
    is_quoted = inside == 2
    may = np.zeros(STACKS, dtype=bool)
    may[[NAME, ATTR]] = True
    if ((inside != 0) & ~(is_quoted & may)).any():
        return None
    attr_first, attr_last = table[:, ATTR - 1] + 1, table[:, ATTR]
    if _has_lines(kind, attr_first, attr_last):
        return None
    begin[:, :STACKS] += is_quoted
    end = end.copy()
    end[:, :STACKS] -= is_quoted
    quoted = is_quoted[:, ATTR].astype(np.int64)
    return Block(
        offset,
        len(data),
        FieldBytes(data),
        begin,
        end,
        place,
        attr_first + quoted,
        attr_last - quoted,
    )


def _has_lines(kind: npt.NDArray[np.uint8], first: IntArray, last: IntArray) -> bool:
    """Whether a line breaks between two marks of a row."""
    lines = np.cumsum(kind == _LINE, dtype=np.int32)
    found: BoolArray = lines[last - 1] != lines[first - 1]
    return bool(found.any())
