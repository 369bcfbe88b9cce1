"""Queries: what they find, and that they reach nothing but their tables."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from mem_parser.errors import InputFileError, MemError
from mem_parser.memlog.part import WHOLE
from mem_parser.memlog.run import read_log
from mem_parser.tables import sql
from mem_parser.tables.columns import Columns
from mem_parser.tables.schema import TABLES
from mem_parser.tables.source import LogSource
from tabled import log_tables, names, rows
from timelog import write_log


@pytest.fixture
def tables(tmp_path: Path) -> Iterator[LogSource]:
    with log_tables([write_log(tmp_path / "a.memlog")]) as found:
        yield found


@pytest.mark.parametrize("table", TABLES, ids=lambda t: t.name)
def test_every_column_has_a_name_that_sql_takes_and_the_type_that_is_said(
    table: object, tables: LogSource
) -> None:
    assert isinstance(table, type(TABLES[0]))
    columns = ", ".join(field.name for field in table.fields)
    answer = sql.ask(f"SELECT {columns} FROM {table.name}", [tables])
    assert answer.columns == [field.name for field in table.fields]
    expected = [tuple(row.values()) for row in rows(tables, table.name)]
    assert answer.rows == expected
    described = sql.ask(f"DESCRIBE {table.name}", [tables]).rows
    assert [row[1] for row in described] == [field.kind.sql for field in table.fields]


def test_a_table_can_be_named_twice_in_a_query(tables: LogSource) -> None:
    query = "SELECT count(*) FROM events a JOIN events b USING (time_ns)"
    assert sql.ask(query, [tables]).rows == [(7,)]
    query = "SELECT (SELECT count(*) FROM blocks), (SELECT count(*) FROM blocks WHERE fate='live')"
    assert sql.ask(query, [tables]).rows == [(4, 1)]


def test_files_are_told_apart(tables: LogSource, tmp_path: Path) -> None:
    path = write_log(tmp_path / "b.memlog", run="b" * 32)
    with log_tables([path], file="b") as other:
        answer = sql.ask("SELECT file, count(*) FROM events GROUP BY 1 ORDER BY 1", [other, tables])
    assert answer.rows == [("b", 7), ("x", 7)]


def test_only_so_many_rows_are_kept_and_the_answer_says_so(tables: LogSource) -> None:
    assert sql.ask("FROM events", [tables], most_rows=7).more is False
    answer = sql.ask("FROM events", [tables], most_rows=3)
    assert (len(answer.rows), answer.more) == (3, True)
    assert len(sql.ask("FROM range(100000)", [tables], most_rows=20_000).rows) == 20_000


def test_numbers_are_told_from_texts(tables: LogSource) -> None:
    answer = sql.ask("SELECT time_ns, kind, bytes, sum(size_bytes), change = 1 FROM events"
                     " GROUP BY ALL", [tables])  # fmt: skip
    assert answer.is_number == [True, False, True, True, False]


HOSTILE = [
    "COPY events TO '{out}'",
    "COPY (SELECT 1) TO '{out}' (FORMAT parquet)",
    "EXPORT DATABASE '{out}'",
    "ATTACH '{out}' AS other",
    "INSTALL httpfs",
    "LOAD httpfs",
    "LOAD '{secret}'",
    "SET enable_external_access = true",
    "RESET lock_configuration",
    "PRAGMA enable_profiling",
    "CREATE TABLE t AS SELECT 1",
    "CREATE SECRET s (TYPE s3)",
    "SELECT 1; SELECT 2",
    "SELECT * FROM read_csv('{secret}')",
    "SELECT * FROM read_text('{secret}')",
    "SELECT * FROM read_blob('{secret}')",
    "SELECT * FROM read_parquet('{secret}')",
    "SELECT * FROM read_json('http://127.0.0.1:9/x')",
    "SELECT * FROM sniff_csv('{secret}')",
    "SELECT * FROM glob('{folder}/*')",
    "SELECT * FROM '{secret}'",
    "SELECT * FROM query('COPY (SELECT 1) TO ''{out}''')",
    "SELECT * FROM query_table('{secret}')",
    "WITH t AS (SELECT * FROM read_csv('{secret}')) SELECT count(*) FROM events, t",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{out}'",
    "EXPLAIN ANALYZE CREATE TABLE t AS SELECT 1",
    "/* a */ explain -- b\n ( ANALYZE ) /* c */ INSERT INTO t SELECT 1",
    "EXPLAIN CREATE TABLE t AS SELECT 1",
    "EXPLAIN /* ANALYZE SELECT */ SET threads = 1",
    "SELECT getenv('HOME')",
    "SELECT * FROM statements",
    "SELECT * FROM arrow_scan(1, 2, 3)",
]


@pytest.mark.parametrize("query", HOSTILE)
def test_a_query_reaches_no_file_no_extension_and_no_setting(
    query: str, tables: LogSource, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("word\nopen sesame\n")
    before = sorted(os.listdir(tmp_path))
    places = {"out": tmp_path / "out", "secret": secret, "folder": tmp_path}
    with pytest.raises(sql.BadQuery) as caught:
        sql.ask(query.format(**places), [tables])
    assert "sesame" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.hint == sql.CURE
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize("query", [
    "EXPLAIN SELECT 1",
    "explain analyze select 1",
    "EXPLAIN (FORMAT JSON) WITH t AS (SELECT 1) SELECT * FROM t",
    "EXPLAIN -- why\nSELECT 1",
    "/* a */ EXPLAIN(ANALYZE) SELECT 1",
])  # fmt: skip
def test_a_select_may_be_explained(query: str, tables: LogSource) -> None:
    assert sql.ask(query, [tables]).rows


def test_the_same_files_are_read_where_nothing_forbids_it(tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("word\nopen sesame\n")
    found = duckdb.connect().execute(f"SELECT * FROM read_csv('{secret}')").fetchall()
    assert found == [("open sesame",)]


@pytest.mark.parametrize(("query", "says"), [
    ("SELEC 1", "syntax error"),
    ("SELECT nothing FROM events", '"nothing" not found'),
    ("SELECT * FROM nowhere", "nowhere does not exist"),
    ("SELECT 1 / 'x' FROM events", "Conversion Error"),
    ("", "these are 0"),
    ("SELECT '\x00", "syntax error|unterminated"),
])  # fmt: skip
def test_a_wrong_query_is_one_line_with_what_duckdb_says(
    query: str, says: str, tables: LogSource
) -> None:
    with pytest.raises(sql.BadQuery, match=says) as caught:
        sql.ask(query, [tables])
    assert "\n" not in str(caught.value)
    assert "LINE 1" not in str(caught.value)


class Broken(LogSource):
    """A log of which a block is damaged."""

    def _events(self) -> Iterator[Columns]:
        yield from super()._events()
        raise InputFileError("x: the block at byte 7 is damaged")


def test_what_a_log_cannot_say_is_its_own_error(tmp_path: Path) -> None:
    with read_log([write_log(tmp_path / "a.memlog")]) as run:
        source = Broken("x", run, WHOLE, names)
        with pytest.raises(InputFileError, match="byte 7"):
            sql.ask("SELECT sum(bytes) FROM events", [source])
        assert sql.ask("SELECT count(*) FROM sites", [source]).rows == [(4,)]


def test_what_does_not_fit_in_memory_goes_to_a_folder_that_is_removed(
    tables: LogSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    query = (
        "SELECT count(s), max(h) > 0 FROM"
        " (SELECT a, hash(a) h, a::VARCHAR s FROM range(3000000) t(a) ORDER BY h)"
    )
    answer = sql.ask(query, [tables], memory_bytes=64 << 20)
    assert answer.rows == [(3_000_000, True)]
    assert os.listdir(folder) == []


def test_a_query_that_needs_too_much_says_how_to_give_more(
    tables: LogSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "MOST_ON_DISK_BYTES", 1 << 20)
    with pytest.raises(MemError, match="needs more memory") as caught:
        sql.ask("SELECT list(a) FROM range(100000000) t(a)", [tables], memory_bytes=64 << 20)
    assert "--memory" in str(caught.value.hint)


@pytest.mark.parametrize("query", [
    "SELECT count(*) FROM range(3000000000) a(x), range(3000) b(y) WHERE x * y % 7 = 3",
    "SELECT count(*) FROM events a, range(100000000) b(x), range(1000) WHERE a.time_ns = x * 3",
])  # fmt: skip
def test_ctrl_c_ends_a_query_at_once(query: str, tmp_path: Path) -> None:
    log = write_log(tmp_path / "a.memlog")
    program = (
        "import signal, sys, tabled; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from pathlib import Path; from mem_parser.tables import sql\n"
        "execute = sql._interruptible\n"
        "def told(*words):\n    print('asked', flush=True)\n    return execute(*words)\n"
        "sql._interruptible = told\n"
        "with tabled.log_tables([Path(sys.argv[1])]) as tables:\n"
        "    try:\n        sql.ask(sys.argv[2], [tables])\n"
        "    except KeyboardInterrupt:\n        print('interrupted')\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, log, query], stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "asked\n"
        child.send_signal(signal.SIGINT)
        out, _ = child.communicate(timeout=100)
    finally:
        child.kill()
        child.wait(timeout=60)
    assert out == "interrupted\n"
    assert sorted(os.listdir(tmp_path)) == ["a.memlog"]


def test_a_table_whose_name_is_made_up_is_found_too(tables: LogSource) -> None:
    assert sql.ask("SELECT count(*) FROM query_table('sta' || 'cks')", [tables]).rows == [(2,)]


def test_names_are_looked_up_before_there_are_threads(
    tables: LogSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    connect, parts = sql._connection, LogSource.parts

    def connected(memory_bytes: int, threads: int) -> object:
        begun.append(f"{threads} threads")
        return connect(memory_bytes, threads)

    def read(self: LogSource, table: str) -> Iterator[Columns]:
        begun.append(table)
        return parts(self, table)

    monkeypatch.setattr(sql, "_connection", connected)
    monkeypatch.setattr(LogSource, "parts", read)
    query = "WITH s AS (SELECT stack FROM Stacks) SELECT count(*) FROM events JOIN s USING (stack)"
    assert sql.ask(query, [tables], threads=2).rows == [(7,)]
    assert begun == ["stacks", "2 threads", "events"]
