"""Write dumps and the files beside them, while rows come.

Rows are taken many at a time: a call formats them all and writes once. A file that was begun holds
whole rows at any moment (CSV), or what was committed (a database).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Union

from mem_parser.errors import DiskFull, MemError
from mem_parser.memscope.attributes import Template
from mem_parser.memscope.csvfile import plain_or_quoted, quoted, row_text
from mem_parser.memscope.database import BUSY_S
from mem_parser.memscope.form import (
    COLUMNS,
    COMPARE_LINES,
    NOTHING,
    SQL_TYPES,
    TABLE,
)
from mem_parser.memscope.kept import Kept, is_full, kept_in_csv, write_whole

if TYPE_CHECKING:
    from typing import Self

FILE_MODE = 0o640
_MEMORY_WORDS = 1 << 16
_ROWS_OF_STATEMENT = 64
Column = Union[list[Any], str, int]  # noqa: UP007 - Python 3.9 evaluates it
"""Values of a column, or the one that all rows have."""
_ROW = '%d,%s,%s,%s,%d,%s,%s,%s,%s,"%s",%s,%s\n'


class Row(NamedTuple):
    """One event, in the order of `form.COLUMNS`."""

    id: int
    event: str
    type: str
    name: str
    time_ns: int
    pid: int
    tid: int | str
    device: str
    address: int | None
    """None: written as `N/A`."""
    attributes: tuple[Sequence[str], Sequence[object]]
    """Keys and values. Rows of one kind should share the tuple of keys: it is looked up."""
    python_stack: str = ""
    c_stack: str = ""


class _Quoted(dict[str, str]):
    """Fields and how they are written; names and stacks come again and again."""

    def __missing__(self, field: str) -> str:
        if len(self) > _MEMORY_WORDS:
            self.clear()
        text = self[field] = plain_or_quoted(field)
        return text


class _Attributes:
    """The texts of Attr, by their keys."""

    def __init__(self, *, for_database: bool) -> None:
        self._for_database = for_database
        self._templates: dict[Sequence[str], Template] = {}

    def text(self, attributes: tuple[Sequence[str], Sequence[object]]) -> str:
        keys, values = attributes
        try:
            template = self._templates[keys]
        except KeyError:
            template = Template(keys, for_database=self._for_database)
            self._templates[keys] = template
        return template.text(values)


class _NewFile:
    """A file that nobody had before: made by us, for rows. It never ends within one of them."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._handle = _made(path)

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

    def close(self) -> None:
        """Close it; a second call does nothing."""
        self._shut()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()


def _made(path: str) -> int:
    """Make a file that does not exist. Raises `MemError`."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags, FILE_MODE)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        kind = DiskFull if is_full(error) else MemError
        raise kind(f"cannot write {path}: {reason.lower()}") from error


class CsvWriter(_NewFile):
    """Writes a `memscope_dump_*.csv`. The name must be free. Raises `MemError`, OSError."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        try:
            self._put(encoded(",".join(COLUMNS) + "\n"))
        except OSError:
            os.unlink(path)
            raise
        self._quoted = _Quoted()
        self._attributes = _Attributes(for_database=False)

    def write(self, rows: Iterable[Row]) -> None:
        """Write rows."""
        words, attributes = self._quoted, self._attributes.text
        lines = [
            _ROW
            % (
                number,
                event,
                kind,
                words[name] if event != "MSTX" else quoted(name),
                time_ns,
                pid,
                tid,
                device,
                NOTHING if address is None else f"0x{address:016x}",
                attributes(held).replace('"', '""'),
                words[python],
                words[c],
            )
            for (
                number,
                event,
                kind,
                name,
                time_ns,
                pid,
                tid,
                device,
                address,
                held,
                python,
                c,
            ) in rows
        ]
        self._put(encoded("".join(lines)))

    def kept(self) -> Kept:
        """Return what the file has. Raises OSError."""
        return kept_in_csv(self.path)


def encoded(text: str) -> bytes:
    """Return a text as the files have it: bytes that were no UTF-8 are as they were."""
    return text.encode("utf-8", "surrogateescape")


class DatabaseWriter:
    """Writes a `memscope_dump_*.db`. The name must be free. Raises `MemError`, sqlite3.Error.

    Each call of `write` is one transaction.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        os.close(_made(path))
        self._attributes = _Attributes(for_database=True)
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

    def write(self, rows: Iterable[Row]) -> None:
        """Write rows."""
        attributes = self._attributes.text
        self._many(
            self._insert,
            [
                (
                    *row[:8],
                    NOTHING if row[8] is None else f"0x{row[8]:016x}",
                    attributes(row[9]),
                    row[10],
                    row[11],
                )
                for row in rows
            ],
        )

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

    def close(self) -> None:
        """Bring the log of SQLite into the file, and close; a second call does nothing."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()


def _literal(value: str | int) -> str:
    """Return a constant of ours as SQL has it."""
    return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"


def _pairs() -> Iterable[tuple[str, str]]:
    return ((name, SQL_TYPES[k]) for k, name in enumerate(COLUMNS))


def compare_lines(rows: Iterable[Sequence[object]]) -> Iterable[str]:
    """Yield the lines of a `memory_compare_*.csv`: event, name, device, base, compare, difference.

    The first header line ends behind its last word, as the tool writes it.
    """
    for header in COMPARE_LINES:
        yield ",".join(header) + "\n"
    for row in rows:
        yield row_text([str(field) for field in row]) + "\n"
