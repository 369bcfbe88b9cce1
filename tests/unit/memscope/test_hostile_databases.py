"""Databases that somebody forged, beside an honest one: what reading and labelling them does."""

from __future__ import annotations

import ast
import os
import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

import bounded
from bounded import MIB
from mem_parser.memscope.form import COLUMNS, TABLE, DumpError
from mem_parser.memscope.reading import read_rows
from mem_parser.memscope.rewriting import add_labels

PAGE_BYTES = 4096
JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
NAMES = ",".join(f'"{name}"' for name in COLUMNS)
SHORT = "{},'MALLOC','PTA','n',5,6,7,'0','0x1000','{{}}','',''"
# Hours of comparisons, for one row.
SLOW = "instr(zeroblob(60000000), CAST(zeroblob(30000000) || x'01' AS BLOB)) = 0"
IMPORTS = """
from mem_parser.memscope import arrowcolumns
from mem_parser.memscope.rewriting import add_labels
from mem_parser.memscope.reading import read_rows

def said_by(read):
    try:
        return str(read())
    except InputFileError as error:
        return str(error)
"""
READS = """[
    said_by(lambda: len(read_rows(path))),
    said_by(lambda: add_labels(path, {1: ["x"], 2: ["y"]})),
]"""


def database_of(path: Path, *after: str, columns: str = NAMES, rows: int = 3) -> Path:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
    connection.execute(f"CREATE TABLE {TABLE} ({columns})")
    connection.execute("PRAGMA ignore_check_constraints=ON")
    for number in range(1, rows + 1):
        connection.execute(f"INSERT INTO {TABLE} ({NAMES}) VALUES ({SHORT.format(number)})")
    for statement in after:
        connection.execute(statement)
    connection.close()
    return path


# -- a journal beside it -------------------------------------------------------------------------


def journal(path: Path, names: Path | None) -> None:
    """What a program leaves that was killed while it wrote: SQLite takes the rows back from it, and
    then removes the file that it names, if there is one.
    """
    pages = path.stat().st_size // PAGE_BYTES
    head = JOURNAL_MAGIC + struct.pack(">IIIII", 0, 1, pages, 512, PAGE_BYTES)
    tail = b""
    if names is not None:
        text = os.fsencode(names)
        tail = struct.pack(">I", (1 << 30) // PAGE_BYTES + 1) + text
        tail += struct.pack(">II", len(text), sum(text)) + JOURNAL_MAGIC
    Path(f"{path}-journal").write_bytes(head.ljust(512, b"\0") + tail)


def test_a_journal_of_a_killed_program_is_taken_back_before_rows_change(tmp_path: Path) -> None:
    path = database_of(tmp_path / "x.db")
    journal(path, None)
    with pytest.raises(DumpError, match=r"x\.db: a program that wrote it was killed") as error:
        read_rows(str(path))
    assert "sqlite3" in str(error.value.hint)
    assert add_labels(str(path), {1: ["x"]}) == 1
    assert os.listdir(tmp_path) == ["x.db"]
    assert len(read_rows(str(path))) == 3


def test_a_journal_that_names_another_file_does_not_remove_it(tmp_path: Path) -> None:
    path = database_of(tmp_path / "x.db")
    precious = tmp_path / "precious"
    precious.write_text("the only copy\n")
    journal(path, precious)
    before = path.read_bytes()
    with pytest.raises(DumpError, match=r"x\.db-journal: names another file"):
        add_labels(str(path), {1: ["x"]})
    assert precious.read_text() == "the only copy\n"
    assert path.read_bytes() == before


@pytest.mark.parametrize("beside", ["journal", "wal", "shm"])
def test_no_link_beside_a_database_is_followed_to_write(tmp_path: Path, beside: str) -> None:
    path = database_of(tmp_path / "x.db", "PRAGMA journal_mode=WAL")
    other = tmp_path / "other"
    Path(f"{path}-{beside}").symlink_to(other)
    with pytest.raises(DumpError, match=rf"x\.db-{beside}: is no file"):
        add_labels(str(path), {1: ["x"]})
    assert not other.exists()


# -- what is inside ------------------------------------------------------------------------------


def with_checks(path: Path) -> None:
    database_of(path, columns=f"{NAMES}, CHECK (Attr IS NULL OR {SLOW})")


def with_index(sql: str) -> Callable[[Path], None]:
    """An index that was made over plain rows, and says something else since."""
    doubled = sql.replace("'", "''")

    def forge(path: Path) -> None:
        database_of(
            path,
            f"CREATE INDEX i ON {TABLE} ([Name])",
            "PRAGMA writable_schema=ON",
            f"UPDATE sqlite_master SET sql = 'CREATE INDEX i ON {TABLE} {doubled}'"
            " WHERE name = 'i'",
        )

    return forge


def edited(path: Path, change: Callable[[bytearray], None]) -> None:
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)


def freelist_loop(path: Path) -> None:
    """The list of free pages goes round, and labels do not fit into the pages that there are."""
    database_of(
        path,
        "CREATE TABLE gone (x)",
        "INSERT INTO gone VALUES (zeroblob(100000))",
        "DROP TABLE gone",
        f"UPDATE {TABLE} SET Attr = '{{a:' || hex(zeroblob(1900)) || '}}' WHERE rowid < 3",
    )

    def change(data: bytearray) -> None:
        trunk = struct.unpack_from(">I", data, 32)[0]
        struct.pack_into(">II", data, (trunk - 1) * PAGE_BYTES, trunk, 1)
        struct.pack_into(">I", data, (trunk - 1) * PAGE_BYTES + 8, trunk)

    edited(path, change)


def overflow_loop(path: Path) -> None:
    """A long text whose first page of overflow is followed by itself."""
    database_of(path, f"UPDATE {TABLE} SET Attr = '{{' || hex(zeroblob(200000)) || '}}'")

    def change(data: bytearray) -> None:
        for at in range(2 * PAGE_BYTES, len(data), PAGE_BYTES):
            if data[at + 4 : at + 12] == b"0" * 8:
                struct.pack_into(">I", data, at, at // PAGE_BYTES + 1)

    edited(path, change)


def long_varint(path: Path) -> None:
    """A row that says that it has 2 GiB."""
    database_of(path)

    def change(data: bytearray) -> None:
        cell = PAGE_BYTES + struct.unpack_from(">H", data, PAGE_BYTES + 8)[0]
        data[cell : cell + 5] = b"\x87\xff\xff\xff\x7f"

    edited(path, change)


def tree_loop(path: Path) -> None:
    """A page of rows that is its own child."""
    database_of(path, rows=400)

    def change(data: bytearray) -> None:
        struct.pack_into(">I", data, PAGE_BYTES + 8, 2)

    edited(path, change)


def broken_surrogates(path: Path) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA encoding='UTF-16le'")
    connection.close()
    database_of(
        path,
        f"UPDATE {TABLE} SET [Name] = CAST(x'00d8' AS TEXT), Attr = CAST(x'7b00dcdc7d00' AS TEXT)",
    )


def two_of_a_name(path: Path) -> None:
    """The schema names a plain table, and a view of that name beside it."""
    name = TABLE.upper()
    sql = f"CREATE VIEW {name} ({NAMES}) AS SELECT {SHORT.format(1)}".replace("'", "''")
    database_of(
        path,
        "PRAGMA writable_schema=ON",
        f"INSERT INTO sqlite_master VALUES ('view', '{name}', '{name}', 0, '{sql}')",
    )


def virtual(path: Path) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"CREATE VIRTUAL TABLE {TABLE} USING fts5({NAMES})")
    connection.execute(f"INSERT INTO {TABLE} VALUES ({SHORT.format(1)})")
    connection.execute(f"UPDATE {TABLE}_data SET block = zeroblob(1000)")
    connection.close()


class Forged(NamedTuple):
    """A file, and what each reader says of it: how many rows it reads or changes, or why not."""

    make: Callable[[Path], object]
    rows: str
    labels: str


FORGED = {
    "honest": Forged(database_of, "3", "2"),
    "checks": Forged(with_checks, "3", "2"),
    "an index of an expression": Forged(with_index(f"({SLOW})"), "3", "an index of an expression"),
    "an index of some rows": Forged(
        with_index(f"([Attr]) WHERE {SLOW}"), "3", "an index of an expression"
    ),
    "an index of no known order": Forged(
        with_index("([Attr] COLLATE none)"), "3", "no such collation"
    ),
    "no rowids": Forged(
        lambda path: database_of(path, columns=f"{NAMES}, PRIMARY KEY (ID)) WITHOUT ROWID --"),
        "no such column: rowid",
        "no such column: rowid",
    ),
    "free pages in a loop": Forged(freelist_loop, "3", "2"),
    "overflow in a loop": Forged(overflow_loop, "3", "malformed"),
    "a row of 2 GiB": Forged(long_varint, "malformed", "changed while it was read"),
    "a tree in a loop": Forged(tree_loop, "row 1 comes twice", "2"),
    "broken surrogates": Forged(broken_surrogates, "3", "2"),
    "two of a name": Forged(two_of_a_name, "malformed", "malformed"),
    "a virtual table": Forged(virtual, "is no plain table", "is no plain table"),
}


@pytest.mark.parametrize("what", FORGED)
def test_a_forged_database_is_read_or_refused_in_a_line(what: str, tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    FORGED[what].make(path)

    said = bounded.read_within(
        path, 128 * MIB, IMPORTS, READS,
        ARROW_DEFAULT_MEMORY_POOL="system",  # others reserve room that they may never need
    )  # fmt: skip

    for found, expected in zip(
        ast.literal_eval(said.removeprefix("read: ")), FORGED[what][1:], strict=True
    ):
        assert "\n" not in found
        assert found == expected or (expected in found and found.startswith(f"{path}: "))
    assert os.listdir(tmp_path) == ["x.db"]
