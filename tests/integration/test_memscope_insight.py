"""MindStudio Insight's queries find in databases of ours what happened."""

from __future__ import annotations

import shutil
import sqlite3
import sys
from pathlib import Path

import pytest

from controller_tools import run_command
from insight import Insight, InsightError
from mem_parser.memlog.events import Kind
from memscope_logs import Collected, Log, side, with_settings
from memscope_run import Collecting, Dump, attribute, dumps, ledger_story
from parser_run import told
from stub_driver import Ascend

WORK = ("set 0", "malloc 0 1000", "malloc 1 5000", "free 0", "malloc 2 3000", "free 1",
        "malloc 0 64")  # fmt: skip
PROGRAM = """
import ctypes, sys
acl = ctypes.CDLL(sys.argv[1])
import mem_profiler.memscope as msmemscope

def take(size):
    block = ctypes.c_void_p()
    assert acl.aclrtMalloc(ctypes.byref(block), ctypes.c_size_t(size), 0) == 0
    return block

def train():
    return [take(1000 * k) for k in (1, 2, 3)]

acl.aclrtSetDevice(0)
with msmemscope.describe.describer(owner="mine"):
    blocks = train()
msmemscope.step()
acl.aclrtFree(blocks[0])
msmemscope.stop()
"""


def allocated(dump: Dump) -> list[tuple[str, int]]:
    """Address and size of each allocation."""
    return [(row["Ptr"], int(attribute(row, "size"))) for row in dump.of("MALLOC")]


def test_blocks_pages_and_groups_of_a_collection_and_of_its_log_are_found(tmp_path: Path) -> None:
    with Collecting(tmp_path, "--format", "db", "--call-stack", "c:3") as run:
        run.do(*WORK)
        assert run.end() == 0, run.stderr
    [dump] = dumps(run.output, form="db")
    kept = sorted(run.output.glob("*/events/*.memlog"))
    again = tmp_path / "again.db"
    told("convert", *kept, "-o", again)
    for path in (dump.path, again):
        with Insight(shutil.copy(path, tmp_path / "opened.db")) as insight:
            assert insight.with_stacks
            assert insight.devices() == {"0"}
            assert insight.types() == {"0": {"HAL"}}
            blocks = insight.blocks()
            story = ledger_story(run.ledger)
            births = [size for event, size in story if event == "MALLOC"]
            assert sorted(block.size for block in blocks) == sorted(births)
            assert {(b.address, b.size) for b in blocks} == set(allocated(dump))
            assert insight.device_times() == {"0": (insight.first_ns, insight.last_ns)}
            count, page = insight.events("0", 2, 3)
            assert count == len(dump.rows)
            assert [row[0] for row in page] == [4, 5, 6]
            count, page = insight.events("0", 1, 10, event="MALLOC", callStackC="aclrtMalloc")
            assert count == len(page) == len(births)
            assert [row[1] for row in insight.group(1)] == ["MALLOC", "FREE"]


def test_calls_of_python_functions_are_found_by_thread(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    options = ("--format", "db", "--events", "alloc,free,launch,traceback", "--analysis",
               "decompose", "--call-stack", "python")  # fmt: skip
    words = ("memscope", "-o", tmp_path / "out", *options, "--", sys.executable, script)
    done = run_command(*words, Ascend.build().acl)
    assert done.returncode == 0, done.stderr
    [dump] = dumps(tmp_path / "out", form="db")
    pid = int(dump.rows[0]["Process Id"])
    with Insight(dump.path) as insight:
        assert insight.trace_tables() == [f"python_trace_{pid}"]
        assert insight.threads() == {pid}
        calls = insight.calls(pid)
        names = [name for _, name, *_ in calls]
        assert sum(name.endswith("): take") for name in names) == 3
        begin, end = next((c[2], c[3]) for c in calls if c[1].endswith("): train"))
        mine = [b for b in insight.blocks() if b.owner == "CANN@APP@mine"]
        assert len(mine) == 3
        assert all(begin < block.start_ns - insight.first_ns < end for block in mine)
    columns = sqlite3.connect(dump.path).execute(f"PRAGMA table_info(python_trace_{pid})")
    assert [(row[1], row[2]) for row in columns][:5] == [
        ("FuncInfo", "TEXT"), ("StartTime(ns)", "TEXT"), ("EndTime(ns)", "TEXT"),
        ("Thread Id", "INTEGER"), ("Process Id", "INTEGER"),
    ]  # fmt: skip


def test_a_log_with_windows_pools_and_marks_is_found_as_it_was(tmp_path: Path) -> None:
    log = Log(tmp_path, ("host", "hal-0", "pool-ptaCaching"))
    log.add((10, Kind.BIRTH, 1 << 20, 9999, 1), (20, Kind.BIRTH, (1 << 20) + 512, 100, 2))
    log.add((500, Kind.DEATH, (1 << 20) + 512, 100, 2), (600, Kind.BIRTH, 512, 7, 1))
    side(tmp_path, (100, 4711, None, "SYSTEM", "START_TRACE", "N/A", None, {}, None),
         (550, 4711, None, "MSTX", "Mark", 'a, "mark"', None, {}, None),
         (700, 4711, "0", "SNAPSHOT", "SNAPSHOT", "s", None, {"total": 5}, None))  # fmt: skip
    log.end()
    found = Collected(log, with_settings(form="db", deferred=True))
    assert found.finish() == []
    dump = found.dump(form="db")
    with Insight(dump.path) as insight:
        assert insight.trace_tables() == []
        assert insight.types() == {"0": {"HAL", "PTA"}}
        assert sorted(b.size for b in insight.blocks()) == [7, 100, 9999]
        count, [row] = insight.events("0", 1, 9, event="SNAPSHOT")
        assert (count, row[9]) == (1, '{"total":"5"}')


def test_a_file_without_rows_is_refused_as_insight_does(tmp_path: Path) -> None:
    path = tmp_path / "none.db"
    sqlite3.connect(path).execute("CREATE TABLE other (x)")
    with pytest.raises(InsightError, match="no table"):
        Insight(path)
