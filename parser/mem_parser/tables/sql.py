"""A question in SQL to the tables of several files: DuckDB reads them as streams of Arrow.

The text of a query may be anybody's. DuckDB may open no file, load no extension and reach no
network, and its settings are locked before the query is read. A query is one SELECT. What does not
fit into its memory goes to a folder of our own, which is removed.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from mem_parser.errors import MemError, UsageProblem, one_line
from mem_parser.tables import arrow
from mem_parser.tables.extras import duckdb, pyarrow
from mem_parser.tables.schema import TABLES, Table
from mem_parser.tables.source import TableSource

CURE = "mem_parser query --tables lists tables and columns"
USUAL_MEMORY_BYTES = 1 << 30
MOST_ON_DISK_BYTES = 16 << 30
_STREAMED = {"events", "blocks"}
"""Tables that may be too large to keep: each time a query names one, it is made anew."""
_SPACE = r"(?:\s|--[^\n]*\n|/\*.*?\*/)"
_EXPLAIN = re.compile(
    rf"{_SPACE}*EXPLAIN\b{_SPACE}*(?:ANALYZE\b|\([^()]*\))?", re.IGNORECASE | re.DOTALL
)
"""What EXPLAIN puts before the statement that it is of, and ANALYZE runs."""
_NUMBERS = {
    "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER",
    "UBIGINT", "UHUGEINT", "BIGNUM", "FLOAT", "DOUBLE",
}  # fmt: skip
_ROWS_AT_A_TIME = 1 << 14
_ASK_AGAIN_S = 0.05
_WORD = re.compile(r"\w+")
_PLACE = re.compile(r"\s*\bLINE \d+:.*", re.DOTALL)


class BadQuery(UsageProblem):
    """A query that DuckDB does not take, or that is not allowed."""


class Answer(NamedTuple):
    """Result of a query: names of columns, whether each is numeric, and the rows."""

    columns: list[str]
    is_number: list[bool]
    rows: list[tuple[Any, ...]]
    more: bool
    """Whether there are more rows than were asked for."""


class _Stream:
    """A table as DuckDB asks for it: each scan of it begins anew."""

    def __init__(self, table: Table, sources: Sequence[TableSource]) -> None:
        self._table, self._sources = table, sources
        self._schema = arrow.schema(table)
        self._kept: Any = None
        self.error: Exception | KeyboardInterrupt | None = None

    def __arrow_c_schema__(self) -> Any:
        return self._schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        if self._table.name in _STREAMED:
            return self._reader(self._batches()).__arrow_c_stream__(requested_schema)
        self.keep()
        return self._kept.__arrow_c_stream__(requested_schema)

    def keep(self) -> None:
        """Read a small table as a whole, once. Raises MemError."""
        if self._kept is None:
            self._kept = self._reader(self._batches()).read_all()

    def _reader(self, batches: Iterator[Any]) -> Any:
        return pyarrow().RecordBatchReader.from_batches(self._schema, batches)

    def _batches(self) -> Iterator[Any]:
        parts = (part for source in self._sources for part in source.parts(self._table.name))
        try:
            yield from arrow.batches(self._table, parts)
        except (Exception, KeyboardInterrupt) as error:
            # DuckDB reports it in its own words.
            self.error = error
            raise


def ask(
    query: str,
    sources: Sequence[TableSource],
    *,
    most_rows: int | None = None,
    memory_bytes: int = USUAL_MEMORY_BYTES,
    threads: int = 1,
) -> Answer:
    """Return the answer to a query, at most so many rows of it.

    Raises BadQuery, MissingLibrary, and what reading raises.
    """
    library = duckdb()
    streams = {table.name: _Stream(table, sources) for table in TABLES}
    # Names are read by a child, which must begin before DuckDB has threads.
    for name in sorted(_tables_of(query) - _STREAMED):
        streams[name].keep()
    with _connection(memory_bytes, threads) as connection:
        for name, stream in streams.items():
            connection.register(name, stream)
        connection.execute("SET lock_configuration = true")
        try:
            statement = _only_statement(connection, query)
            return _interruptible(
                connection, lambda: _answer(connection.execute(statement), most_rows)
            )
        except (library.Error, RuntimeError) as error:
            for stream in streams.values():
                if stream.error is not None:
                    raise stream.error from error
            raise _problem(library, error) from None


@contextmanager
def _connection(memory_bytes: int, threads: int) -> Iterator[Any]:
    folder = tempfile.mkdtemp(prefix="mem_parser.")
    try:
        connection = duckdb().connect(
            ":memory:",
            config={
                "enable_external_access": "false",
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
                "allow_community_extensions": "false",
                "python_enable_replacements": "false",
                "memory_limit": f"{memory_bytes}B",
                "threads": str(threads),
                "temp_directory": folder,
                "max_temp_directory_size": f"{MOST_ON_DISK_BYTES}B",
            },
        )
        try:
            yield connection
        finally:
            connection.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _tables_of(query: str) -> set[str]:
    """Return the tables that a query may name: the words of its text. One that it makes up from
    parts is still found, later.
    """
    return set(_WORD.findall(query.lower())) & {table.name for table in TABLES}


def _interruptible(connection: Any, work: Callable[[], Answer]) -> Answer:
    """Return what ``work`` returns; a Ctrl-C ends it, which DuckDB itself would not notice."""
    begun, stopped, finished = threading.Event(), threading.Event(), threading.Event()
    answers: list[Answer] = []
    errors: list[BaseException] = []

    def run() -> None:
        begun.set()
        try:
            if not stopped.is_set():
                answers.append(work())
        except BaseException as error:
            errors.append(error)
        finally:
            finished.set()

    try:
        threading.Thread(target=run, daemon=True).start()
        finished.wait()
    except KeyboardInterrupt:
        # Either the work sees this, or it has begun and is waited for.
        stopped.set()
        while begun.is_set() and not finished.is_set():
            with contextlib.suppress(KeyboardInterrupt):
                # Work that has not reached DuckDB yet would miss a single one.
                connection.interrupt()
                finished.wait(_ASK_AGAIN_S)
        raise
    if errors:
        raise errors[0]
    return answers[0]


def _only_statement(connection: Any, query: str) -> Any:
    """Return the one statement of a query. Raises BadQuery."""
    statements = connection.extract_statements(query)
    if len(statements) != 1:
        raise BadQuery(f"a query is one SELECT, and these are {len(statements)}", hint=CURE)
    [statement] = statements
    explained = statement
    if _kind(statement) == "EXPLAIN":
        rest = connection.extract_statements(_EXPLAIN.sub("", statement.query, count=1))
        explained = rest[0] if len(rest) == 1 else statement
    if _kind(explained) != "SELECT":
        kind = _kind(explained)
        raise BadQuery(f"a query is one SELECT, and this is {kind}: it is refused", hint=CURE)
    return statement


def _kind(statement: Any) -> str:
    return str(statement.type.name.removesuffix("_STATEMENT"))


def _answer(result: Any, most_rows: int | None) -> Answer:
    names = [column[0] for column in result.description]
    numbers = [_is_number(column[1]) for column in result.description]
    rows: list[tuple[Any, ...]] = []
    while most_rows is None or len(rows) <= most_rows:
        found = result.fetchmany(_ROWS_AT_A_TIME)
        if not found:
            return Answer(names, numbers, rows, more=False)
        rows += found
    return Answer(names, numbers, rows[:most_rows], more=True)


def _is_number(kind: Any) -> bool:
    """Tell whether a type is of numbers; their names are the same in all versions."""
    name = str(kind).upper()
    return name.startswith(("DECIMAL", "NUMBER")) or name in _NUMBERS


def _problem(library: Any, error: BaseException) -> MemError:
    """Return the error of a query in one line, without the picture of its place."""
    text = _PLACE.sub("", str(error)).strip()
    if isinstance(error, library.OutOfMemoryException):
        return MemError(f"the query needs more memory: {one_line(_first(text))}",
                        hint="--memory 4G allows more")  # fmt: skip
    if isinstance(error, library.PermissionException):
        return BadQuery(f"a query reads its tables and nothing else: {_first(text)}", hint=CURE)
    return BadQuery(f"the query: {_first(text)}", hint=CURE)


def _first(text: str) -> str:
    """Return the lines of a message as one, without those that DuckDB lists behind it."""
    lines = [line.strip() for line in text.splitlines()]
    kept = lines[: lines.index("")] if "" in lines else lines
    return " ".join(kept)
