"""Small files that ask for much memory: each reader answers, or refuses in one line, within what a
file of that size may take. Profiles are in `test_allowance.py`.
"""

from __future__ import annotations

import os
import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import bounded
from bounded import MIB, SLACK_BYTES
from mem_parser.allowance import bound_bytes
from mem_parser.memlog.blocks import BlockKind, pack_block
from mem_parser.memlog.packing import pack_column
from mem_parser.memlog.writer import MemlogWriter
from mem_parser.memscope.form import COLUMNS, PYTHON_TRACE, TABLE
from memlogs import facts
from memscope_dumps import HEADER

ROWS = 20_000
LONG = 4092 * 220 + 460
"""Of a text, most of which is in pages of its own: the begin is short, so that a page has some."""
PAGE_BYTES = 4096
SHORT = "1,'MALLOC','PTA','n',5,6,7,'0','0x1000','{}','',''"
NAMES = tuple(f'"{name}"' for name in COLUMNS)


FLOOR_BYTES = 48 * MIB
"""A sixth of that of readers: what asks for too much has it in a sixth of the time."""
IMPORTS = f"""
from mem_parser import allowance
for take in (allowance.bound_bytes, allowance.MemoryAllowance.__init__):
    take.__defaults__ = ({FLOOR_BYTES},)
from mem_parser.memlog.reader import open_memlog
from mem_parser.memscope import arrowcolumns
from mem_parser.memscope.reading import read_rows, read_texts, stacks_of
from mem_parser.memscope.rewriting import add_labels
from mem_parser.memscope.siderows import SideFile
from mem_parser.memscope.tracejson import calls_of, trace_lines
"""
"""Before the limit is set: the libraries' own size is not what a file asks for."""
DATABASE = {
    "rows": "len(read_rows(path))",
    "values": "len(read_texts(path))",
    "stacks": "len(stacks_of(path, range(1, 20_001)))",
    "labels": "add_labels(path, {k: ['x'] for k in range(1, 20_001)})",
}
CSV = DATABASE | {"trace": "sum(map(len, trace_lines([path], [])))"}
CALLS = {"calls": "sum(1 for _ in calls_of(path))"}
SIDE_ROWS = {"side rows": "len(SideFile(path).take())"}
LOG = {
    "events": "sum(map(len, open_memlog(path).events()))",
    "keyframes": "sum(map(len, open_memlog(path).keyframes()))",
}


# -- databases of device memory ------------------------------------------------------------------


def database(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def default_texts(*added: str) -> Callable[[Path], None]:
    """Short rows that have no value for columns which were added later."""

    def forge(path: Path) -> None:
        kept = [name for name in COLUMNS if name not in added]
        values = ",".join(v for v, n in zip(SHORT.split(","), COLUMNS, strict=True) if n in kept)
        long = "{" + " " * LONG + "}"
        database(
            path,
            f"CREATE TABLE {TABLE} ({','.join(f'[{name}]' for name in kept)})",
            f"INSERT INTO {TABLE} WITH RECURSIVE n(k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM n"
            f" LIMIT {ROWS}) SELECT {values} FROM n",
            *(f"ALTER TABLE {TABLE} ADD COLUMN [{name}] TEXT DEFAULT '{long}'" for name in added),
        )

    return forge


def computed(column: str, expression: str) -> Callable[[Path], None]:
    """A column whose values are computed at each look."""

    def forge(path: Path) -> None:
        names = [name for name in COLUMNS if name != column]
        values = [v for v, n in zip(SHORT.split(","), COLUMNS, strict=True) if n != column]
        database(
            path,
            f"CREATE TABLE {TABLE} ({','.join(f'[{name}]' for name in names)},"
            f" [{column}] TEXT GENERATED ALWAYS AS ({expression}) VIRTUAL)",
            *[f"INSERT INTO {TABLE} VALUES ({','.join(values)})"] * 50,
        )

    return forge


def view(path: Path) -> None:
    """A view that makes rows without end."""
    database(
        path,
        f"CREATE VIEW {TABLE} ({','.join(NAMES)}) AS WITH RECURSIVE n(k) AS (SELECT 1 UNION ALL"
        f" SELECT k + 1 FROM n) SELECT {SHORT} FROM n",
    )


def varint(number: int) -> bytes:
    held = [number & 0x7F]
    while number := number >> 7:
        held.append(0x80 | number & 0x7F)
    return bytes(reversed(held))


def page_of(cells: list[bytes], kind: int, last: bytes = b"") -> bytes:
    """A page of a tree, as SQLite lays it out."""
    page, end, places = bytearray(PAGE_BYTES), PAGE_BYTES, []
    for cell in cells:
        end -= len(cell)
        page[end : end + len(cell)] = cell
        places.append(end)
    head = struct.pack(">BHHHB", kind, 0, len(cells), end, 0) + last
    head += struct.pack(f">{len(cells)}H", *places)
    page[: len(head)] = head
    return bytes(page)


def leaf(cells: list[bytes]) -> bytes:
    """A page of rows."""
    return page_of(cells, 13)


def interior(children: list[int], last_rowids: list[int]) -> bytes:
    """A page above pages of rows."""
    pairs = zip(children[:-1], last_rowids, strict=False)
    cells = [struct.pack(">I", page) + varint(row) for page, row in pairs]
    return page_of(cells, 5, struct.pack(">I", children[-1]))


def with_pages(path: Path, root: bytes, pages: list[bytes]) -> None:
    """Put a page in the place of the table's root, and others behind the file."""
    connection = sqlite3.connect(path)
    (at,) = connection.execute("SELECT rootpage FROM sqlite_master").fetchone()
    connection.close()
    data = bytearray(path.read_bytes())
    data[(at - 1) * PAGE_BYTES : at * PAGE_BYTES] = root
    data += b"".join(pages)
    data[28:32] = struct.pack(">I", len(data) // PAGE_BYTES)
    path.write_bytes(data)


def one_row(path: Path, text: str) -> tuple[bytes, int]:
    """Make a file of one row with a long text; returns what its cell has behind the rowid (the
    begin of the row, and where it goes on), and the payload's size.
    """
    values = SHORT.replace("'{}'", text)
    database(
        path, f"CREATE TABLE {TABLE} ({','.join(NAMES)})", f"INSERT INTO {TABLE} VALUES ({values})"
    )
    connection = sqlite3.connect(path)
    (at,) = connection.execute("SELECT rootpage FROM sqlite_master").fetchone()
    connection.close()
    page = path.read_bytes()[(at - 1) * PAGE_BYTES : at * PAGE_BYTES]
    cell = page[struct.unpack_from(">H", page, 8)[0] :]
    size = at = 0
    while cell[at] >= 0x80:
        size = (size | cell[at] & 0x7F) << 7
        at += 1
    return cell[at + 2 :], size | cell[at]


def shared_overflow(text: str) -> Callable[[Path], None]:
    """Rows that go on in the same chain of pages."""

    def forge(path: Path) -> None:
        rest, size = one_row(path, text)
        first = path.stat().st_size // PAGE_BYTES + 1
        leaves = [
            leaf([varint(size) + varint(4 * k + row) + rest for row in range(1, 5)])
            for k in range(400)
        ]
        last = [4 * k + 4 for k in range(400)]
        with_pages(path, interior([first + k for k in range(400)], last), leaves)

    return forge


def repeated_pages(path: Path) -> None:
    """A page of rows that is there 90,000 times, by two pages above it that name it often."""
    rest, size = one_row(path, "'{}'")
    first = path.stat().st_size // PAGE_BYTES + 1
    rows = leaf([varint(size) + varint(k) + rest[:size] for k in range(1, 41)])
    above = interior([first] * 300, [40] * 300)
    with_pages(path, interior([first + 1] * 300, [40] * 300), [rows, above])


def long_row(path: Path) -> None:
    """A row that is longer than any."""
    one_row(path, f"'{' ' * (20 * MIB)}'")


def sparse_database(path: Path) -> None:
    one_row(path, "'{}'")
    size = 3 << 30
    data = bytearray(path.read_bytes())
    data[28:32] = struct.pack(">I", size // PAGE_BYTES)
    path.write_bytes(data)
    os.truncate(path, size)


NULS = f"CAST(x'00' || zeroblob({LONG}) AS TEXT)"
DATABASES = {
    "three default texts": default_texts("Name", "Device Id", "Attr"),
    "default stacks": default_texts("Call Stack(Python)", "Call Stack(C)"),
    "a computed text": computed("Attr", f"printf('%{LONG}s', [Name])"),
    "a computed stack": computed("Call Stack(C)", f"printf('%{LONG}s', [Name])"),
    "a computed rowid": computed("rowid", "[Name]"),
    "a view": view,
    "texts in the same pages": shared_overflow(f"'{{{' ' * LONG}}}'"),
    "NULs in the same pages": shared_overflow(NULS),
    "pages that are there often": repeated_pages,
    "a row too long": long_row,
    "a sparse file": sparse_database,
}


# -- other files ---------------------------------------------------------------------------------


def row(number: int, name: str = "n", attr: str = "{}", stack: str = "") -> str:
    return f'{number},MALLOC,PTA,{name},5,6,7,0,0x1000,"{attr}","{stack}",""\n'


def hole_in_csv(path: Path) -> None:
    path.write_text(f"{HEADER}\n{row(1)}")
    os.truncate(path, 3 << 30)


def wide_texts(path: Path) -> None:
    """Long rows, each with a character that makes a text of Python four times as long; a NUL keeps
    the file from the reader of bytes.
    """
    with path.open("w", encoding="utf-8") as file:
        file.write(f"{HEADER}\n")
        for k in range(1, 101):
            file.write(row(k, "a\0b" if k == 1 else "n", stack="\U0001f600" + "x" * MIB))


CSVS = {"a sparse file": hole_in_csv, "wide texts": wide_texts}


def calls(path: Path) -> None:
    path.write_text(",".join(PYTHON_TRACE) + "\nf,1,2,3,4\n")
    os.truncate(path, 3 << 30)


def one_call(path: Path) -> None:
    path.write_text(",".join(PYTHON_TRACE) + '\n"' + "f\n" * (32 * MIB))


def hole_in_side_rows(path: Path) -> None:
    path.write_text("[]\n")
    os.truncate(path, 3 << 27)  # more than it may take


def lists_of_side_rows(path: Path) -> None:
    path.write_text(("[" + "[]," * 40_000 + "[]]\n") * 50)


ZEROS = pack_column(np.zeros(1 << 20, dtype=np.uint64))


def log_of(*blocks: bytes) -> Callable[[Path], None]:
    def forge(path: Path) -> None:
        with path.open("wb") as file:
            MemlogWriter(file.write, facts())
            for block in blocks:
                file.write(block)

    return forge


def sparse_log(path: Path) -> None:
    log_of()(path)
    os.truncate(path, 3 << 27)  # more than it may take


def zeros(kind: BlockKind, columns: int, *, rows: int = 1 << 20, last: int = 0) -> bytes:
    return pack_block(kind, ZEROS * columns, rows=rows, first=0, last=last)


LOGS = {
    "events": log_of(*[zeros(BlockKind.EVENTS, 8)] * 100),
    "keyframes": log_of(*[zeros(BlockKind.KEYFRAME, 5)] * 100),
    "stacks": log_of(*[zeros(BlockKind.STACKS, 5, last=1 << 20)] * 100),
    "blocks of zeros": log_of(
        *[pack_block(kind, bytes(1 << 24), rows=1, first=0, last=1) for kind in BlockKind] * 20
    ),
    "a sparse file": sparse_log,
}
FAMILIES: list[tuple[dict[str, str], dict[str, Callable[[Path], None]], str]] = [
    (DATABASE, DATABASES, "x.db"),
    (CSV, CSVS, "x.csv"),
    (CALLS, {"a sparse file": calls, "a name that is all": one_call}, "python_trace_1_2.csv"),
    (SIDE_ROWS, {"a sparse file": hole_in_side_rows, "lists": lists_of_side_rows}, "x.jsonl"),
    (LOG, LOGS, "x.memlog"),
]
CASES = [
    pytest.param(reads, forge, name, id=f"{name.split('.')[-1]}-{how}-{what}")
    for readers, forges, name in FAMILIES
    for how, reads in readers.items()
    for what, forge in forges.items()
]


@pytest.mark.parametrize(("reads", "forge", "name"), CASES)
def test_a_small_file_costs_what_its_bytes_may(
    reads: str, forge: Callable[[Path], None], name: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    forge(path)
    status = path.stat()
    stored = min(status.st_size, 512 * status.st_blocks)
    most = min(bound_bytes(size, FLOOR_BYTES) for size in (stored, 20 * MIB))
    said = bounded.read_within(
        path, most + SLACK_BYTES, IMPORTS, reads, ARROW_DEFAULT_MEMORY_POOL="system"
    )
    first, *rest = said.splitlines()
    assert first.startswith(("read: ", f"refused: {path}: ")), said
    assert len(rest) <= 1
