"""Logs of `mem_profiler.driver_stats`: written by real programs, read by the functions."""

import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller_tools import ROOT, Stepper, command_environment, run_command, wait_until
from json_outputs import checked_json
from mem_profiler import driver_stats
from mem_profiler.driver_stats import (
    MemRecordType,
    TrackerError,
    get_all_time_size,
    get_mem_report,
    get_mem_report_with_time,
    set_enable_mem_profiler,
    start_mem_log_profiler,
)
from mem_profiler.segment import discovery
from pythons import of_pythons
from sampler_run import silent

pytestmark = [
    pytest.mark.usefixtures("sampler", "segment_dir", "quick_helper"), pytest.mark.timeout(180)
]  # fmt: skip

STEPPER_LINE = 24
COMPLETE = (
    r"Processing, please wait a minute\n"
    r"(Parse memlog\d{8}_[0-9A-F]{13}-\d+\.txt complete\n)+"
    r"Process complete, profiler contains record for \d+ ms,"
    r" start from \d{4}-\d\d-\d\d \d+:\d+:\d+\n"
)


def kept_in(report: dict[str, object], line: int = STEPPER_LINE) -> int | None:
    """The bytes of the line of stepper.c that keeps blocks; None: it is not there."""
    lines = report["mem_report"]
    assert isinstance(lines, list)
    found = [text for text in lines if re.search(rf"stepper\.c +line:{line} ", text)]
    return int(found[0].rpartition("size:")[2]) if found else None


@pytest.fixture
def target(stepper: Path) -> Iterator[Stepper]:
    with Stepper(stepper) as running:
        yield running


@pytest.mark.parametrize("mode", [MemRecordType.LOG_RECORD, MemRecordType.LOG_FAST])
def test_what_a_program_had_at_its_highest_is_in_its_log(
    mode: MemRecordType,
    target: Stepper,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert set_enable_mem_profiler(mode, pid=target.pid, folder=str(tmp_path))
    target.tell("a 1000 500")
    target.tell("f")
    target.tell("a 10 70")
    until = time.monotonic() + 0.25
    while time.monotonic() < until:  # some intervals more
        target.tell("c 1 8")
    assert kept_in(get_mem_report(pid=target.pid)) == 700, "the record goes on beside the log"
    assert set_enable_mem_profiler(MemRecordType.CLOSED, pid=target.pid)
    with pytest.raises(TrackerError, match="has no record of its memory"):
        get_mem_report(pid=target.pid)
    monkeypatch.chdir(tmp_path)
    start_mem_log_profiler()
    assert re.fullmatch(COMPLETE, capsys.readouterr().out)
    sizes = get_all_time_size()
    assert [ms for ms, _ in sizes] == list(range(sizes[0][0], sizes[-1][0] + 1, 100))
    ms, most = max(sizes, key=lambda row: row[1])
    highest = get_mem_report_with_time(ms)
    assert highest["total_size"] == most
    assert kept_in(highest) == 500_000
    last = get_mem_report_with_time(sizes[-1][0])
    assert kept_in(last) == 700
    assert kept_in(last, STEPPER_LINE + 18) in {0, 8}
    assert last["total_size"] == sizes[-1][1]


def test_copies_and_any_number_of_workers_give_the_same(
    target: Stepper, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    assert set_enable_mem_profiler(MemRecordType.LOG_RECORD, pid=target.pid, folder=str(here))
    target.tell("a 1000 100")
    assert set_enable_mem_profiler(MemRecordType.CLOSED, pid=target.pid)
    shutil.copytree(here, there)
    found = []
    for folder, workers in ((here, None), (there, 1), (there, 3)):
        start_mem_log_profiler(workers, folder=str(folder))
        sizes = get_all_time_size()
        found.append((sizes, get_mem_report_with_time(sizes[-1][0])))
    capsys.readouterr()
    assert found[0] == found[1] == found[2]
    assert kept_in(found[0][1]) == 100_000


def keeper_of(pid: int) -> int | None:
    with discovery.open_process(pid, writable=False) as segment:
        return segment.lock_holder()


@pytest.mark.parametrize("killed", ["program", "keeper"])
def test_a_log_is_whole_when_the_program_ends_or_the_process_that_writes_it(
    killed: str, target: Stepper, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert set_enable_mem_profiler(MemRecordType.LOG_RECORD, pid=target.pid, folder=str(tmp_path))
    keeper = keeper_of(target.pid)
    assert keeper is not None
    target.tell("a 1000 100")
    if killed == "program":
        os.kill(target.pid, signal.SIGKILL)
        target.child.wait(30)
    else:
        os.kill(keeper, signal.SIGTERM)
    wait_until(lambda: not Path(f"/proc/{keeper}/fd/0").exists(), "the log is written")
    start_mem_log_profiler(folder=str(tmp_path))
    capsys.readouterr()
    assert kept_in(get_mem_report_with_time(get_all_time_size()[-1][0])) == 100_000
    with pytest.raises(TrackerError, match=f"{target.pid}"):
        get_mem_report(pid=target.pid)


def test_the_log_of_a_program_that_logs_itself_is_whole_when_it_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (
        "import os\nfrom mem_profiler.driver_stats import *\n"
        "set_enable_mem_profiler(MemRecordType.LOG_FAST)\n"
        "kept = [bytes(9967) for _ in range(100)]\nos._exit(0)\n"
    )
    # The process beside has the other end of stderr until it has written the log.
    silent([sys.executable, "-c", text], command_environment(), cwd=tmp_path)
    start_mem_log_profiler(folder=str(tmp_path))
    capsys.readouterr()
    [_, size] = get_all_time_size()[-1]
    assert 1_000_000 <= size < 1_010_000


def test_a_change_between_log_and_memory_begins_anew(target: Stepper, tmp_path: Path) -> None:
    pid = target.pid
    assert set_enable_mem_profiler(MemRecordType.MEM_RECORD, pid=pid)
    target.tell("a 10 100")
    for mode in (MemRecordType.LOG_RECORD, MemRecordType.MEM_RECORD):
        folder = str(tmp_path) if mode.is_log else None
        assert set_enable_mem_profiler(mode, pid=pid, folder=folder)
        assert kept_in(get_mem_report(pid=pid)) is None
        target.tell("a 10 100")
    assert kept_in(get_mem_report(pid=pid)) == 1000


OWN = """
import json, os, sys, time
from mem_profiler.driver_stats import *
set_mem_profiler_log_number(3)
assert get_mem_profiler_log_number() == 3
assert set_enable_mem_profiler(MemRecordType.LOG_RECORD) is True
kept = [bytes(9967) for _ in range(100)]
freed = [bytes(99967) for _ in range(100)]
del freed
reports = [get_mem_report() for _ in range(3)]
assert set_enable_mem_profiler(MemRecordType.CLOSED) is True
start_mem_log_profiler()
sizes = get_all_time_size()
print(json.dumps([sizes, [get_mem_report_with_time(ms) for ms, _ in sizes]]))
"""


@pytest.mark.parametrize("python", of_pythons(ends=True))
def test_a_python_program_logs_itself_without_what_is_ours(python: str, tmp_path: Path) -> None:
    (tmp_path / "test.py").write_text(OWN)
    env = {k: v for k, v in command_environment().items() if k != "LD_PRELOAD"}
    env["PYTHONPATH"] = os.pathsep.join(str(ROOT / name) for name in ("bindings", "parser"))
    done = silent([python, "test.py"], env, cwd=tmp_path)
    *printed, last = done.splitlines(keepends=True)
    assert re.fullmatch(COMPLETE, "".join(printed))
    sizes, reports = json.loads(last)
    assert [size for _, size in sizes] == [report["total_size"] for report in reports]
    assert all("mem_profiler" not in text for one in reports for text in one["mem_report"])
    highest = max(reports, key=lambda report: report["total_size"])
    by_line = {
        int(m[1]): int(m[2])
        for text in highest["mem_report"]
        if (m := re.fullmatch(r"\S*test\.py +line:(\d+) +size:(\d+)", text))
    }
    assert 10_000_000 <= by_line[8] < 10_010_000
    assert 1_000_000 <= by_line[7] < 1_010_000


def test_what_cannot_be_read_or_written_is_said_in_one_line(
    target: Stepper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_stats.logs, "_reader", None)
    for ask in (get_all_time_size, lambda: get_mem_report_with_time(0)):
        with pytest.raises(TrackerError, match="no log has been read"):
            ask()
    with pytest.raises(TrackerError, match="no log of events is there"):
        start_mem_log_profiler(folder=str(tmp_path))
    for workers in (0, -1, True, "2"):
        with pytest.raises(ValueError, match="workers is a number of processes"):
            start_mem_log_profiler(workers)  # type: ignore[arg-type]
    for time_ms in (-1, float("nan"), True, "0"):
        with pytest.raises(ValueError, match="time_ms is a number of milliseconds"):
            get_mem_report_with_time(time_ms)  # type: ignore[arg-type]
    for number in (0, True, 1 << 40):
        with pytest.raises(ValueError, match="log_num is a number from 1 to 100000"):
            driver_stats.set_mem_profiler_log_number(number)
    with pytest.raises(ValueError, match="folder is for a LOG mode, not for MEM_RECORD"):
        set_enable_mem_profiler(folder=str(tmp_path))
    nowhere = str(tmp_path / "nowhere")
    with pytest.raises(TrackerError, match="nowhere"):
        set_enable_mem_profiler(MemRecordType.LOG_RECORD, pid=target.pid, folder=nowhere)
    with pytest.raises(TrackerError, match="has no record of its memory"):
        get_mem_report(pid=target.pid)


def test_the_command_writes_and_shows_a_log(target: Stepper, tmp_path: Path) -> None:
    def driver(*words: object) -> str:
        done = run_command("driver-stats", *words)
        assert (done.returncode, "error" in done.stderr) == (0, False), done.stderr
        return done.stdout

    pid = target.pid
    on = driver("on", pid, "--log", "--folder", tmp_path, "--files", 2)
    assert on.startswith(f"pid {pid}: LOG_RECORD, every block; ")
    target.tell("a 1000 100")
    assert driver("off", pid) == f"pid {pid}: CLOSED\n"
    assert "Process complete, profiler contains record for " in driver("log", tmp_path)
    assert checked_json("driver-stats log", driver("log", tmp_path, "--json"))["files"]
    rows = checked_json("driver-stats sizes", driver("sizes", tmp_path, "--json"))["sizes"]
    assert rows[-1][1] >= 100_000
    shown = driver("sizes", tmp_path).splitlines()
    assert shown[-1].split() == list(map(str, rows[-1]))
    found = checked_json("driver-stats at", driver("at", rows[-1][0], tmp_path, "--json"))
    assert (found["total_size"], found["sure"], kept_in(found)) == (rows[-1][1], True, 100_000)
    assert f"{STEPPER_LINE} 100000" in " ".join(driver("at", rows[-1][0], tmp_path).split())
    wrong = run_command("driver-stats", "at", 10**9, tmp_path)
    assert (wrong.returncode, wrong.stderr.splitlines()[0]) == (
        2, "error: 1e+09 ms is not in the log",
    )  # fmt: skip
