"""Rows that are read all at once are the rows that are read one by one, whatever a file holds."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mem_parser.memscope import arrowcolumns, csvfile
from mem_parser.memscope.form import COLUMNS, DumpError
from mem_parser.memscope.reading import read_rows, read_texts
from mem_parser.memscope.rewriting import rewritten
from mem_parser.memscope.rows import Rows
from memscope_dumps import HEADER, Story, line, text_file

BLOCKS_BYTES = [300, 900, 1 << 20]
"""Blocks that hold a part of a row, some rows, and whole files."""


def outcome(read: object, path: str) -> tuple[Rows | None, str]:
    """The rows, or the error."""
    try:
        return read(path), ""  # type: ignore[operator]
    except DumpError as error:
        return None, str(error)


def are_the_same(path: str, block_bytes: int = 1 << 20) -> Rows | None:
    """Check that both ways to read a dump say the same; return its rows."""
    with mock.patch.object(arrowcolumns, "BLOCK_BYTES", block_bytes):
        left, error = outcome(read_rows, path)
    right, other = outcome(read_texts, path)
    # Of several errors, that of an earlier block comes first.
    assert bool(error) == bool(other)
    if os.stat(path).st_size < block_bytes:
        assert error == other
    if left is None or right is None:
        return None
    assert left.words == right.words
    for name in vars(left):
        if name != "words":
            one, two = getattr(left, name), getattr(right, name)
            assert one.dtype == two.dtype, name
            assert one.tolist() == two.tolist(), name
    return left


numbers = st.one_of(
    st.integers(0, 1 << 64).map(str),
    st.sampled_from(["-1", "N/A", "", " 7", "1_0", "+5", "x", "9" * 19, "0007", "\u0663", "1e3"]),
)
addresses = st.one_of(
    st.integers(0, (1 << 64) - 1).map(lambda k: f"0x{k:016x}"),
    st.integers(0, (1 << 64) - 1).map(hex),
    st.integers(0, (1 << 64) - 1).map(str),
    st.sampled_from(["N/A", "", "0x", "0xg", "0X1F", "-1", "0x" + "1" * 17, "N/A "]),
)
owners = st.sampled_from(
    ["PTA@ops", "PTA@weight", "A", "", "a b", "sch\u00f6n", "x[1", "y{z}", "C@D"]
)
values = {
    "allocation_id": numbers,
    "addr": addresses,
    "size": numbers,
    "pinned": st.just("true"),
    "used": numbers,
    "total": numbers,
    "owner": owners,
    "shadow": st.sampled_from(["true", "TRUE", "no"]),
    "type": st.sampled_from(["PTA", "ATB", "pta"]),
    "shape": st.sampled_from(["[2, 3]", "[1]", "(a:1, b:2)"]),
    "inefficient_type": st.sampled_from(["early_allocation,late_deallocation"]),
    "streamId": numbers,
    "taskId": numbers,
    "page type": st.just("normal"),
}
USUAL = [
    ("allocation_id", "addr", "size", *more)
    for more in (
        (), ("used",), ("used", "total"), ("total",), ("pinned", "used"), ("shadow",),
        ("used", "total", "owner"), ("used", "owner", "shadow"), ("type", "shape"),
        ("used", "total", "owner", "inefficient_type"), ("pinned", "shadow"), ("total", "used"),
    )
]  # fmt: skip
keys = st.one_of(
    st.sampled_from(USUAL),
    st.sampled_from([(), ("streamId", "taskId"), ("addr", "size", "owner"), ("shadow", "size")]),
    st.lists(st.sampled_from(sorted(values)), max_size=6).map(tuple),
)


@st.composite
def attributes(draw: st.DrawFn, *, quotes: bool) -> str:
    """An Attr in the form of CSV or of databases, or one that is broken."""
    if draw(st.integers(0, 19)) == 0:
        return draw(st.text(st.sampled_from('{}:,"[]aA1\u00e9owner'), max_size=12))
    sane = draw(st.integers(0, 3)) > 0
    pairs = []
    for key in draw(keys):
        value = draw(values[key])
        if sane and key in {"allocation_id", "size", "used", "total"}:
            value = str(draw(st.integers(0, 10**18)))
        if sane and key == "addr":
            value = hex(draw(st.integers(0, (1 << 48) - 1)))
        pairs.append(f'"{key}":"{value}"' if quotes else f"{key}:{value}")
    return "{" + ",".join(pairs) + draw(st.sampled_from(["}"] * 9 + ["", "} "]))


def rows_of(*, quotes: bool) -> st.SearchStrategy[list[tuple[str, ...]]]:
    word = st.sampled_from(["N/A", "aten::add", "aten::" + "m" * 30, "", "gr\u00fcn", 'a"b', "a,b"])
    sane = st.integers(0, 10**18).map(str)
    row = st.tuples(
        st.one_of(*[sane] * 9, numbers),
        st.sampled_from(["MALLOC", "FREE", "ACCESS", "Malloc", "memory_free", "NEW", "MSTX"]),
        st.sampled_from(["HAL", "PTA", "acl init", "MindSpore", "READ", "PTA_caching"]),
        word,
        st.one_of(*[sane] * 9, numbers),
        st.one_of(*[sane] * 9, numbers),
        st.one_of(*[sane] * 9, numbers),
        st.sampled_from(["0", "1", "cpu", "host", "N/A", " 2 "]),
        addresses.filter(lambda text: text[:1] in {"N", "0"}),
        attributes(quotes=quotes),
        st.sampled_from(["", "NA", "a.py(1): f\nb.py(2): g", 'say "hi"', "x,y"]),
        st.sampled_from(["", "libc.so.6(+0x1)\nlib.so", "\n", "a\r\nb"]),
    )
    return st.lists(row, max_size=12)


def as_line(row: tuple[str, ...], style: int) -> str:
    """A line of CSV: quoted where it must be, and in ``style`` 1 wherever a dump may."""
    fields = [csvfile.plain_or_quoted(field) for field in row]
    if style:
        for column in (3, 9, 10, 11):
            fields[column] = csvfile.quoted(row[column])
    return ",".join(fields)


@given(
    rows_of(quotes=False), st.integers(0, 1), st.sampled_from(["\n", "\n", "\n", "\r\n"]),
    st.tuples(st.booleans(), st.sampled_from(BLOCKS_BYTES)),
)  # fmt: skip
def test_csv_files_are_read_as_the_library_reads_them(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, ...]],
    style: int,
    ending: str,
    ended_blocks: tuple[bool, int],
) -> None:
    ended, block_bytes = ended_blocks
    path = tmp_path_factory.mktemp("x") / "x.csv"
    text = ending.join([HEADER, *(as_line(row, style) for row in rows)]) + ending * ended
    path.write_bytes(text.encode())
    are_the_same(str(path), block_bytes)


@example(line(id="9", c='"open'), 8, 1 << 20)
@given(
    st.text(st.sampled_from('01,"\n\n,,PN/A{}:x'), max_size=120), st.integers(0, 8),
    st.sampled_from(BLOCKS_BYTES),
)  # fmt: skip
def test_files_with_quotes_anywhere_are_read_as_the_library_reads_them(
    tmp_path_factory: pytest.TempPathFactory, text: str, place: int, block_bytes: int
) -> None:
    lines = [line(id=str(k)) for k in range(8)]
    path = text_file(tmp_path_factory.mktemp("x") / "x.csv", *lines[:place], text, *lines[place:])
    are_the_same(path, block_bytes)


NAMES = ",".join(f'"{name}"' for name in COLUMNS)


@given(rows_of(quotes=True), st.sampled_from([None, None, None, 3, 8, 9]))
def test_databases_are_read_as_their_values_one_by_one(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, ...]], missing: int | None
) -> None:
    path = str(tmp_path_factory.mktemp("x") / "x.db")
    connection = sqlite3.connect(path)
    connection.execute(f"CREATE TABLE memscope_dump ({NAMES})")
    for number, row in enumerate(rows):
        held: list[object] = list(row)
        for column in (0, 4, 5, 6):
            if row[column].isascii() and row[column].isdigit() and len(row[column]) < 19:
                held[column] = int(row[column])
        if missing is not None and number == len(rows) - 1:
            held[missing] = None
        connection.execute(f"INSERT INTO memscope_dump VALUES ({','.join('?' * 12)})", held)
    connection.commit()
    connection.close()
    are_the_same(path)


@pytest.mark.parametrize("block_bytes", BLOCKS_BYTES)
def test_a_usual_dump_is_read_by_blocks_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    monkeypatch.setattr(arrowcolumns, "BLOCK_BYTES", block_bytes)
    story = Story()
    for number in range(200):
        story.malloc(0x1000 * number, 512, "PTA", number, owner="PTA@ops", python_stack='a\n"b"')
        story.access(0x1000 * number, 512, number)
        story.mark()
    path = story.csv(tmp_path)
    with csvfile.behind_header(path) as file:
        assert file is not None
        parts = list(arrowcolumns.batches(file))
    assert sum(map(len, parts)) == 600
    assert (len(parts) > 1) == (block_bytes < 1 << 20)
    rows = are_the_same(path, block_bytes)
    assert rows is not None
    assert len(rows) == 600


def test_a_usual_database_is_read_by_blocks_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrowcolumns, "BLOCK_ROWS", 4096)
    story = Story()
    for number in range(5000):
        story.malloc(0x1000 * number, 512, "PTA", number, owner="PTA@ops", python_stack='a\n"b"')
        story.access(0x1000 * number, 512, number)
    path = story.db(tmp_path)
    parts = list(arrowcolumns.blocks(path))
    assert not any(isinstance(part, csvfile.Chunk) for part in parts)
    assert len(parts) > 1
    connection = sqlite3.connect(path)
    connection.execute("UPDATE memscope_dump SET Name = 'a' || char(31) || 'b' WHERE ID = 9000")
    connection.execute("UPDATE memscope_dump SET Name = 'a' || char(0) || 'b' WHERE ID = 9500")
    connection.execute("UPDATE memscope_dump SET Attr = x'7b7d' WHERE ID = 9600")
    connection.execute("UPDATE memscope_dump SET rowid = -7 WHERE ID = 77")
    connection.execute("UPDATE memscope_dump SET rowid = 9223372036854775807 WHERE ID = 78")
    connection.commit()
    connection.close()
    parts = list(arrowcolumns.blocks(path))
    assert len({type(part) for part in parts}) == 2
    assert are_the_same(path) is None  # an Attr of bytes is none
    connection = sqlite3.connect(path)
    connection.execute("UPDATE memscope_dump SET Attr = '{}' WHERE ID = 9600")
    connection.commit()
    connection.close()
    rows = are_the_same(path)
    assert rows is not None
    assert len(rows) == 10_000
    assert "a\0b" in rows.words.names
    assert rows.id.tolist()[0] == 77
    assert rows.id.tolist()[-1] == 78


def test_a_long_row_and_a_row_of_another_layout_are_no_obstacle(tmp_path: Path) -> None:
    stack = "\n".join(f"lib{k}.so(+0x1)" for k in range(2000))
    lines = [line(id=str(k)) for k in range(50)]
    lines[20] = line(id="20", c=f'"{stack}"')
    lines[30] = line(id="30", name='"say ""hi"""')
    rows = are_the_same(text_file(tmp_path / "x.csv", *lines), 900)
    assert rows is not None
    assert rows.id.tolist() == list(range(50))
    assert 'say "hi"' in rows.words.names


@given(rows_of(quotes=False), st.integers(0, 1), st.sets(st.integers(1, 12)), st.data())
def test_rewritten_files_have_the_new_texts_and_all_other_bytes(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, ...]],
    style: int,
    wanted: set[int],
    data: st.DataObject,
) -> None:
    path = tmp_path_factory.mktemp("x") / "x.csv"
    path.write_bytes("\n".join([HEADER, *(as_line(row, style) for row in rows), ""]).encode())
    places = sorted(place for place in wanted if place <= len(rows))
    new = {place: data.draw(st.sampled_from(["{}", '{a:"1"}', None])) for place in places}
    told = b"".join(rewritten(str(path), new, lambda place, old: new[place] or old))
    expected = [list(row) for row in rows]
    for place, text in new.items():
        expected[place - 1][9] = rows[place - 1][9] if text is None else text
    other = path.with_name("y.csv")
    other.write_bytes(told)
    found = [
        row for chunk in csvfile.chunks(str(other)) for row in zip(*chunk.columns, strict=True)
    ]
    assert found == [tuple(row) for row in expected]
    if not any(text is not None for text in new.values()):
        assert told == path.read_bytes()
    with pytest.raises(DumpError, match="changed while it was read"):
        list(rewritten(str(path), {len(rows) + 1}, lambda _, old: old))


def test_text_behind_a_closing_quote_is_what_the_library_reads(tmp_path: Path) -> None:
    path = text_file(tmp_path / "x.csv", line(name='"ab"cd'), line(id="2"))
    assert read_rows(path).words.names == read_texts(path).words.names == ("abcd", "N/A")


def test_owners_are_right_after_tails_were_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrowcolumns, "_TAILS_MAX", 3)
    story = Story()
    told = [f"PTA@owner{k * 7 % 11}" for k in range(60)]
    for number, owner in enumerate(told):
        story.malloc(4096 * number, 64, "PTA", number, owner=owner)
    rows = read_rows(story.csv(tmp_path))
    assert [rows.words.owners[k] for k in rows.owner.tolist()] == told


@pytest.mark.parametrize(
    "attribute",
    [
        '{"allocation_id":"1","addr":"0x10,"size":"3","used":"4"}',
        '{"allocation_id":"1","addr":"0x10","size":"3","used":"x"}',
        '{"allocation_id":"1","addr":"0x10","size":"3","used":"4,"total":"5"}',
        '{"allocation_id":"12,"addr":"0x10","size":"34","used":"5"}',
        '{"allocation_id":"12","addr":"0x10","size":"34,"used":"5"}',
        '{"streamId":"1","taskId":"2","owner":"PTA@weight"}',
        '{"streamId":"1","size":"7"}',
        '{"allocation_id":"1","addr":"0x10","size":"3","owner":"' + "o" * 5000 + '"}',
        '{"allocation_id":"99999999999999999999","addr":"0x10","size":"3"}',
        '{"allocation_id":"1","addr":"0x10","size":"3","used":"9223372036854775808"}',
    ],
)
def test_attributes_that_are_nearly_usual_are_read_as_texts(tmp_path: Path, attribute: str) -> None:
    story = Story()
    story.malloc(4096, 64, "PTA", 1)
    path = story.db(tmp_path)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE memscope_dump SET Attr = ?", (attribute,))
    connection.commit()
    connection.close()
    found = []
    for read in (read_rows, read_texts):
        try:
            rows = read(path)
            found.append((
                rows.allocation.tolist(), rows.size.tolist(), rows.used.tolist(),
                rows.total.tolist(), rows.words.owners,
            ))  # fmt: skip
        except DumpError as error:
            found.append(str(error))
    assert found[0] == found[1]


@pytest.mark.parametrize("gap", [False, True])
def test_a_text_that_looks_like_a_row_does_not_stand_for_one_that_is_none(
    tmp_path: Path, gap: bool
) -> None:
    story = Story()
    for number in range(1, 5):
        story.malloc(4096 * number, 64, "PTA", number)
    path = story.db(tmp_path)
    fake = ["x\x1f5\x1f100\x1f7\x1f0\x1fN/A\x1f{}" + "\x1f9" * gap]
    fake.append("7\x1fFREE\x1fPTA\x1fy")
    connection = sqlite3.connect(path)
    connection.execute("UPDATE memscope_dump SET ID = NULL WHERE rowid = 2")
    connection.execute("UPDATE memscope_dump SET Name = ? WHERE rowid = 3", ("\x1e".join(fake),))
    if gap:
        connection.execute("UPDATE memscope_dump SET rowid = 40 WHERE rowid = 4")
    connection.commit()
    connection.close()
    for read in (read_rows, read_texts):
        with pytest.raises(DumpError, match="row 2: ID is 'None'"):
            read(path)
