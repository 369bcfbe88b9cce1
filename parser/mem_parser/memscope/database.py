"""Rows of `memscope_dump_*.db` as texts, in chunks, with the rowid of each.

A database is untrusted: we read a plain table only (no view, no virtual table, whose maker would
choose what runs), and write to one only where no trigger hangs on it.
"""

from __future__ import annotations

import os
import sqlite3
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from mem_parser.memscope.csvfile import CHUNK_ROWS, Chunk
from mem_parser.memscope.errors import DumpError
from mem_parser.memscope.form import COLUMNS, TABLES, header_places
from mem_parser.plainfile import NotPlainError, open_plain

MAGIC = b"SQLite format 3\0"
BUSY_S = 5.0
_TEXT = partial(str, encoding="utf-8", errors="surrogateescape")


def is_database(path: str) -> bool:
    """Whether a file begins as a database does. Raises `DumpError` where it cannot be read."""
    try:
        handle = open_plain(path)
        try:
            return os.pread(handle, len(MAGIC), 0) == MAGIC
        finally:
            os.close(handle)
    except NotPlainError as error:
        raise DumpError(f"{path}: {error.strerror}, not a file of rows") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DumpError(f"{path}: {reason.lower()}") from error


@contextmanager
def connected(path: str, *, writable: bool = False) -> Iterator[sqlite3.Connection]:
    """Open a database that exists, without a transaction. Raises `DumpError`.

    Errors of SQLite inside the context are `DumpError`, too.
    """
    if not is_database(path):
        raise DumpError(f"{path}: not a SQLite database")
    name = urllib.parse.quote(os.path.abspath(path))
    try:
        yield from _tried(f"file:{name}?mode={'rw' if writable else 'ro'}")
    except sqlite3.Error as error:
        raise DumpError(f"{path}: {error}") from error


def _tried(uri: str) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None)
    try:
        connection.execute("PRAGMA trusted_schema=OFF")
        connection.execute("PRAGMA temp_store=MEMORY")
        connection.text_factory = _TEXT
        yield connection
    finally:
        connection.close()


def table_of(connection: sqlite3.Connection, path: str) -> str:
    """Return the name of the table of rows. Raises `DumpError` where there is none."""
    for name in TABLES:
        found = connection.execute(
            "SELECT type, sql FROM sqlite_master WHERE name = ?", (name,)
        ).fetchone()
        if found is None:
            continue
        if found[0] != "table" or not str(found[1]).upper().startswith("CREATE TABLE"):
            raise DumpError(f"{path}: {name} is no plain table")
        return name
    raise DumpError(f"{path}: no table {TABLES[0]}", hint="is it a file of another program?")


def columns_of(connection: sqlite3.Connection, table: str, path: str) -> list[str | None]:
    """Return the table's own name of each of `form.COLUMNS`; None for stacks that it lacks."""
    names = [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')]
    places, missing = header_places(names)
    if missing:
        raise DumpError(f"{path}: table {table} has no column {', '.join(missing)}")
    return [None if place is None else names[place] for place in places]


def chunks(path: str, *, stacks: bool, chunk_rows: int = CHUNK_ROWS) -> Iterator[Chunk]:
    """Yield the rows of a database in the order of their rowids; without ``stacks`` those columns
    are empty. Raises `DumpError`.
    """
    with connected(path) as connection:
        table = table_of(connection, path)
        names = columns_of(connection, table, path)
        wanted = [name if k < len(COLUMNS) - 2 or stacks else None for k, name in enumerate(names)]
        shown = ",".join("''" if name is None else _quoted(name) for name in wanted)
        query = f'SELECT rowid,{shown} FROM "{table}" WHERE rowid >= ? ORDER BY rowid'  # noqa: S608
        first = -(1 << 63)
        connection.text_factory = str
        while True:
            try:
                rows = connection.execute(query, (first,))
                while some := rows.fetchmany(chunk_rows):
                    places, *columns = zip(*some)  # noqa: B905 - Python 3.9
                    yield Chunk(list(columns), places)
                    first = places[-1] + 1
                return
            except sqlite3.OperationalError:
                # A text that is no UTF-8, perhaps: the usual way is twice as fast, and stops there.
                if connection.text_factory is _TEXT:
                    raise
                connection.text_factory = _TEXT


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def row_of(path: str, rowid: int) -> list[object]:
    """Return the values of one row, in the order of `form.COLUMNS`."""
    with connected(path) as connection:
        table = table_of(connection, path)
        names = columns_of(connection, table, path)
        shown = ",".join("''" if name is None else _quoted(name) for name in names)
        found = connection.execute(f'SELECT {shown} FROM "{table}" WHERE rowid = ?', (rowid,))  # noqa: S608
        return list(found.fetchone() or [""] * len(COLUMNS))


def update_attributes(path: str, changes: dict[int, str]) -> None:
    """Give some rows, by rowid, another Attr: all of them, or none where something fails.

    Raises `DumpError`.
    """
    with connected(path, writable=True) as connection:
        table = table_of(connection, path)
        column = columns_of(connection, table, path)[COLUMNS.index("Attr")]
        hung = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger' LIMIT 1"
        ).fetchone()
        if hung is not None:
            raise DumpError(
                f"{path}: has a trigger ({hung[0]}), which would run; nothing was changed"
            )
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.executemany(
                f'UPDATE "{table}" SET {_quoted(column or "")} = ? WHERE rowid = ?',  # noqa: S608
                [(text, rowid) for rowid, text in changes.items()],
            )
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
