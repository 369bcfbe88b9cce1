"""Rows of `memscope_dump_*.db` as texts, in chunks, with the rowid of each.

A database is untrusted: we read a plain table only (no view, no virtual table, no computed column,
whose maker would choose what runs), and write to one only where nothing of its maker's runs at a
change: no trigger, no check, no index of an expression. A few bytes of it may stand for many (a
default text that every row has, pages that many rows share), so SQL measures values before they are
fetched, and all of them count against the file's allowance.

A reader leaves no file beside it. A database in WAL mode has its newest rows in NAME-wal, and
SQLite makes this file and NAME-shm for each reader. A connection that may not write cannot remove
them at its end. So:

    NAME-wal has rows       read only: a program writes, or was killed; SQLite takes them from there
    it has none, ours       as a writer would open it, without writing: SQLite removes what it made
    it has none, another's  as a file that nobody changes, and a check at the end that nobody did
    another journal         read only: SQLite makes nothing

A journal of a killed program may name another file, which SQLite removes once it has taken the
changes of that program back. None of ours does, so whoever forged one chooses what is removed.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

from mem_parser.allowance import AllowanceExceeded, MemoryAllowance
from mem_parser.escape import shell_word
from mem_parser.memscope.csvfile import CHUNK_MAX_CHARS, CHUNK_ROWS, LINE_MAX_CHARS, Chunk, refused
from mem_parser.memscope.form import COLUMNS, TABLES, DumpError, header_places
from mem_parser.plainfile import PlainFile, open_plain, stored_bytes

MAGIC = b"SQLite format 3\0"
BUSY_S = 5.0
_ATTR = COLUMNS.index("Attr")
_STACKS = len(COLUMNS) - 2
NAMED_MAX = 500
"""Fewer rows than the values that any SQLite takes with a statement."""
ROW_MAX_BYTES = LINE_MAX_CHARS
"""As long as a line of a CSV file may be."""
KEPT_BYTES = 128
"""What a row costs in columns of numbers."""
_VALUE_MAX_BYTES = 4 * ROW_MAX_BYTES
"""More than any block of rows that we ask for; Python below 3.11 leaves SQLite its own limit."""
FIRST_ROWID, LAST_ROWID = -(1 << 63), (1 << 63) - 1
_EXPRESSION = -2
"""In `PRAGMA index_xinfo`, in the place of the number of a column."""
_TEXT = partial(str, encoding="utf-8", errors="surrogateescape")


def is_database(path: str) -> bool:
    """Whether a file begins as a database does. Raises `DumpError` where it cannot be read, or has
    the name of a database and is none.
    """
    with _opened(path) as handle:
        found = _begins_as_one(handle)
    if not found and path.lower().endswith(".db"):
        raise DumpError(f"{path}: not an SQLite database", hint="the name of a text ends in .csv")
    return found


def table_name(path: str) -> str:
    """Return the name of the table of rows. Raises `DumpError`."""
    with connected(path) as connection:
        return table_of(connection, path)


def _begins_as_one(handle: int) -> bool:
    return os.pread(handle, len(MAGIC), 0) == MAGIC


@contextmanager
def _opened(path: str) -> Iterator[int]:
    """Open a file as bytes. Raises `DumpError`."""
    with refused(path):
        handle = open_plain(path)
        try:
            yield handle
        finally:
            os.close(handle)


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
        way = opening_of(name, handle, writable=writable)
    try:
        yield from _tried(f"file:{urllib.parse.quote(name)}?{way.query}", writable=writable)
    except sqlite3.Error as error:
        if "readonly" in str(error) and has_journal(name):
            raise DumpError(
                f"{path}: a program that wrote it was killed, and its rows are half written",
                hint=f"sqlite3 {shell_word(path)} 'PRAGMA user_version' takes them back",
            ) from error
        raise DumpError(f"{path}: {error}") from error
    except AllowanceExceeded as error:
        raise DumpError(str(error), hint=error.hint) from error
    if way.before is not None:
        check_unchanged(path, way.before)


def _tried(uri: str, *, writable: bool) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None)
    try:
        if hasattr(connection, "setlimit"):
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _VALUE_MAX_BYTES)
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
    for _, name, kind, _, _, key, hidden in connection.execute(f'PRAGMA table_xinfo("{table}")'):
        if hidden:
            raise DumpError(
                f"{path}: {table} has a computed column {name}",
                hint="no collector makes one: copy the rows into a plain table",
            )
        if name.lower() == "rowid" and not (key and kind.upper() == "INTEGER"):
            raise DumpError(f"{path}: {table} has a column {name}, which hides its row numbers")
        names.append(name)
    places, missing = header_places(names)
    if missing:
        raise DumpError(f"{path}: table {table} has no column {', '.join(missing)}")
    return [None if place is None else names[place] for place in places]


class Table:
    """The table of rows of an open database. All bytes that are read count for the file."""

    def __init__(self, connection: sqlite3.Connection, path: str) -> None:
        """Find it. Raises `DumpError`."""
        self.path, self.connection = path, connection
        self.name = table_of(connection, path)
        self.columns = [
            "''" if name is None else _quoted(name)
            for name in columns_of(connection, self.name, path)
        ]
        self._allowance = MemoryAllowance(path, stored_bytes(path, f"{path}-wal"))

    def take(self, rows: int, size_bytes: int) -> None:
        """Count rows with so many bytes in all. Raises `AllowanceExceeded`."""
        self._allowance.take(KEPT_BYTES * rows + size_bytes)

    def rows(
        self,
        columns: Sequence[str],
        first: int = FIRST_ROWID,
        last: int = LAST_ROWID,
        among: Sequence[int] = (),
        costs: Sequence[str] = (),
    ) -> Iterator[list[tuple[Any, ...]]]:
        """Yield rowid and values of rows, some at a time, in the order of their rowids.

        ``among``: of these rows alone, at most `NAMED_MAX`. ``costs``: columns that are measured,
        where those are not the ones that are read.
        """
        only = f"AND rowid IN ({','.join('?' * len(among))})" if among else ""
        behind = f'FROM "{self.name}" WHERE rowid BETWEEN ? AND ? {only} ORDER BY rowid LIMIT ?'
        sizes = bytes_of([f"ifnull({name},'')" for name in costs or columns])
        measure = f"SELECT rowid, {sizes} {behind}"
        fetch = f"SELECT rowid, {','.join(columns)} {behind}"
        while True:
            with _unchanged(self.connection):
                count = self._fitting(measure, (first, last, *among))
                rows = self.connection.execute(fetch, (first, last, *among, count)).fetchall()
            if not rows:
                return
            yield rows
            first = rows[-1][0] + 1
            if first > last:
                return

    def named(
        self, rowids: Iterable[int], columns: Sequence[str], costs: Sequence[str] = ()
    ) -> Iterator[list[tuple[Any, ...]]]:
        """Yield rowid and values of those of the rows that are there, some at a time."""
        wanted = sorted(rowids)
        for k in range(0, len(wanted), NAMED_MAX):
            yield from self.rows(columns, among=wanted[k : k + NAMED_MAX], costs=costs)

    def all_columns(self) -> list[str]:
        """Return all columns, those of others, too: to change a row is to write it whole."""
        found = self.connection.execute(f'PRAGMA table_info("{self.name}")')
        return [_quoted(name) for _, name, *_ in found]

    def _fitting(self, measure: str, arguments: tuple[int, ...]) -> int:
        """Return how many of the next rows are few bytes together, and count these."""
        count = total = 0
        next_rowid = arguments[0]
        for rowid, size in self.connection.execute(measure, (*arguments, CHUNK_ROWS)):
            if rowid < next_rowid:
                raise DumpError(f"{self.path}: row {rowid} comes twice: the file is damaged")
            if size > ROW_MAX_BYTES:
                most = ROW_MAX_BYTES >> 20
                raise DumpError(f"{self.path}: row {rowid}: longer than {most} MiB")
            if count and total + size > CHUNK_MAX_CHARS:
                break
            count, total, next_rowid = count + 1, total + size, rowid + 1
        self.take(count, total)
        return count


def bytes_of(columns: Sequence[str]) -> str:
    """Return the SQL expression for the bytes of a row without NULLs; `length` of a text ends at a
    NUL.
    """
    return "+".join(f"length(CAST({name} AS BLOB))" for name in columns)


@contextmanager
def _unchanged(connection: sqlite3.Connection) -> Iterator[None]:
    """Let all statements of the context see the same rows."""
    if connection.in_transaction:
        yield
        return
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")


def chunks(path: str) -> Iterator[Chunk]:
    """Yield the rows of a database in the order of their rowids, without their stacks. Raises
    `DumpError`.
    """
    with connected(path) as connection:
        table = Table(connection, path)
        yield from values(table, table.columns[:_STACKS])


def values(
    table: Table, columns: Sequence[str], first: int = FIRST_ROWID, last: int = LAST_ROWID
) -> Iterator[Chunk]:
    """Yield rows of an open database, whose stacks are empty."""
    for rows in table.rows([*columns, "''", "''"], first, last):
        places, *held = zip(*rows)  # noqa: B905 - Python 3.9
        yield Chunk(list(held), places)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def stacks_of(path: str, rowids: Iterable[int]) -> dict[int, tuple[object, object]]:
    """Return the stacks (Python, C) of the rows that are there. Raises `DumpError`."""
    found: dict[int, tuple[object, object]] = {}
    with connected(path) as connection:
        table = Table(connection, path)
        for rows in table.named(rowids, table.columns[_STACKS:]):
            found.update((rowid, (python, native)) for rowid, python, native in rows)
    return found


def value_of(path: str, rowid: int, column: int) -> object:
    """Return one value, by its place in `form.COLUMNS`; None: no such row. Raises `DumpError`."""
    with connected(path) as connection:
        table = Table(connection, path)
        for rows in table.named([rowid], [table.columns[column]]):
            return rows[0][1]
    return None


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
        table = Table(connection, path)
        column, whole = table.columns[_ATTR], table.all_columns()
        runs = _what_runs(connection, table.name)
        if runs:
            raise DumpError(f"{path}: has {runs}, which would run; nothing was changed")
        connection.execute("PRAGMA ignore_check_constraints=ON")
        connection.text_factory = bytes
        connection.execute("BEGIN IMMEDIATE")
        try:
            count, wanted = 0, set(rowids)
            text = f"CAST({column} AS TEXT)"
            for rows in table.named(wanted, [text], costs=whole):
                wanted.difference_update(rowid for rowid, _ in rows)
                texts = _new_texts(rows, changed)
                connection.executemany(
                    f'UPDATE "{table.name}" SET {column} = CAST(? AS TEXT) WHERE rowid = ?',  # noqa: S608
                    texts,
                )
                count += len(texts)
            if wanted:
                raise DumpError(f"{path}: changed while it was read; nothing was written")
            connection.execute("COMMIT" if count else "ROLLBACK")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    return count


def _what_runs(connection: sqlite3.Connection, table: str) -> str:
    """Name what computes something when a row changes; empty if nothing does."""
    hung = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'trigger' LIMIT 1"
    ).fetchone()
    if hung is not None:
        return f"a trigger ({hung[0]})"
    for _, name, _, _, is_partial in connection.execute(f'PRAGMA index_list("{table}")').fetchall():
        columns = connection.execute(f"PRAGMA index_xinfo({_quoted(name)})").fetchall()
        if is_partial or any(place == _EXPRESSION for _, place, *_ in columns):
            return f"an index of an expression ({name})"
    return ""


def _new_texts(
    rows: Iterable[tuple[int, bytes | None]], changed: Callable[[int, str], str]
) -> list[tuple[str | bytes, int]]:
    """Return the new texts, and the rowids, of rows whose text changes."""
    texts = []
    for rowid, text in rows:
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


_WAL_MODE_AT, _WAL_MODE = 18, 2
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
"""At the end of a journal: the name of another file is before it (Rollback Journal, SQLite)."""


class Opening(NamedTuple):
    """How to open a database for reading."""

    query: str
    """Behind the name, in SQLite's form of a URI."""
    before: tuple[int, ...] | None
    """What the file was, where it must be the same at the end."""


def opening_of(path: str, handle: int, *, writable: bool) -> Opening:
    """Return how to open a database, of which ``handle`` is an open descriptor.

    Raises `DumpError` where a file of SQLite's beside it is none, OSError.
    """
    sizes = [_size_of(f"{path}-{beside}") for beside in ("wal", "journal", "shm")]
    if sizes[1]:
        _check_journal(f"{path}-journal")
    if writable:
        return Opening("mode=rw", None)
    header = os.pread(handle, _WAL_MODE_AT + 2, 0)
    if header[_WAL_MODE_AT:] != bytes((_WAL_MODE, _WAL_MODE)):
        return Opening("mode=ro", None)
    if sizes[0] or sizes[1] is not None:
        return Opening("mode=ro", None)
    found = os.fstat(handle)
    folder = os.path.dirname(path) or "."
    if found.st_uid == os.geteuid() and os.access(path, os.W_OK) and os.access(folder, os.W_OK):
        return Opening("mode=rw", None)
    return Opening("mode=ro&immutable=1", _state(found))


def check_unchanged(path: str, before: tuple[int, ...]) -> None:
    """Raise `DumpError` where the file is not as it was before."""
    try:
        now = _state(os.stat(path))
    except OSError:
        now = ()
    if now != before:
        raise DumpError(f"{path}: changed while it was read", hint="read it again")


def has_journal(path: str) -> bool:
    """Whether a program that wrote may have been killed before its changes were whole."""
    return bool(_size_of(f"{path}-journal"))


def _check_journal(path: str) -> None:
    try:
        with PlainFile(path) as file:
            end = file.read(max(file.size_bytes - len(_JOURNAL_MAGIC), 0), len(_JOURNAL_MAGIC))
    except FileNotFoundError:
        return
    if end == _JOURNAL_MAGIC:
        raise DumpError(
            f"{path}: names another file, which SQLite would remove",
            hint="move it away; what was being written may be missing then",
        )


def _state(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _size_of(path: str) -> int | None:
    """Return the bytes of a file of SQLite's; None: there is none."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        raise DumpError(f"{path}: is no file", hint="remove it to read the rows")
    return found.st_size
