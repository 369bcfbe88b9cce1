"""Databases of rows: which are read, how their rows change, what a reader leaves beside them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mem_parser.memscope import database
from mem_parser.memscope import database as databasefile
from mem_parser.memscope.form import COLUMNS, DumpError
from mem_parser.memscope.reading import read_rows, read_texts, stacks_of
from mem_parser.memscope.writing import DatabaseSink
from memscope_dumps import Story, put

MANY = 1300
"""More rows than change with one statement."""


def many(folder: Path) -> str:
    story = Story()
    for number in range(MANY):
        story.malloc(4096 * number, 512, "PTA", number)
    return story.db(folder)


def statements(path: str, *texts: str) -> None:
    connection = sqlite3.connect(path)
    for text in texts:
        connection.execute(text)
    connection.commit()
    connection.close()


def attributes(path: str) -> list[object]:
    connection = sqlite3.connect(path)
    connection.text_factory = lambda held: held.decode("utf-8", "surrogateescape")
    found = connection.execute("SELECT Attr FROM memscope_dump ORDER BY rowid").fetchall()
    connection.close()
    return [text for (text,) in found]


def test_rows_change_that_are_named_and_have_another_text(tmp_path: Path) -> None:
    path = many(tmp_path)
    before = attributes(path)
    wanted = range(3, MANY + 1, 2)
    asked = {}

    def changed(rowid: int, text: str) -> str:
        asked[rowid] = text
        return text if rowid % 5 == 0 else text + "\u00e9"

    count = database.update_attributes(path, wanted, changed)
    assert asked == {rowid: before[rowid - 1] for rowid in wanted}
    expected = [
        f"{text}\u00e9" if rowid in wanted and rowid % 5 else text
        for rowid, text in enumerate(before, 1)
    ]
    assert attributes(path) == expected
    assert count == sum(old != new for old, new in zip(before, expected, strict=True))


def test_a_failure_at_a_later_row_leaves_all_rows_as_they_were(tmp_path: Path) -> None:
    path = many(tmp_path)
    before = Path(path).read_bytes()

    def changed(rowid: int, text: str) -> str:
        if rowid == MANY:
            raise MemoryError
        return "{}"

    with pytest.raises(MemoryError):
        database.update_attributes(path, range(1, MANY + 1), changed)
    with pytest.raises(DumpError, match="changed while it was read; nothing was written"):
        database.update_attributes(path, range(2, MANY + 2), lambda rowid, text: "{}")
    assert Path(path).read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [Path(path).name]


def test_rows_do_not_change_while_another_program_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_S", 0.1)
    path = many(tmp_path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(DumpError, match="locked"):
            database.update_attributes(path, [1], lambda rowid, text: "{}")
    finally:
        other.close()
    assert database.update_attributes(path, [1], lambda rowid, text: "{}") == 1


def test_bytes_that_are_no_text_survive_a_change(tmp_path: Path) -> None:
    path = many(tmp_path)
    statements(path, "UPDATE memscope_dump SET Attr = CAST(x'7bff7d' AS TEXT) WHERE rowid = 2")
    assert database.update_attributes(path, [2], lambda rowid, text: text[:-1] + ",a:1}") == 1
    assert attributes(path)[1] == "{\udcff,a:1}"


@pytest.mark.parametrize("encoding", ["UTF-16le", "UTF-16be"])
def test_a_database_of_another_encoding_is_read_and_changed(tmp_path: Path, encoding: str) -> None:
    path = str(tmp_path / "x.db")
    names = ",".join(f'"{name}"' for name in COLUMNS)
    statements(
        path,
        f"PRAGMA encoding = '{encoding}'",
        f"CREATE TABLE memscope_dump ({names})",
        "INSERT INTO memscope_dump VALUES (1,'MALLOC','PTA','gr\u00fcn',5,6,7,'0','0x1000',"
        '\'{"allocation_id":"1","addr":"0x1000","size":"64","owner":"\u00e9"}\',\'\',\'\')',
    )
    rows = read_rows(path)
    assert (rows.words.names, rows.words.owners, rows.size.tolist()) == (
        ("gr\u00fcn",), ("\u00e9",), [64],
    )  # fmt: skip
    assert database.update_attributes(path, [1], lambda rowid, text: text.replace("64", "65")) == 1
    assert read_rows(path).size.tolist() == [65]
    assert read_rows(path).words.owners == ("\u00e9",)


def test_rows_whose_numbers_have_gaps_are_read(tmp_path: Path) -> None:
    path = many(tmp_path)
    statements(path, "DELETE FROM memscope_dump WHERE rowid % 3 = 1")
    rows = read_rows(path)
    assert rows.id.tolist() == [number for number in range(1, MANY + 1) if number % 3 != 1]
    assert rows.place.tolist() == rows.id.tolist()
    assert rows.size.tolist() == read_texts(path).size.tolist()


def test_a_column_that_hides_the_numbers_of_rows_is_refused(tmp_path: Path) -> None:
    path = many(tmp_path)
    statements(path, "ALTER TABLE memscope_dump ADD COLUMN RowId DEFAULT 5")
    with pytest.raises(DumpError, match="has a column RowId"):
        read_rows(path)
    with pytest.raises(DumpError, match="has a column RowId"):
        database.update_attributes(path, [5], lambda rowid, text: "{}")


def test_a_key_of_rows_is_no_obstacle(tmp_path: Path) -> None:
    path = str(tmp_path / "x.db")
    names = ",".join(f'"{name}"' for name in COLUMNS)
    statements(
        path,
        f"CREATE TABLE memscope_dump (rowid INTEGER PRIMARY KEY, {names})",
        "INSERT INTO memscope_dump VALUES (7,1,'FREE','HAL','',5,6,7,'0','0x1000','{}','','')",
    )
    assert read_rows(path).place.tolist() == [7]


NOBODY = 65534


def story(count: int = 5) -> Story:
    told = Story()
    for number in range(count):
        told.malloc(4096 * number, 512, "PTA", number, python_stack="a.py(1): f")
    return told


def beside(path: str) -> list[str]:
    return sorted(os.listdir(os.path.dirname(path)))


@pytest.mark.parametrize(
    "read",
    [read_rows, read_texts, lambda path: stacks_of(path, [1])],
    ids=["rows", "texts", "stacks"],
)
def test_a_reader_leaves_the_file_and_nothing_else(
    tmp_path: Path, read: Callable[[str], object]
) -> None:
    path = story().db(tmp_path)
    before = Path(path).read_bytes(), os.stat(path).st_mtime_ns
    read(path)
    assert beside(path) == ["memscope_dump_1.db"]
    assert (Path(path).read_bytes(), os.stat(path).st_mtime_ns) == before


def test_empty_files_of_an_earlier_reader_go(tmp_path: Path) -> None:
    path = story().db(tmp_path)
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    connection.execute("SELECT * FROM memscope_dump").fetchall()
    connection.close()
    assert len(beside(path)) == 3
    assert len(read_rows(path)) == 5
    assert beside(path) == ["memscope_dump_1.db"]


def test_rows_that_a_program_is_writing_are_read(tmp_path: Path) -> None:
    path = str(tmp_path / "x.db")
    told = story(40).rows
    with closing(DatabaseSink(path)) as writer:
        for count in range(1, 41):
            put(writer, told[count - 1 : count])
            assert len(read_rows(path)) == count
    assert len(read_rows(path)) == 40
    assert beside(path) == ["x.db"]


def test_a_program_that_begins_to_write_meanwhile_is_no_obstacle(tmp_path: Path) -> None:
    path = story().db(tmp_path)
    with database.connected(path) as connection:
        count = connection.execute("SELECT count(*) FROM memscope_dump")
        assert count.fetchone() == (5,)
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM memscope_dump").fetchone()
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("DELETE FROM memscope_dump WHERE rowid > 2")
        assert connection.execute("SELECT count(*) FROM memscope_dump").fetchone() == (5,)
        other.close()
    assert len(read_rows(path)) == 2
    assert beside(path) == ["memscope_dump_1.db"]


def test_rows_of_a_program_that_was_killed_are_read_and_stay_where_they_are(tmp_path: Path) -> None:
    path = str(tmp_path / "x.db")
    with closing(DatabaseSink(path)) as writer:
        put(writer, story().rows)
        killed = tmp_path / "killed"
        killed.mkdir()
        for name in ("x.db", "x.db-wal", "x.db-shm"):
            shutil.copy(tmp_path / name, killed / name)
    before = [(killed / name).read_bytes() for name in ("x.db", "x.db-wal")]
    assert len(read_rows(killed / "x.db")) == 5
    assert [(killed / name).read_bytes() for name in ("x.db", "x.db-wal")] == before
    assert beside(str(killed / "x.db")) == ["x.db", "x.db-shm", "x.db-wal"]


def test_a_reader_writes_nothing(tmp_path: Path) -> None:
    path = story().db(tmp_path)
    with (
        pytest.raises(DumpError, match=r"readonly|read-only"),
        database.connected(path) as connection,
    ):
        connection.execute("DELETE FROM memscope_dump")


def test_a_link_in_place_of_a_file_of_sqlite_is_refused(tmp_path: Path) -> None:
    path = story().db(tmp_path)
    (tmp_path / "memscope_dump_1.db-wal").symlink_to(tmp_path / "made")
    with pytest.raises(DumpError, match="-wal: is no file"):
        read_rows(path)
    assert not (tmp_path / "made").exists()


@contextlib.contextmanager
def folder_of_another() -> Iterator[Path]:
    """A folder that everybody may read, and we alone may write to."""
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


def as_nobody(run: Callable[[], object]) -> str:
    """What a call returns or raises in a process that may not write; `run` has run before."""
    here, there = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        try:
            if not os.geteuid():
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            said = repr(run())
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(there, said.encode())
        os._exit(0)
    os.close(there)
    with os.fdopen(here) as told:
        said = told.read()
    os.waitpid(child, 0)
    return said


def test_a_folder_where_we_may_not_write_is_read_and_stays_as_it_is() -> None:
    with folder_of_another() as folder:
        path = story().db(folder)
        os.chmod(path, 0o644)
        assert len(read_rows(path)) == 5
        if os.geteuid():
            folder.chmod(0o555)
        assert as_nobody(lambda: len(read_rows(path))) == "5"
        assert beside(path) == ["memscope_dump_1.db"]


def test_a_file_that_changes_while_it_is_read_where_we_may_not_write_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = story().db(tmp_path)
    monkeypatch.setattr(databasefile.os, "access", lambda *unused: False)
    assert len(read_rows(path)) == 5

    def read_while_it_changes() -> None:
        with database.connected(path) as connection:
            connection.execute("SELECT * FROM memscope_dump").fetchone()
            other = sqlite3.connect(path)
            other.execute("DELETE FROM memscope_dump WHERE rowid = 1")
            other.commit()
            other.close()

    with pytest.raises(DumpError, match="changed while it was read"):
        read_while_it_changes()


def test_rows_beside_a_file_where_we_may_not_write_are_read() -> None:
    with folder_of_another() as folder:
        path = str(folder / "x.db")
        with closing(DatabaseSink(path)) as writer:
            put(writer, story().rows)
            for name in beside(path):
                (folder / name).chmod(0o644)
            assert len(read_rows(path)) == 5
            assert as_nobody(lambda: len(read_rows(path))) == "5"
