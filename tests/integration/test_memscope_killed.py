"""Collections whose command is killed or whose disk becomes full: what stays is readable;
MindStudio Insight's queries find in databases of ours what happened.
"""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller_tools import command_environment, command_ok, run_command, small_disk, start_command
from insight import Insight, InsightError
from mem_parser.errors import DiskFull
from mem_parser.memlog.events import Kind
from mem_parser.memscope.settings import Settings
from mem_profiler.memscope import commanded
from mem_profiler.process import procfs
from memscope_dumps import HEADER, line
from memscope_logs import Collected, Log, side, with_settings
from memscope_run import WAIT_S, Collecting, Dump, attribute, collect, dumps, ledger_story, until
from parser_run import parse, told
from stub_driver import Ascend

pytestmark = pytest.mark.usefixtures("segment_dir")
PROGRAM = """
import sys
from mem_profiler.memscope import collection
print(collection.current().by_command, flush=True)
sys.stdin.readline()
print(collection.Collection().by_command, flush=True)
"""


def test_nothing_is_left_in_the_folder_of_temporary_files(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    child = start_command(
        "memscope", "-o", tmp_path / "out", "--", sys.executable, script, stdin=subprocess.PIPE,
        env=command_environment() | {"TMPDIR": str(temporary)},
    )  # fmt: skip
    assert child.stdin is not None
    try:
        assert child.stdout.readline() == "True\n"
        os.kill(child.pid, signal.SIGKILL)
        child.wait(WAIT_S)
        assert list(temporary.iterdir()) == []
        # The program goes on, and nobody follows it.
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline() == "False\n"
    finally:
        child.kill()
        child.communicate(timeout=WAIT_S)


def test_a_process_knows_what_its_command_told(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(c_depth=7, output="/data/out")
    [(name, text)] = commanded.variables(settings, "123").items()
    monkeypatch.setenv(name, text)
    assert commanded.told() == commanded.Told(settings, "123")
    for text in ("", "{", "[]", '{"settings": 1}', "null"):
        monkeypatch.setenv(name, text)
        assert commanded.told() is None


def test_a_command_counts_as_ended_only_where_that_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    [(name, text)] = commanded.variables(Settings(), "123").items()
    told = json.loads(text)
    others = {
        "of an earlier process": (told | {"began": told["began"] - 1}, False),
        "of a pid that no process has": (told | {"command": (1 << 31) - 1}, False),
        "in other namespaces": (told | {"namespaces": [], "command": (1 << 31) - 1}, True),
    }
    for what, (changed, lives) in others.items():
        monkeypatch.setenv(name, json.dumps(changed))
        assert (commanded.told() is not None) is lives, what


WORK = ("malloc 0 1000", "malloc 1 5000", "free 0", "malloc 2 3000", "free 1", "malloc 0 64")


def killed(run: Collecting, *, rows: int, later: tuple[str, ...]) -> int:
    """Kill the command once its dump has so many rows; the program goes on, and ends."""
    pid = run.pid()
    until(lambda: sum(len(d.rows) for d in dumps(run.output)) >= rows, "no rows yet")
    run.child.kill()
    run.child.wait(WAIT_S)
    run.do(*later)
    run.child.stdin.close()
    run.child.stdin = None  # `communicate` would write to it
    until(lambda: procfs.is_gone(pid), "the program has not ended")
    return pid


@pytest.mark.parametrize(("form", "rows"), [("csv", 0), ("csv", 2), ("db", 0)])
def test_recover_makes_the_whole_dump_of_a_killed_command(
    tmp_path: Path, form: str, rows: int
) -> None:
    with Collecting(tmp_path, "--format", form) as run:
        run.do("set 0", *WORK[:2])
        killed(run, rows=rows, later=WORK[2:])
        done = run_command("recover", run.output)

        [dump] = dumps(run.output, form=form)
        assert [(e, size) for e, _, size in dump.story()] == ledger_story(run.ledger)
        assert dump.shadows() == [("FREE", 3040), ("FREE", 96)]
        assert done.returncode == 0, done.stderr
        [line] = [text for text in done.stdout.splitlines() if dump.path.name in text]
        assert f"{len(dump.rows)} rows, to " in line
        assert not list(run.output.glob("*_ascend/events/*.collecting"))
        assert "nothing to recover" in run_command("recover", run.output).stdout


def test_the_next_command_completes_it_and_leaves_what_goes_on(tmp_path: Path) -> None:
    with Collecting(tmp_path) as run:
        run.do("set 0", *WORK[:2])
        run.pid()
        run.child.kill()
        run.child.wait(WAIT_S)
        again = run_command("memscope", "-o", run.output, "--", "true")
        assert "still runs" in again.stderr, again.stderr
        killed(run, rows=0, later=WORK[2:])
        again = run_command("memscope", "-o", run.output, "--", "true")
        [dump] = dumps(run.output)
        assert [(e, size) for e, _, size in dump.story()] == ledger_story(run.ledger)
        assert dump.path.name in again.stderr


def test_a_recover_without_a_name_finds_the_folder_of_the_run(tmp_path: Path) -> None:
    with Collecting(tmp_path) as run:
        run.do("set 0", *WORK[:2])
        killed(run, rows=0, later=WORK[2:])
        done = run_command("recover", "--all", "-o", tmp_path / "heap")
        [dump] = dumps(run.output)
        assert [(e, size) for e, _, size in dump.story()] == ledger_story(run.ledger)
        assert dump.path.name in done.stdout
        assert not list(tmp_path.glob("*.heap*"))


@pytest.fixture
def hangup() -> Iterator[None]:
    """Let HUP end what starts here: under nohup the runner ignores it, and its children would."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hangup")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_command_and_program_that_are_killed_together_lose_no_row(
    tmp_path: Path, number: signal.Signals
) -> None:
    with Collecting(tmp_path) as run:
        run.do("set 0", *WORK)
        pid = run.pid()
        for one in (run.child.pid, pid):
            with contextlib.suppress(ProcessLookupError):  # the command may have passed it on
                os.kill(one, number)
        run.child.wait(WAIT_S)
        until(lambda: procfs.is_gone(pid), "the program has not ended")
        if number == signal.SIGKILL:
            assert run_command("recover", run.output).returncode == 0
        [dump] = dumps(run.output)
        assert [(e, size) for e, _, size in dump.story()] == ledger_story(run.ledger)


def test_a_log_that_has_lost_its_begin_replaces_no_dump(tmp_path: Path) -> None:
    with Collecting(tmp_path) as run:
        run.do("set 0", *WORK[:2])
        killed(run, rows=2, later=WORK[2:])
        [log] = run.output.glob("*_ascend/events/log1-0.memlog")
        log.unlink()
        done = run_command("recover", run.output)
        before, after = dumps(run.output)
        assert len(before.rows) == 2
        assert [(e, size) for e, _, size in after.story()] == [("MALLOC", 3040), ("MALLOC", 96)]
        assert "the begin of the log is gone" in done.stdout


needs_mount = pytest.mark.skipif(os.getuid() != 0, reason="needs root to mount")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "small", "256k") as folder:
        yield folder


def pairs(number: int, first: int = 0) -> list[tuple[int, Kind, int, int, int]]:
    """Births and deaths of blocks, one after the other."""
    return [
        (1_000_000 * (2 * k + half), (Kind.BIRTH, Kind.DEATH)[half], 4096 * (k + 1), 64, 1)
        for k in range(first, first + number)
        for half in (0, 1)
    ]


@needs_mount
@pytest.mark.parametrize("form", ["csv", "db"])
def test_a_dump_on_a_full_disk_ends_with_a_whole_row(
    small: Path, tmp_path: Path, form: str
) -> None:
    log = Log(tmp_path)
    (tmp_path / "out").symlink_to(small)
    made = Collected(log, with_settings(form=form))

    def write() -> None:
        for first in range(0, 2000, 100):
            log.add(*pairs(100, first))
            made.step()

    with pytest.raises(DiskFull, match=r"no space left|disk is full") as caught:
        write()
    made.collecting.close()
    [path] = small.glob(f"*/*/dump/memscope_dump_*.{form}")
    rows = Dump(path).rows
    assert rows
    first = int(rows[0]["ID"])
    assert [int(row["ID"]) for row in rows] == list(range(first, first + len(rows)))
    assert f"{path.name} has {len(rows)} rows" in str(caught.value)
    assert path.suffix == ".db" or path.read_bytes().endswith(b"\n")


@needs_mount
@pytest.mark.parametrize("form", ["csv", "db"])
def test_no_empty_dump_is_left_where_nothing_could_be_written(
    small: Path, tmp_path: Path, form: str
) -> None:
    log = Log(tmp_path)
    log.add(*pairs(100))
    log.end()
    (tmp_path / "out").symlink_to(small)
    made = Collected(log, with_settings(form=form))
    folder = small / "msmemscope_4711_1_ascend/device_0/dump"
    folder.mkdir(parents=True)
    with (small / "filler").open("wb", buffering=0) as file:
        assert file.write(bytes(1 << 20)) < 1 << 20
    with pytest.raises(DiskFull):
        made.finish()
    made.collecting.close()
    assert list(folder.iterdir()) == []


@needs_mount
def test_a_command_on_a_full_disk_says_so_and_recover_writes_the_rest(
    small: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").symlink_to(small)
    filler = small / "filler"
    filler.write_bytes(bytes(150 << 10))
    with Collecting(tmp_path, "--call-stack", "c:30") as run:
        run.do("set 0")
        for _ in range(110):
            run.do("malloc 0 1000", "free 0")
        assert run.end() == DiskFull.exit_code, run.stderr
    [dump] = dumps(run.output)
    story = ledger_story(run.ledger)
    assert [(e, size) for e, _, size in dump.story()] == story[: len(dump.rows)]
    assert f"{dump.path.name} has {len(dump.rows)} rows, to " in run.stderr
    assert "mem_profiler recover" in run.stderr

    filler.unlink()
    command_ok("recover", run.output)
    [dump] = dumps(run.output)
    assert [(e, size) for e, _, size in dump.story()] == story


@needs_mount
@pytest.mark.parametrize("name", ["again.csv", "again.db", "tree"])
def test_a_conversion_to_a_full_disk_leaves_nothing_or_whole_rows(
    small: Path, tmp_path: Path, name: str
) -> None:
    log = Log(tmp_path)
    for first in range(0, 2000, 100):
        log.add(*pairs(100, first))
    log.end()
    done = parse("convert", tmp_path / "log1-0.memlog", "--to", "memscope", "-o", small / name)
    assert done.returncode == DiskFull.exit_code, done.stderr
    assert "Traceback" not in done.stderr
    assert [path for path in small.rglob("*") if path.is_file() and path.suffix == ".tmp"] == []


def test_a_command_says_in_one_line_that_a_dump_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "cut.csv"
    path.write_text(f"{HEADER}\n{line()}\n{line()[:30]}")
    done = parse("memscope", path)
    assert done.returncode == 0
    assert done.stderr == f"warning: {path}: its last line was cut: the rows before it count\n"


HELD = ("set 0", "malloc 0 1000", "malloc 1 5000", "free 0", "malloc 2 3000", "free 1",
        "malloc 0 64")  # fmt: skip
TRAINED = """
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
    run = collect(tmp_path, "--format", "db", "--call-stack", "c:3", do=HELD)
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
    script.write_text(TRAINED)
    options = ("--format", "db", "--events", "alloc,free,launch,traceback", "--analysis",
               "decompose", "--call-stack", "python")  # fmt: skip
    words = ("memscope", "-o", tmp_path / "out", *options, "--", sys.executable, script)
    command_ok(*words, Ascend.build().acl)
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
