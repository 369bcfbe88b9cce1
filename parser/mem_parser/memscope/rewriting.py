"""Another Attr in some rows of a dump: all of them change, or none; other bytes stay as they are.

Quotes tell where rows of CSV end: a line break outside of them ends one. Rows that nobody asked for
are copied unread.
"""

from __future__ import annotations

import contextlib
import csv
import os
import re
import stat
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from mem_parser.memscope import csvfile, database
from mem_parser.memscope.attributes import with_labels
from mem_parser.memscope.form import COLUMNS, DumpError
from mem_parser.memscope.rows import IntArray
from mem_parser.output_path import find_place, new_file

Change = Callable[[int, str], str]
"""Makes the new text of an Attr from the number of its row and the old one."""
CHUNK_BYTES = 4 << 20
ROW_MAX_BYTES = csvfile.LINE_MAX_CHARS
_FIELD = rb'(?:"[^"]*(?:""[^"]*)*"|(?!")[^,\r\n]*)'
_LF, _CR, _QUOTE = b'\n\r"'
_BESIDE_QUOTES = np.isin(np.arange(256), list(b',\n\r"'))
"""What is outside of a pair of quotes in a field that is quoted as a whole."""


def change_attributes(path: str, places: Collection[int], changed: Change) -> int:
    """Give some rows another Attr; returns how many have a new text.

    A file without a change is not written. A database changes in one transaction. A CSV file is
    written beside its place and renamed: it keeps its permissions and, where we may give it away,
    its owner. Raises `DumpError`, OSError.
    """
    if not places:
        return 0
    if database.is_database(path):
        return database.update_attributes(path, places, changed)
    count = 0

    def counted(place: int, old: str) -> str:
        nonlocal count
        new = changed(place, old)
        count += new != old
        return new

    with _replacement(path) as file:
        file.writelines(rewritten(path, places, counted))
        if not count:
            raise _UnchangedError
    return count


def add_labels(path: str, labels: Mapping[int, Sequence[str]]) -> int:
    """Add labels to rows, given by their places; returns how many rows changed.

    Labels that a row has already stay, and are there once. Raises `DumpError`, OSError.
    """
    return change_attributes(path, labels, lambda place, old: with_labels(old, labels[place]))


class _UnchangedError(Exception):
    """Ends the making of a file that would be the same."""


@contextlib.contextmanager
def _replacement(path: str) -> Iterator[BinaryIO]:
    """Give a file to write, which takes the place of the one there at the end of the context.

    An error leaves that one as it is; `_UnchangedError` does so silently.
    """
    with find_place(path) as place:
        if place.status is None or not stat.S_ISREG(place.status.st_mode):
            raise DumpError(f"{path}: is no file any more; nothing was written")
        handle, temporary = new_file(place.folder, place.name)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                with contextlib.suppress(OSError):
                    os.fchown(handle, place.status.st_uid, place.status.st_gid)
                os.fchmod(handle, stat.S_IMODE(place.status.st_mode) & 0o777)
                os.fsync(handle)
            os.rename(temporary, place.name, src_dir_fd=place.folder, dst_dir_fd=place.folder)
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=place.folder)
            if not isinstance(error, _UnchangedError):
                raise


def rewritten(path: str, places: Collection[int], changed: Change) -> Iterator[bytes]:
    """Yield the bytes of a CSV file, in pieces, with the Attr of some rows changed.

    ``places`` are numbers of rows, from 1 on. A row whose text stays the same stays as it is.
    Raises `DumpError`.
    """
    wanted = np.array(sorted(set(places)), dtype=np.int64)
    with csvfile.opened(path) as text:
        column = csvfile.header(csvfile.checked(csvfile.reader_of(text), path), path)
        edit = _Edit(path, column[COLUMNS.index("Attr")] or 0, changed)
        file = text.buffer
        file.seek(0)
        held, done = b"", 0
        while len(wanted):
            more = file.read(CHUNK_BYTES)
            held += more
            ends = row_ends(held, is_all=not more)
            if not len(ends):
                if not more or len(held) > ROW_MAX_BYTES:
                    raise DumpError(f"{path}: changed while it was read")
                continue
            starts = np.concatenate(([0], ends[:-1]))
            first = np.frombuffer(held, np.uint8)[starts]
            # Empty lines are no rows; the header is row 0.
            rows = np.flatnonzero((first != _LF) & (first != _CR))
            here = rows[wanted[: np.searchsorted(wanted, done + len(rows))] - done]
            told = 0
            parts: list[bytes] = []
            numbers, wanted = wanted[: len(here)], wanted[len(here) :]
            spans = (numbers.tolist(), starts[here].tolist(), ends[here].tolist())
            for number, begin, end in zip(*spans):  # noqa: B905 - Python 3.9
                found = edit.of(number, held, begin, end)
                if found is not None:
                    parts += held[told : found[0]], found[1]
                    told = found[2]
            parts.append(held[told : ends[-1]])
            yield b"".join(parts)
            held, done = held[ends[-1] :], done + len(rows)
        yield held
        yield from iter(partial(file.read, CHUNK_BYTES), b"")


class _Edit:
    """Changes the field of rows that is the ``column``-th, from 0 on."""

    def __init__(self, path: str, column: int, changed: Change) -> None:
        self._path, self._column, self._changed = path, column, changed
        self._field = re.compile(rb"(?:%b,){%d}(%b)(?=[,\r\n]|$)" % (_FIELD, column, _FIELD))

    def of(self, number: int, data: bytes, begin: int, end: int) -> tuple[int, bytes, int] | None:
        """Return which bytes change, and to what; None: the row of these bytes stays as it is."""
        found = self._field.match(data, begin, end)
        if found is not None:
            text = found[1].decode("utf-8", "surrogateescape")
            old = text[1:-1].replace('""', '"') if text[:1] == '"' else text
            new = self._changed(number, old)
            return (
                None
                if new == old
                else (found.start(1), _encoded(csvfile.quoted(new)), found.end(1))
            )
        lines = data[begin:end].decode("utf-8", "surrogateescape").splitlines(keepends=True)
        with csvfile.long_fields():
            row = next(csv.reader(lines))
        if len(row) <= self._column:
            raise DumpError(f"{self._path}: changed while it was read")
        new = self._changed(number, row[self._column])
        if new == row[self._column]:
            return None
        row[self._column] = new
        ending = "\r\n" if data[begin:end].endswith(b"\r\n") else "\n"
        return begin, _encoded(csvfile.row_text(row, self._column) + ending), end


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def row_ends(data: bytes, *, is_all: bool) -> IntArray:
    """Return where rows end in bytes that begin with one; ``is_all``: nothing is behind them."""
    held = np.frombuffer(b"\n" + data + b"\n", np.uint8)
    quotes = np.flatnonzero(held == _QUOTE)
    beside = np.concatenate((held[quotes[::2] - 1], held[quotes[1::2] + 1]))
    if not _BESIDE_QUOTES[beside].all():
        quotes = _dividing(held, quotes)
    breaks = np.flatnonzero(held[1:-1] == _LF) + 1
    if b"\r" in data:
        alone = np.flatnonzero((held[1:-2] == _CR) & (held[2:-1] != _LF)) + 1
        breaks = np.sort(np.concatenate((breaks, alone)))
    ends: IntArray = breaks[np.searchsorted(quotes, breaks) % 2 == 0]
    if is_all and len(data) and (not len(ends) or ends[-1] < len(data)):
        ends = np.append(ends, len(data))
    return ends


def _dividing(held: npt.NDArray[np.uint8], quotes: IntArray) -> IntArray:
    """Return which quotes begin and end a quoted part: others are text of fields."""
    found: list[int] = []
    text = -1
    for at in quotes.tolist():
        is_open = len(found) % 2 == 1
        if at == text:
            continue
        if is_open and held[at + 1] == _QUOTE:
            text = at + 1
        elif is_open or held[at - 1] in b",\n\r":
            found.append(at)
    return np.array(found, dtype=np.int64)
