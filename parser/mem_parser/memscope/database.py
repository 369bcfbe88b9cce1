"""Rows of `memscope_dump_*.db` as texts, in chunks, with the rowid of each.

A database is untrusted: we read a plain table only (no view, no virtual table, whose maker would
choose what runs), and write to one only where no trigger hangs on it.
"""

from __future__ import annotations

import os
import sqlite3
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from mem_parser.memscope.csvfile import CHUNK_ROWS, Chunk
from mem_parser.memscope.databasefile import Opening, check_unchanged, opening_of
from mem_parser.memscope.errors import DumpError
from mem_parser.memscope.form import COLUMNS, TABLES, header_places
from mem_parser.plainfile import NotPlainError, open_plain

MAGIC = b"SQLite format 3\0"
BUSY_S = 5.0
_ATTR = COLUMNS.index("Attr")
_ROWS_AT_ONCE = 500
"""Fewer than the values that any SQLite takes with a statement."""
_TEXT = partial(str, encoding="utf-8", errors="surrogateescape")


def is_database(path: str) -> bool:
    """Whether a file begins as a database does. Raises `DumpError` where it cannot be read."""
    with _opened(path) as handle:
        return _begins_as_one(handle)


def _begins_as_one(handle: int) -> bool:
    return os.pread(handle, len(MAGIC), 0) == MAGIC


@contextmanager
def _opened(path: str) -> Iterator[int]:
    """Open a file as bytes. Raises `DumpError`."""
    try:
        handle = open_plain(path)
        try:
            yield handle
        finally:
            os.close(handle)
    except NotPlainError as error:
        raise DumpError(f"{path}: {error.strerror}, not a file of rows") from error
    except DumpError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DumpError(f"{path}: {reason.lower()}") from error


@contextmanager
def connected(path: str, *, writable: bool = False) -> Iterator[sqlite3.Connection]:
    """Open a database that exists, without a transaction. Raises `DumpError`.

    Errors of SQLite inside the context are `DumpError`, too. A reader leaves nothing beside the
    database.
    """
    name = os.path.abspath(path)
    with _opened(path) as handle:
        if not _begins_as_one(handle):
            raise DumpError(f"{path}: not a SQLite database")
        way = Opening("mode=rw", None) if writable else opening_of(name, handle)
    try:
        yield from _tried(f"file:{urllib.parse.quote(name)}?{way.query}", writable=writable)
    except sqlite3.Error as error:
        raise DumpError(f"{path}: {error}") from error
    if way.before is not None:
        check_unchanged(path, way.before)


def _tried(uri: str, *, writable: bool) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None)
    try:
        connection.execute("PRAGMA trusted_schema=OFF")
        connection.execute("PRAGMA temp_store=MEMORY")
        if not writable:
            connection.execute("PRAGMA query_only=ON")
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
    names = []
    for _, name, kind, _, _, key in connection.execute(f'PRAGMA table_info("{table}")'):
        if name.lower() == "rowid" and not (key and kind.upper() == "INTEGER"):
            raise DumpError(f"{path}: {table} has a column {name}, which hides its row numbers")
        names.append(name)
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


def update_attributes(path: str, rowids: Iterable[int], changed: Callable[[int, str], str]) -> int:
    """Give some rows another Attr: all of them, or none where something fails.

    Args:
        path: a database.
        rowids: of the rows.
        changed: makes the new text from a rowid and the old text, in which bytes that are no UTF-8
            are surrogates. A row whose text stays is not written.

    Returns how many rows have a new text. Raises `DumpError`, also where a row is not there.
    """
    with connected(path, writable=True) as connection:
        table = table_of(connection, path)
        column = _quoted(columns_of(connection, table, path)[_ATTR] or "")
        hung = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger' LIMIT 1"
        ).fetchone()
        if hung is not None:
            raise DumpError(
                f"{path}: has a trigger ({hung[0]}), which would run; nothing was changed"
            )
        connection.text_factory = bytes
        connection.execute("BEGIN IMMEDIATE")
        try:
            count = 0
            wanted = sorted(rowids)
            for k in range(0, len(wanted), _ROWS_AT_ONCE):
                some = wanted[k : k + _ROWS_AT_ONCE]
                texts = _new_texts(connection, (table, column), some, changed)
                if texts is None:
                    raise DumpError(f"{path}: changed while it was read; nothing was written")
                connection.executemany(
                    f'UPDATE "{table}" SET {column} = CAST(? AS TEXT) WHERE rowid = ?',  # noqa: S608
                    texts,
                )
                count += len(texts)
            connection.execute("COMMIT" if count else "ROLLBACK")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    return count


def _new_texts(
    connection: sqlite3.Connection,
    place: tuple[str, str],
    rowids: Sequence[int],
    changed: Callable[[int, str], str],
) -> list[tuple[str | bytes, int]] | None:
    """Return the new texts, and the rowids, of rows whose text changes; None: one is not there."""
    table, column = place
    held = connection.execute(
        f'SELECT rowid, CAST({column} AS TEXT) FROM "{table}"'  # noqa: S608
        f" WHERE rowid IN ({','.join('?' * len(rowids))})",
        rowids,
    ).fetchall()
    if len(held) != len(rowids):
        return None
    texts = []
    for rowid, text in held:
        old = (text or b"").decode("utf-8", "surrogateescape")
        new = changed(rowid, old)
        if new != old:
            texts.append((_bound(new), rowid))
    return texts


def _bound(text: str) -> str | bytes:
    """Return a text as a statement takes it: bytes where some of it is no UTF-8."""
    if text.isascii():
        return text
    held = text.encode("utf-8", "surrogateescape")
    try:
        return held.decode("utf-8")
    except UnicodeDecodeError:
        return held
