"""Dumps as columns: both forms, all spellings, hostile files."""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.errors import MemError
from mem_parser.memscope import arrowcolumns, csvfile, reading
from mem_parser.memscope.form import COLUMNS, EVENTS, FREE, MALLOC, DumpError
from mem_parser.memscope.reading import read_rows, read_texts, stacks_of
from mem_parser.memscope.rows import Rows
from mem_parser.memscope.writing import CsvSink, DatabaseSink
from memscope_dumps import HEADER, Row, Story, line, put, text_file

MANUAL = """\
ID,Event,Event Type,Name,Timestamp(ns),Process Id,Thread Id,Device Id,Ptr,Attr,Call Stack(Python),Call Stack(C)
1,SYSTEM,ACL_INIT,N/A,1754017364000000001,4711,4712,N/A,N/A,"{}",,
2,MSTX,Mark,"test",1754017364000000002,4711,4712,N/A,N/A,"{}",,
3,MALLOC,HAL,N/A,1754017364000000003,4711,4712,0,0x0000124080013000,"{allocation_id:1,addr:0x124080013000,size:2097152,used:2097152,owner:CANN@RUNTIME,page_type:normal,alloc_type:alloc}","/a/b.py(3): f
/a/c.py(4): <module>","libascend_hal.so(halMemAlloc+0x10) [0x7f]
libc.so.6(+0x29d8f) [0x7e]"
4,MALLOC,PTA,N/A,1754017364000000004,4711,4712,0,0x0000124080013200,"{allocation_id:2,addr:0x124080013200,size:512,used:512,total:2097152,owner:PTA@weight,inefficient_type:early_allocation,late_deallocation}","NA",
5,ACCESS,WRITE,"aten::add",1754017364000000005,4711,4712,0,0x0000124080013200,"{allocation_id:2,addr:0x124080013200,size:512,type:PTA,dtype:torch.float32,shape:[2, 3],format:2}",,
6,MALLOC,HOST_PINNED,N/A,1754017364000000006,4711,4712,cpu,0x00007f0000000000,"{allocation_id:3,addr:0x7f0000000000,size:64,pinned:true,used:64}",,
7,MALLOC,PTA,N/A,1754017364000000007,4711,4712,0,0x0000124080013400,"{allocation_id:4,addr:0x124080013400,size:8,shadow:true}",,
"""  # noqa: E501
EARLY = """\
ID,Event,Event Type,Name,Timestamp(ns),Process Id,Thread ID,Device ID,Ptr,Attr
1,SYSTEM,acl init,N/A,5,10,11,host,N/A,{}
2,MALLOC,HAL,N/A,6,10,11,0,20065040048128,"{addr:20065040048128,size:512,owner:,MID:7}"
3,malloc,MindSpore,N/A,7,10,-1,host,20065040048640,"{addr:20065040048640,size:9,total:9,used:9}"
"""


def written(folder: Path, text: str, name: str = "memscope_dump_1.csv") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_file_of_the_manual_reads_column_by_column(tmp_path: Path) -> None:
    rows = read_rows(written(tmp_path, MANUAL))
    assert rows.id.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert [EVENTS[k] for k in rows.event.tolist()] == [
        "SYSTEM", "MSTX", "MALLOC", "MALLOC", "ACCESS", "MALLOC", "MALLOC",
    ]  # fmt: skip
    assert [rows.words.types[k] for k in rows.type.tolist()] == [
        "ACL_INIT", "MARK", "HAL", "PTA", "WRITE", "HOST_PINNED", "PTA",
    ]  # fmt: skip
    assert [rows.words.names[k] for k in rows.name.tolist()][1:5] == [
        "test", "N/A", "N/A", "aten::add",
    ]  # fmt: skip
    assert rows.time_ns[0] == 1754017364000000001
    assert [hex(a) for a in rows.address.tolist()][2:4] == ["0x124080013000", "0x124080013200"]
    assert [rows.words.devices[k] for k in rows.device.tolist()] == ["N/A"] * 2 + ["0"] * 3 + [
        "cpu", "0",
    ]  # fmt: skip
    assert rows.allocation.tolist() == [-1, -1, 1, 2, 2, 3, 4]
    assert rows.size.tolist() == [-1, -1, 2097152, 512, 512, 64, 8]
    assert rows.used.tolist() == [-1, -1, 2097152, 512, -1, 64, -1]
    assert rows.total.tolist()[3] == 2097152
    owners = [rows.words.owners[k] if k >= 0 else None for k in rows.owner.tolist()]
    assert owners[2:4] == ["CANN@RUNTIME", "PTA@weight"]
    assert rows.access_pta.tolist() == [False] * 4 + [True, False, False]
    assert rows.shadow.tolist() == [False] * 6 + [True]


def test_stacks_keep_their_line_breaks(tmp_path: Path) -> None:
    path = written(tmp_path, MANUAL)
    python, c = stacks_of(path, [3])[3]
    assert python.splitlines() == ["/a/b.py(3): f", "/a/c.py(4): <module>"]
    assert len(c.splitlines()) == 2


def test_early_releases_have_decimal_addresses_and_other_words(tmp_path: Path) -> None:
    rows = read_rows(written(tmp_path, EARLY))
    assert rows.address.tolist() == [0, 20065040048128, 20065040048640]
    assert [rows.words.devices[k] for k in rows.device.tolist()] == ["cpu", "0", "cpu"]
    assert [rows.words.types[k] for k in rows.type.tolist()] == ["ACL_INIT", "HAL", "MINDSPORE"]
    assert rows.event.tolist()[1:] == [MALLOC, MALLOC]
    assert rows.size.tolist() == [-1, 512, 9]
    assert rows.tid.tolist() == [11, 11, -1]


TWO_LINES = '"a\nb"'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty: not even a header"),
        ("a,b,c\n1,2,3\n", "line 1 is no header"),
        (HEADER.replace("Ptr,", "") + "\n", "line 1: no column Ptr"),
        (f"{HEADER}\n1,MALLOC\n", "line 2: 2 fields, not 12"),
        (f"{HEADER}\n{line()}\n{line()},more\n", "line 3: 13 fields, not 12"),
        (f"{HEADER}\n{line(id='x')}\n", "line 2: ID is 'x', not a number"),
        (f"{HEADER}\n{line(c=TWO_LINES)}\n{line(time='9' * 30)}\n", "line 4: Timestamp(ns) is"),
        (f"{HEADER}\n{line(ptr='0xzz')}\n", "line 2: Ptr is '0xzz', not an address"),
        (f"{HEADER}\n{line(ptr='-1')}\n", "line 2: Ptr is '-1', not an address"),
        (f"{HEADER}\n{line(attr='{size:-5}')}\n", "line 2: size is '-5', not a size"),
        (f"{HEADER}\n{line(attr='{size:many}')}\n", "line 2: size is 'many', not a number"),
        (f'{HEADER}\n{line()}\n1,MALLOC,HAL,"N/A\n', "line 3: 4 fields, not 12"),
    ],
)
def test_a_broken_file_is_one_line_that_names_the_row(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(DumpError) as error:
        read_rows(path)
    assert said in str(error.value)
    assert str(error.value).startswith(path)
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 3


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    for name, said in (
        ("pipe.csv", "is a pipe"),
        ("none.csv", "no such file"),
        (".", "is a folder"),
    ):
        with pytest.raises(DumpError, match=said):
            read_rows(str(tmp_path / name))


def test_a_file_without_rows_has_none(tmp_path: Path) -> None:
    rows = read_rows(text_file(tmp_path / "x.csv"))
    assert len(rows) == 0
    assert rows.devices() == []


def test_lines_without_anything_are_no_rows(tmp_path: Path) -> None:
    path = text_file(tmp_path / "x.csv", line(id="1"), "", line(id="2"), "", "")
    assert read_rows(path).id.tolist() == [1, 2]


def test_a_field_larger_than_the_librarys_limit_is_read_and_the_limit_stays(tmp_path: Path) -> None:
    import csv

    before = csv.field_size_limit()
    stack = "\n".join(f"lib.so(+{k:#x})" for k in range(20_000))
    path = text_file(tmp_path / "x.csv", line(c=f'"{stack}"'))
    assert stacks_of(path, [1])[1][1] == stack
    assert csv.field_size_limit() == before


def test_a_line_that_never_ends_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csvfile, "LINE_MAX_CHARS", 1000)
    monkeypatch.setattr(csvfile, "FIELD_MAX_CHARS", 999)
    monkeypatch.setattr(arrowcolumns, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(arrowcolumns, "ROW_MAX_BYTES", 1000)
    with pytest.raises(DumpError, match="field larger than field limit"):
        read_rows(text_file(tmp_path / "x.csv", line(c="x" * 5000)))


def same(left: Rows, right: Rows) -> bool:
    columns = [name for name in vars(left) if name not in {"words", "place"}]
    return left.words == right.words and all(
        getattr(left, name).tolist() == getattr(right, name).tolist() for name in columns
    )


words = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\r"), max_size=12)
row = st.builds(
    Row,
    id=st.integers(0, 1 << 40),
    event=st.sampled_from(EVENTS),
    type=st.sampled_from(["HAL", "PTA", "READ", "Mark", "ATEN_START"]),
    name=words,
    time_ns=st.integers(0, (1 << 63) - 1),
    pid=st.integers(0, 1 << 22),
    tid=st.integers(0, 1 << 22),
    device=st.sampled_from(["0", "17", "cpu", "N/A"]),
    address=st.none() | st.integers(0, (1 << 64) - 1),
    attributes=st.tuples(
        st.just(("allocation_id", "addr", "size", "used", "owner")),
        st.tuples(
            st.integers(0, 99), st.just("0x1"), st.integers(0, 1 << 50), st.integers(0, 9),
            st.from_regex(r"[A-Z@_]{1,9}", fullmatch=True),
        ),
    ),
    python_stack=words,
    c_stack=words,
)  # fmt: skip


@given(st.lists(row, max_size=12))
def test_both_forms_give_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row]
) -> None:
    folder = tmp_path_factory.mktemp("x")
    for form, name in ((CsvSink, "x.csv"), (DatabaseSink, "x.db")):
        with closing(form(str(folder / name))) as file:
            put(file, rows)
    csv_rows, db_rows = read_rows(folder / "x.csv"), read_rows(folder / "x.db")
    assert same(csv_rows, db_rows)
    assert csv_rows.id.tolist() == [one.id for one in rows]
    assert csv_rows.address.tolist() == [one.address or 0 for one in rows]
    assert csv_rows.size.tolist() == [one.attributes[1][2] for one in rows]
    names = [csv_rows.words.names[k] for k in csv_rows.name.tolist()]
    assert names == [one.name for one in rows]
    for k, (place, other) in enumerate(
        zip(csv_rows.place.tolist(), db_rows.place.tolist(), strict=True)
    ):
        stacks = (rows[k].python_stack, rows[k].c_stack)
        assert stacks_of(str(folder / "x.csv"), [place])[place] == stacks
        assert stacks_of(str(folder / "x.db"), [other])[other] == stacks


@pytest.mark.filterwarnings("ignore:.*was cut:RuntimeWarning")
@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_rows_or_one_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, headed: bool
) -> None:
    path = tmp_path_factory.mktemp("x") / "x.csv"
    path.write_bytes((HEADER.encode() + b"\n" if headed else b"") + data)
    said = ""
    try:
        read_rows(path)
    except DumpError as error:
        said = str(error)
    assert "\n" not in said


def database(folder: Path, *statements: str) -> str:
    path = str(folder / "x.db")
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()
    return path


NAMES = ",".join(f'"{name}"' for name in HEADER.split(","))


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        (["CREATE TABLE other (a)"], "no table memscope_dump"),
        (["CREATE TABLE memscope_dump (ID, Event, Attr)"], "has no column Event Type"),
        ([f"CREATE TABLE t ({NAMES})", "CREATE VIEW memscope_dump AS SELECT * FROM t"],
         "no plain table"),
        (["CREATE VIRTUAL TABLE memscope_dump USING fts5(a)"], "no plain table"),
        ([f"CREATE TABLE memscope_dump ({NAMES})",
          "INSERT INTO memscope_dump VALUES (NULL,'','','',1,1,1,'0','','','','')"],
         "row 1: ID is 'None'"),
        ([f"CREATE TABLE memscope_dump ({NAMES})",
          "INSERT INTO memscope_dump VALUES (1,x'00','','',1,1,1,'0','','','','')"],
         "row 1: Event is"),
        ([f"CREATE TABLE memscope_dump ({NAMES})",
          "INSERT INTO memscope_dump VALUES (1,'','','',1,1,1,'0','',x'00','','')"],
         "row 1: Attr is"),
    ],
)  # fmt: skip
def test_a_database_of_something_else_is_one_line(
    tmp_path: Path, statements: list[str], said: str
) -> None:
    with pytest.raises(DumpError, match=said):
        read_rows(database(tmp_path, *statements))


def test_a_database_that_is_cut_is_one_line(tmp_path: Path) -> None:
    story = Story()
    for number in range(300):
        story.malloc(4096 * number, 512, number=number)
    whole = Path(story.db(tmp_path)).read_bytes()
    path = tmp_path / "cut.db"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DumpError, match=r"cut\.db"):
        read_rows(path)


def test_a_text_in_a_database_that_is_no_utf_8_is_read(tmp_path: Path) -> None:
    story = Story()
    for number in range(3000):
        story.malloc(4096, 512, number=number)
    path = story.db(tmp_path)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE memscope_dump SET Name = CAST(x'ff41' AS TEXT) WHERE ID = 2500")
    connection.commit()
    connection.close()
    rows = read_rows(path)
    assert rows.id.tolist() == list(range(1, 3001))
    assert rows.words.names[rows.name[2499]] == "\udcffA"


def test_the_old_name_of_the_table_is_known(tmp_path: Path) -> None:
    story = Story()
    story.malloc(4096, 512)
    path = story.db(tmp_path)
    connection = sqlite3.connect(path)
    connection.execute("ALTER TABLE memscope_dump RENAME TO leaks_dump")
    connection.commit()
    connection.close()
    assert read_rows(path).size.tolist() == [512]


def test_events_that_nobody_knows_are_rows_too(tmp_path: Path) -> None:
    rows = read_rows(text_file(tmp_path / "x.csv", line(event="NEW"), line(event="FREE")))
    assert rows.is_event(FREE).tolist() == [False, True]


def test_an_error_of_a_dump_is_an_error_of_both_trees() -> None:
    assert issubclass(DumpError, MemError)
    assert issubclass(DumpError, ValueError)


@pytest.mark.filterwarnings("ignore:.*was cut:RuntimeWarning")
def test_a_last_line_that_was_cut_costs_that_row_alone(tmp_path: Path) -> None:
    head = ",".join(COLUMNS) + "\n"
    row = '{},MALLOC,HAL,N/A,100,1,1,{},0x0000000000001000,"{{size:8,used:8}}",,\n'
    rows = [row.format(1, "host"), row.format(2, "host")]
    for size in range(1, rows[1].index('used:8}"')):
        path = tmp_path / "cut.csv"
        path.write_text(head + rows[0] + rows[1][:size])
        for found in (read_rows(str(path)), read_texts(str(path))):
            assert found.id.tolist() == [1]
            assert found.words.devices == ("cpu",)
    with pytest.warns(RuntimeWarning, match=r"cut\.csv: its last line was cut"):
        read_rows(str(path))
    # Within the file, it is an error.
    path.write_text(head + rows[1][:20] + "\n" + rows[0])
    with pytest.raises(DumpError, match="line 2"):
        read_rows(str(path))


def test_without_arrow_a_dump_is_read_and_a_large_one_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = text_file(tmp_path / "x.csv", line(id="1"), line(id="2", name="b"))
    expected = read_rows(path)
    monkeypatch.setitem(sys.modules, "mem_parser.memscope.arrowcolumns", None)
    assert same(read_rows(path), expected)
    monkeypatch.setattr(reading, "LARGE_BYTES", os.stat(path).st_size)
    with pytest.warns(RuntimeWarning, match=r"x\.csv: with pyarrow .* pip install"):
        assert same(read_rows(path), expected)
    with pytest.raises(DumpError, match="no such file"):
        read_rows(str(tmp_path / "none.csv"))
