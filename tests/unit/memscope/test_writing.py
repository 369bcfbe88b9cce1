"""What is written has the tool's own layout, byte by byte."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import sqlite3
import stat
from pathlib import Path

import pytest

from mem_parser.errors import MemError
from mem_parser.memscope.form import (
    canonical_device,
    canonical_type,
    folders,
    stamp_of,
    watch_block_file,
)
from mem_parser.memscope.writing import CsvSink, DatabaseSink
from memscope_dumps import HEADER, Story, put


def story() -> Story:
    found = Story()
    found.mark('say "hi", you')
    found.malloc(
        0x124080013000,
        512,
        "HAL",
        1,
        owner="CANN@APP,size:9",
        python_stack="a.py(1): f\nb.py(2): g",
    )
    found.access(0x124080013000, 512)
    found.mark("end")
    return found


def test_a_csv_file_is_as_the_tool_writes_it(tmp_path: Path) -> None:
    path = Path(story().csv(tmp_path))
    assert path.read_text() == (
        f"{HEADER}\n"
        '1,MSTX,Mark,"say ""hi"", you",1000,100,7,0,N/A,"{}",,\n'
        "2,MALLOC,HAL,N/A,2000,100,7,0,0x0000124080013000,"
        '"{allocation_id:1,addr:0x124080013000,size:512,used:512,total:1024,'
        'owner:CANN@APP;size:9}","a.py(1): f\nb.py(2): g",\n'
        "3,ACCESS,READ,op,3000,100,7,0,0x0000124080013000,"
        '"{allocation_id:1,addr:0x124080013000,size:512,type:PTA,dtype:torch.float32,'
        'shape:[2, 3]}",,\n'
        '4,MSTX,Mark,"end",4000,100,7,0,N/A,"{}",,\n'
    )
    assert stat.S_IMODE(path.stat().st_mode) & 0o777 & ~0o640 == 0
    with path.open(newline="") as file:
        assert [row[3] for row in csv.reader(file)][1] == 'say "hi", you'


def test_a_database_has_the_tools_table_and_json(tmp_path: Path) -> None:
    connection = sqlite3.connect(story().db(tmp_path))
    columns = connection.execute("PRAGMA table_info(memscope_dump)").fetchall()
    assert [row[1] for row in columns] == HEADER.split(",")
    assert [row[2] for row in columns] == (
        ["INTEGER"] + ["TEXT"] * 3 + ["INTEGER"] * 3 + ["TEXT"] * 5
    )
    rows = connection.execute("SELECT * FROM memscope_dump").fetchall()
    assert json.loads(rows[1][9]) == {
        "allocation_id": "1", "addr": "0x124080013000", "size": "512", "used": "512",
        "total": "1024", "owner": "CANN@APP,size:9",
    }  # fmt: skip
    assert rows[0][3] == 'say "hi", you'
    assert rows[1][8] == "0x0000124080013000"
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_a_name_that_is_taken_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    os.symlink(tmp_path / "elsewhere", path)
    for writer in (CsvSink, DatabaseSink):
        with pytest.raises(MemError, match="file exists"):
            writer(str(path))
        with pytest.raises(MemError, match="no such file"):
            writer(str(tmp_path / "none" / "x"))
    assert not (tmp_path / "elsewhere").exists()


def test_a_transaction_that_fails_leaves_the_rows_before(tmp_path: Path) -> None:
    path = str(tmp_path / "x.db")
    rows = story().rows
    with contextlib.closing(DatabaseSink(path)) as file:
        put(file, rows)
        with pytest.raises(OverflowError):
            put(file, [rows[0], rows[0]._replace(tid=1 << 80)])
        put(file, rows[:1])
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM memscope_dump").fetchone() == (5,)
    connection.close()


def test_the_tree_is_that_of_the_manual() -> None:
    tree = folders("out", 42, "20250731123456789")
    assert tree.run == "out/msmemscope_42_20250731123456789_ascend"
    assert tree.config == f"{tree.run}/config.json"
    assert tree.dump("0") == f"{tree.run}/device_0/dump/memscope_dump_20250731123456789.csv"
    assert tree.dump("cpu", "db").endswith("device_cpu/dump/memscope_dump_20250731123456789.db")
    assert tree.watch("1") == f"{tree.run}/device_1/watch_dump"
    assert tree.log() == "out/msmemscope_logs/msmemscope_20250731123456789.log"
    name = watch_block_file("0", 7, "a/b", 3, watched="w", output=1, after=True)
    assert name == "0_7_a.b_3-w_1_after.bin"
    assert len(stamp_of(0.5)) == 17
    assert stamp_of(0.5).endswith("500")


def test_words_have_one_spelling() -> None:
    assert [canonical_type(word) for word in ("MindSpore", "acl init", "Range_start")] == [
        "MINDSPORE", "ACL_INIT", "RANGE_START",
    ]  # fmt: skip
    assert [canonical_device(word) for word in ("host", " 3", "", "CPU")] == [
        "cpu", "3", "N/A", "cpu",
    ]  # fmt: skip
