"""Databases of rows: which are read, and how their rows change."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from mem_parser.memscope import database
from mem_parser.memscope.form import COLUMNS, DumpError
from mem_parser.memscope.reading import read_rows, read_texts
from memscope_dumps import Story

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
