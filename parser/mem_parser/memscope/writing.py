"""Write dumps while rows come: rows of blocks in columns, others one by one.

Rows wait until those of blocks come, so that a call formats many and writes once. A file that was
begun holds whole rows at any moment (CSV), or what was committed (a database). Where the disk is
full, a CSV file is cut back to its last whole row.
"""

from __future__ import annotations

import contextlib
import csv
import os
import sqlite3
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import chain, repeat
from pathlib import Path
from typing import Any, NamedTuple, Union

import numpy as np
import numpy.typing as npt

from mem_parser.errors import FULL, DiskFull, MemError, reason_of
from mem_parser.memscope.attributes import as_csv, as_json, safe
from mem_parser.memscope.csvfile import end_of_rows, plain_or_quoted, quoted
from mem_parser.memscope.database import BUSY_S
from mem_parser.memscope.form import COLUMNS, NOTHING, SQL_TYPES, TABLE
from mem_parser.memscope.linetext import Choice, Constant, Decimal, Hexadecimal, Piece, joined

FILE_MODE = 0o640
_TIME = 4
"""The column with the time."""
_SHORT_BYTES = 64
_ROWS_OF_STATEMENT = 64
IntArray = npt.NDArray[np.int64]
Values = tuple[Any, ...]
"""The columns of a row without Attr."""
Tail = Any
"""Both stacks of a row, as a file has them."""
Column = Union[list[Any], str, int]  # noqa: UP007 - Python 3.9 evaluates it
"""Values of a column, or the one that all rows have."""


class Form(NamedTuple):
    """What rows of blocks of one kind have in common; ``keys`` are those of Attr behind the size,
    with at most one place for a number: `used:%d`.
    """

    event: str
    kind: str
    device: str
    pid: int
    keys: str


@dataclass
class BlockRows:
    """Rows of blocks, in the order of their IDs: columns of one length.

    ``form`` is a number that `Sink.form` gave, ``tail`` a place in the list of tails.
    """

    id: IntArray
    form: IntArray
    time_ns: IntArray
    tid: IntArray
    address: npt.NDArray[np.uint64]
    allocation: IntArray
    size: npt.NDArray[np.uint64]
    used: npt.NDArray[np.uint64]
    tail: IntArray
    suffix: IntArray
    """Place in ``suffixes``."""
    suffixes: Sequence[str] = ("",)
    """Further keys and values of Attr, as CSV has them."""
    owners: dict[int, str] = field(default_factory=dict)
    """By place in the columns."""

    def __len__(self) -> int:
        return len(self.id)

    def take(self, index: IntArray) -> BlockRows:
        """Return some rows, by their places in ascending order."""
        owners = {}
        if self.owners:
            places = {place: k for k, place in enumerate(index.tolist())}
            owners = {places[k]: name for k, name in self.owners.items() if k in places}
        columns = {f.name: getattr(self, f.name)[index] for f in fields(self)[:-2]}
        return BlockRows(**columns, suffixes=self.suffixes, owners=owners)

    @property
    def has_suffixes(self) -> bool:
        """Whether any row has further keys."""
        return len(self.suffixes) > 1


def no_blocks() -> BlockRows:
    """Return no rows."""
    none = np.zeros(0, dtype=np.int64)
    unsigned = none.astype(np.uint64)
    return BlockRows(none, none, none, none, unsigned, none, unsigned, unsigned, none, none)


class Kept(NamedTuple):
    """So many rows, and the time of the last one, of CLOCK_MONOTONIC."""

    rows: int
    last_ns: int

    def text(self, path: str, real_offset_ns: int) -> str:
        """Return what there is, for a line."""
        if not self.rows:
            return f"{path} has no row"
        seconds = (self.last_ns + real_offset_ns) // 1_000_000_000
        until = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
        return f"{path} has {self.rows} rows, to {until}"


class Sink(ABC):
    """A file that nobody had before: its forms of rows, and its rows of other kinds that wait."""

    def __init__(self, path: str) -> None:
        """Make it. Raises `MemError`."""
        self.path = path
        self.count = 0
        """How many rows it has, with those that wait."""
        self.forms: list[Form] = []
        self._ids: list[int] = []
        self._rows: list[Any] = []
        self._handle = _made(path)

    @staticmethod
    @abstractmethod
    def tail(python: str, c: str) -> Tail:
        """Return both stacks as the file has them."""

    @abstractmethod
    def add(self, number: int, row: Values, attributes: Mapping[str, object]) -> None:
        """Take a row of any kind, whose ID is higher than those before; ``row`` begins with it."""

    @abstractmethod
    def write_blocks(self, blocks: BlockRows, tails: Sequence[Tail]) -> IntArray:
        """Write rows of blocks, and those that wait, in the order of their IDs. Returns the number
        in the file of each row of a block, from 1 on. Raises OSError, sqlite3.Error.
        """

    @abstractmethod
    def kept(self) -> Kept:
        """Return the content of the file after a failure. Raises OSError, sqlite3.Error."""

    @abstractmethod
    def close(self) -> None:
        """Write what waits, and close; a second call does nothing."""

    def flush(self) -> None:
        """Write the rows that wait."""
        if self._rows:
            self.write_blocks(no_blocks(), ())

    def form(self, form: Form) -> int:
        """Return the number of a form."""
        self.forms.append(form)
        return len(self.forms) - 1

    def _wait(self, number: int, row: Any) -> None:
        self.count += 1
        self._ids.append(number)
        self._rows.append(row)

    def _places(self, ids: IntArray) -> tuple[IntArray, list[int]]:
        """Return the number in the file of each row of a block, and before which of these the rows
        that wait come.
        """
        before = self.count - len(self._ids)
        self.count += len(ids)
        waiting = np.array(self._ids, dtype=np.int64)
        numbers = before + 1 + np.arange(len(ids)) + np.searchsorted(waiting, ids)
        return numbers, np.searchsorted(ids, waiting).tolist()

    def _merged(self, rows: Sequence[Any], places: Sequence[int], width: int = 1) -> Iterable[Any]:
        """Yield rows, of ``width`` parts each, with those that wait between them."""
        waiting, self._rows = self._rows, []
        self._ids = []
        parts: list[Iterable[Any]] = []
        low = 0
        for place, row in zip(places, waiting, strict=True):
            if place > low:
                parts.append(rows[low * width : place * width])
                low = place
            parts.append((row,))
        parts.append(rows[low * width :])
        return chain.from_iterable(parts)


def _made(path: str) -> int:
    """Make a file that does not exist. Raises `MemError`."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags, FILE_MODE)
    except (OSError, ValueError) as error:
        kind = DiskFull if is_full(error) else MemError
        raise kind(f"cannot write {path}: {reason_of(error)}") from error


class CsvSink(Sink):
    """A CSV file. Raises `MemError`, OSError."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        try:
            self._put(encoded(",".join(COLUMNS) + "\n"))
        except OSError:
            os.unlink(path)
            raise

    def _put(self, rows: bytes) -> None:
        """Write rows; after a failure, none. Raises OSError."""
        try:
            write_whole(self._handle, rows)
        except OSError:
            self._shut()
            raise

    def _shut(self) -> None:
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)

    def kept(self) -> Kept:
        """Return what the file has. Raises OSError."""
        return kept_in_csv(self.path)

    @staticmethod
    def tail(python: str, c: str) -> bytes:
        """Return the values of the keys of Attr."""
        return encoded(f'}}",{plain_or_quoted(python)},{plain_or_quoted(c)}\n')

    def add(self, number: int, row: Values, attributes: Mapping[str, object]) -> None:
        """Take a row of any kind."""
        _, event, kind, name, time_ns, pid, tid, device, address, python, c = row
        shown = quoted(name) if event == "MSTX" else plain_or_quoted(name)
        ptr = NOTHING if address is None else f"0x{address:016x}"
        line = (
            f"{number},{event},{plain_or_quoted(kind)},{shown},{time_ns},{pid},{tid},{device},{ptr},"
            f"{quoted(as_csv(attributes))},{plain_or_quoted(python)},{plain_or_quoted(c)}\n"
        )
        self._wait(number, encoded(line))

    def write_blocks(self, blocks: BlockRows, tails: Sequence[bytes]) -> IntArray:
        """Write rows of blocks, and those that wait."""
        numbers, places = self._places(blocks.id)
        if not len(blocks):
            self._put(b"".join(self._merged([], places)))
            return numbers
        pieces = self._pieces(blocks)
        only = tails[int(blocks.tail[0])]
        if not places and not blocks.owners and _is_short(only) and _is_constant(blocks.tail):
            self._put(joined(pieces, len(blocks), only))
            return numbers
        lines = joined(pieces, len(blocks), b"\n").split(b"\n")
        parts: list[bytes] = [b""] * (2 * len(blocks))
        parts[::2] = lines[:-1]
        parts[1::2] = [tails[k] for k in blocks.tail.tolist()]
        for k, owner in blocks.owners.items():
            parts[2 * k] += encoded(quoted(f",owner:{safe(owner)}")[1:-1])
        self._put(b"".join(self._merged(parts, places, 2)))
        return numbers

    def _pieces(self, blocks: BlockRows) -> list[Piece]:
        forms, form = self.forms, blocks.form
        halves = [_halves(one.keys) for one in forms]
        numbered = np.array(["%d" in one.keys for one in forms])
        return [
            Decimal(blocks.id),
            Choice([f",{one.event},{one.kind},{NOTHING}," for one in forms], form),
            Decimal(blocks.time_ns),
            Choice([f",{one.pid}," for one in forms], form),
            Decimal(blocks.tid),
            Choice([f",{one.device},0x" for one in forms], form),
            Hexadecimal(blocks.address, full=True),
            Constant(',"{allocation_id:'),
            Decimal(blocks.allocation),
            Constant(",addr:0x"),
            Hexadecimal(blocks.address, full=False),
            Constant(",size:"),
            Decimal(blocks.size),
            Choice([f",{before}" for before, _ in halves], form),
            Decimal(blocks.used, numbered[form]),
            *_suffix_pieces(blocks, lambda keys: keys),
        ]

    def close(self) -> None:
        """Write them, and close; a second call does nothing."""
        if self._handle >= 0:
            self.flush()
        self._shut()


class DatabaseSink(Sink):
    """A database. Raises `MemError`, sqlite3.Error."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        os.close(self._handle)
        self._connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
        try:
            self._begin()
        except BaseException:
            self._connection.close()
            for name in (path, f"{path}-wal", f"{path}-shm"):
                Path(name).unlink(missing_ok=True)
            raise
        self._insert = f'INSERT INTO "{TABLE}" VALUES ({",".join("?" * len(COLUMNS))})'  # noqa: S608

    def _begin(self) -> None:
        run = self._connection.execute
        run("PRAGMA journal_mode=WAL")
        run("PRAGMA synchronous=OFF")
        run("PRAGMA temp_store=MEMORY")
        pairs = ", ".join(f'"{c}" {t}' for c, t in _pairs())
        run(f'CREATE TABLE "{TABLE}" ({pairs})')

    def kept(self) -> Kept:
        """Return what was committed. Raises sqlite3.Error."""
        query = f'SELECT count(*), max("Timestamp(ns)") FROM "{TABLE}"'  # noqa: S608
        rows, last_ns = self._connection.execute(query).fetchone()
        return Kept(rows, last_ns or 0)

    def _many(self, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Write rows, in one transaction."""
        with self._transaction():
            self._connection.executemany(statement, rows)

    def _columns(self, columns: Sequence[Column], count: int) -> None:
        """Write rows that are given in columns, many with each statement, in one transaction: half
        of a row's cost is that of its statement.
        """
        row = f"({','.join('?' if isinstance(c, list) else _literal(c) for c in columns)})"
        held = [column for column in columns if isinstance(column, list)]
        whole = count - count % _ROWS_OF_STATEMENT
        values = chain.from_iterable(zip(*(column[:whole] for column in held), strict=True))
        together = [values] * (len(held) * _ROWS_OF_STATEMENT)
        into = f'INSERT INTO "{TABLE}" VALUES '  # noqa: S608
        with self._transaction():
            many = self._connection.executemany
            many(into + ",".join([row] * _ROWS_OF_STATEMENT), zip(*together, strict=True))
            many(into + row, zip(*(column[whole:] for column in held), strict=True))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        run = self._connection.execute
        run("BEGIN")
        try:
            yield
            run("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                run("ROLLBACK")
            raise

    @staticmethod
    def tail(python: str, c: str) -> tuple[str, str]:
        """Return both stacks."""
        return python, c

    def add(self, number: int, row: Values, attributes: Mapping[str, object]) -> None:
        """Take a row of any kind."""
        address = NOTHING if row[8] is None else f"0x{row[8]:016x}"
        self._wait(number, (*row[:8], address, as_json(attributes), *row[9:]))

    def write_blocks(self, blocks: BlockRows, tails: Sequence[tuple[str, str]]) -> IntArray:
        """Write rows of blocks, and those that wait, in one transaction."""
        numbers, places = self._places(blocks.id)
        if len(blocks) and not places:
            self._columns(self._columns_of(blocks, tails), len(blocks))
            return numbers
        rows: list[Values] = []
        if len(blocks):
            every = (
                c if isinstance(c, list) else repeat(c) for c in self._columns_of(blocks, tails)
            )
            rows = list(zip(*every))  # noqa: B905 - constants have no end
        self._many(self._insert, self._merged(rows, places))
        return numbers

    def _columns_of(self, blocks: BlockRows, tails: Sequence[tuple[str, str]]) -> list[Column]:
        texts = joined(self._pieces(blocks), len(blocks), b"").decode("ascii").split("\n")
        attributes = texts[1::2]
        for k, owner in blocks.owners.items():
            attributes[k] = f"{attributes[k][:-1]},{as_json({'owner': owner})[1:]}"
        python, c = (_chosen([tail[k] for tail in tails], blocks.tail) for k in (0, 1))
        event, kind, device, pid = (
            _chosen([form[k] for form in self.forms], blocks.form) for k in range(4)
        )
        return [
            blocks.id.tolist(), event, kind, NOTHING, blocks.time_ns.tolist(), pid,
            blocks.tid.tolist(), device, texts[:-1:2], attributes, python, c,
        ]  # fmt: skip

    def _pieces(self, blocks: BlockRows) -> list[Piece]:
        """Two lines for each row: its address, and its Attr."""
        forms, form = self.forms, blocks.form
        halves = [_halves(_json_pairs(one.keys)) for one in forms]
        numbered = np.array(["%d" in one.keys for one in forms])
        return [
            Constant("0x"),
            Hexadecimal(blocks.address, full=True),
            Constant('\n{"allocation_id":"'),
            Decimal(blocks.allocation),
            Constant('","addr":"0x'),
            Hexadecimal(blocks.address, full=False),
            Constant('","size":"'),
            Decimal(blocks.size),
            Choice([f'",{before}' for before, _ in halves], form),
            Decimal(blocks.used, numbered[form]),
            Choice([behind for _, behind in halves], form),
            *_suffix_pieces(blocks, _json_pairs),
            Constant("}\n"),
        ]

    def close(self) -> None:
        """Write them, and close; a second call does nothing."""
        self.flush()
        self._connection.close()


def _halves(keys: str) -> tuple[str, str]:
    """Return the keys before and behind the number, if they have one."""
    before, _, behind = keys.partition("%d")
    return before, behind


def _is_short(tail: bytes) -> bool:
    """Whether a tail can be a piece of lines."""
    return len(tail) <= _SHORT_BYTES and b"\0" not in tail


def _is_constant(column: IntArray) -> bool:
    return bool((column == column[0]).all())


def _chosen(values: Sequence[Any], numbers: IntArray) -> Column:
    """Return a column of values, by their numbers: one value where all are the same short one."""
    present = [values[k] for k in np.flatnonzero(np.bincount(numbers)).tolist()]
    first: str | int = present[0]
    short = isinstance(first, int) or (len(first) <= _SHORT_BYTES and "\0" not in first)
    if short and present.count(first) == len(present):
        return first
    return [values[k] for k in numbers.tolist()]


def _suffix_pieces(blocks: BlockRows, spell: Callable[[str], str]) -> list[Piece]:
    """Return the piece of the further keys, in the form of a file, where there are any."""
    if not blocks.has_suffixes:
        return []
    texts = [f",{spell(keys)}" if keys else "" for keys in blocks.suffixes]
    return [Choice(texts, blocks.suffix)]


def _json_pairs(keys: str) -> str:
    pairs = (part.partition(":") for part in keys.split(","))
    return ",".join(f'"{key}":"{value}"' for key, _, value in pairs)


def _literal(value: str | int) -> str:
    """Return a constant of ours as SQL has it."""
    return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"


def _pairs() -> Iterable[tuple[str, str]]:
    return ((name, SQL_TYPES[k]) for k, name in enumerate(COLUMNS))


def encoded(text: str) -> bytes:
    """Return a text as the files have it: bytes that were no UTF-8 are as they were."""
    return text.encode("utf-8", "surrogateescape")


def is_full(error: BaseException) -> bool:
    """Whether an error says that the disk is full, or that a file may not grow any more."""
    if isinstance(error, OSError):
        return error.errno in FULL
    # A write-ahead log that cannot grow is an error of the file for SQLite in some versions.
    return isinstance(error, sqlite3.Error) and "disk is full" in str(error)


def write_whole(fd: int, data: bytes) -> None:
    """Write rows; where that fails, the file ends with the last whole one. Raises OSError."""
    view, done = memoryview(data), 0
    try:
        while done < len(data):
            done += os.write(fd, view[done:])
    except OSError:
        begin = os.lseek(fd, 0, os.SEEK_CUR) - done
        end = end_of_rows(data, done)
        os.ftruncate(fd, begin + end)
        raise


def kept_in_csv(path: str) -> Kept:
    """Count the rows of a file of ours. Raises OSError."""
    csv.field_size_limit(sys.maxsize)
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file)
        next(reader, None)
        rows, last = 0, ["0"] * (_TIME + 1)
        for last in reader:  # noqa: B007 - the last one is used
            rows += 1
    return Kept(rows, int(last[_TIME]))
