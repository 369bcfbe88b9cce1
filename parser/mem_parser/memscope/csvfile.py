"""Rows of `memscope_dump_*.csv` as texts, in chunks.

The standard library's reader splits the rows: stacks are quoted fields with line breaks in them.
Bytes that are no UTF-8 survive, so that a file can be written back as it was.
"""

from __future__ import annotations

import csv
import os
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any, BinaryIO, NamedTuple, TextIO

from mem_parser.errors import reason_of
from mem_parser.memscope.form import COLUMNS, DumpError, header_places, is_header
from mem_parser.plainfile import NotPlainError, open_plain

CHUNK_ROWS = 1024
"""So few that their texts stay in the processor's caches: three times as fast as with 65536."""
CHUNK_MAX_CHARS = 4 << 20
"""Rows that are longer together come in several chunks."""
LINE_MAX_CHARS = 16 << 20
FIELD_MAX_CHARS = LINE_MAX_CHARS - 1
"""Less than a line, so that a part of a longer line is an error."""
_HEADER = ",".join(COLUMNS).encode()
_limit = threading.Lock()


class Chunk(NamedTuple):
    """Some rows of a file.

    ``columns`` are those of `form.COLUMNS`; ``places`` number the rows of a CSV file from 1 on,
    without the header; of a database they are the rowids.
    """

    columns: list[Sequence[Any]]
    places: Sequence[int]


@contextmanager
def behind_header(path: str) -> Iterator[BinaryIO | None]:
    """Open a CSV file as bytes behind the header that this program writes; None: it has another.

    Raises `DumpError`.
    """
    with refused(path):
        handle = open_plain(path)
    with os.fdopen(handle, "rb") as file:
        head = file.readline(len(_HEADER) + 2)
        yield file if head.rstrip(b"\r\n") == _HEADER and head.endswith(b"\n") else None


@contextmanager
def opened(path: str) -> Iterator[TextIO]:
    """Open a CSV file as text whose line breaks stay as they are. Raises `DumpError`."""
    with refused(path):
        handle = open_plain(path)
    with os.fdopen(handle, encoding="utf-8", errors="surrogateescape", newline="") as file:
        yield file


@contextmanager
def refused(path: str) -> Iterator[None]:
    """Make a `DumpError` of the failure to open a file."""
    try:
        yield
    except DumpError:
        raise
    except NotPlainError as error:
        raise DumpError(f"{path}: {error.strerror}, not a file of rows") from error
    except (OSError, ValueError) as error:
        raise DumpError(f"{path}: {reason_of(error)}") from error


def chunks(path: str, chunk_rows: int = CHUNK_ROWS, done: int = 0) -> Iterator[Chunk]:
    """Yield the rows of a file in its order, but for the first ones, which are ``done``.

    Raises `DumpError` that names the file and the line for a header or a row that is none.
    """
    with opened(path) as file:
        fed = _Fed(file)
        reader = csv.reader(fed)
        straight: list[int | None] = list(range(len(COLUMNS)))
        names = checked(reader, path)
        places = header(names, path)
        width = max(place for place in places if place is not None) + 1
        is_straight = places == straight and len(names) == width
        skip_rows(reader, path, done)
        while rows := _some(reader, path, chunk_rows, fed):
            if len(min(rows, key=len)) < width:
                rows = [row for row in rows if row]
            if fed.is_cut and rows and len(rows[-1]) < width:
                rows.pop()
                text = f"{path}: its last line was cut: the rows before it count"
                warnings.warn(text, RuntimeWarning, stacklevel=2)
            sizes = set(map(len, rows))
            if sizes - {width} and (is_straight or any(size < width for size in sizes)):
                _refuse_width(path, width, exactly=is_straight)
            cut = rows if is_straight else (row[:width] for row in rows)
            held = list(zip(*cut))  # noqa: B905 - Python 3.9
            empty = ("",) * len(rows)
            numbers = range(done + 1, done + len(rows) + 1)
            done += len(rows)
            if rows:
                yield Chunk([empty if p is None else held[p] for p in places], numbers)


def reader_of(file: TextIO) -> Any:
    """Return a reader of rows whose lines have a bounded length."""
    return csv.reader(iter(partial(file.readline, LINE_MAX_CHARS), ""))


class _Fed:
    """The lines of a file, of bounded length, and what they have together."""

    def __init__(self, file: TextIO) -> None:
        self._line = partial(file.readline, LINE_MAX_CHARS)
        self.chars = 0
        self.is_cut = False
        """Whether the last line has no end: who wrote it was killed, or the disk was full."""

    def __iter__(self) -> _Fed:
        return self

    def __next__(self) -> str:
        line = self._line()
        if not line:
            raise StopIteration
        self.chars += len(line)
        self.is_cut = not line.endswith(("\n", "\r")) and len(line) < LINE_MAX_CHARS
        return line


def _some(reader: Any, path: str, most: int, fed: _Fed | None = None) -> list[list[str]]:
    """Return up to so many rows."""
    rows: list[list[str]] = []
    end = 0 if fed is None else fed.chars + CHUNK_MAX_CHARS
    with long_fields(), understood(reader, path):
        for row in islice(reader, most):
            rows.append(row)
            if fed is not None and fed.chars > end:
                break
    return rows


@contextmanager
def understood(reader: Any, path: str) -> Iterator[None]:
    """Make a `DumpError` of an error of the standard library's reader."""
    try:
        yield
    except csv.Error as error:
        raise _broken(path, reader.line_num, error) from error


def line_of(path: str, place: int) -> int:
    """Return the last line of a row, by its number."""
    with opened(path) as file, long_fields():
        reader = reader_of(file)
        rows = (reader.line_num for row in reader if row)
        return next(islice(rows, place, None), 0)


@contextmanager
def long_fields() -> Iterator[None]:
    """Let fields be as long as stacks are, without changing that for the rest of the program."""
    with _limit:
        before = csv.field_size_limit(FIELD_MAX_CHARS)
        try:
            yield
        finally:
            csv.field_size_limit(before)


def skip_rows(reader: Any, path: str, count: int) -> int:
    """Pass over some rows; returns how many there were."""
    with long_fields(), understood(reader, path):
        return sum(1 for _ in islice(filter(None, reader), count))


def checked(reader: Any, path: str) -> list[str]:
    """Return the fields of a header."""
    return (_some(reader, path, 1) or [[]])[0]


def _broken(path: str, line: int, error: Exception) -> DumpError:
    return DumpError(
        f"{path}: line {line}: {str(error).lower()}",
        hint="a quote that is never closed, or no CSV file at all",
    )


def header(names: list[str], path: str) -> list[int | None]:
    """Return where the columns are. Raises `DumpError`."""
    if not names:
        raise DumpError(f"{path}: empty: not even a header")
    if not is_header(names):
        raise DumpError(
            f"{path}: line 1 is no header of memscope_dump", hint=f"it is {','.join(COLUMNS)}"
        )
    places, missing = header_places(names)
    if missing:
        raise DumpError(f"{path}: line 1: no column {', '.join(missing)}")
    return places


def _refuse_width(path: str, width: int, *, exactly: bool) -> None:
    """Raise the error of the first row that has not so many fields."""
    with opened(path) as file, long_fields():
        reader = reader_of(file)
        for row in reader:
            if len(row) < width if not exactly else len(row) != width:
                if not row:
                    continue
                raise DumpError(
                    f"{path}: line {reader.line_num}: {len(row)} fields, not {width}",
                    hint="the file was cut there, or a quote is missing",
                )
    raise DumpError(f"{path}: changed while it was read")


def end_of_rows(data: bytes, end: int | None = None) -> int:
    """Return where the last row ends in rows of ours up to ``end``: behind the last line break with
    an even number of quotes before it.
    """
    end = data.rfind(b"\n", 0, end) + 1
    quotes = data.count(b'"', 0, end)
    while quotes % 2:
        before = data.rfind(b"\n", 0, end - 1) + 1
        quotes -= data.count(b'"', before, end)
        end = before
    return end


def row_text(fields: Sequence[str], always: int = -1) -> str:
    """Return a line of CSV without its end; the field ``always`` is quoted whatever it holds."""
    return ",".join(
        quoted(field) if place == always else plain_or_quoted(field)
        for place, field in enumerate(fields)
    )


def quoted(field: str) -> str:
    """Return a quoted field."""
    return '"' + field.replace('"', '""') + '"'


def plain_or_quoted(field: str) -> str:
    """Return a field, quoted where it must be."""
    if "," in field or '"' in field or "\n" in field or "\r" in field:
        return quoted(field)
    return field
