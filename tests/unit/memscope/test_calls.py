"""Traced calls: in every Python, each call with its begin and end, in its thread."""

from __future__ import annotations

import csv
import os
import subprocess
from pathlib import Path

import pytest

from pythons import VERSIONS, interpreter

ROOT = Path(__file__).resolve().parents[3]
ENVIRONMENT = os.environ | {"PYTHONPATH": f"{ROOT / 'bindings'}{os.pathsep}{ROOT / 'parser'}"}
PROGRAM = """\
import sys, threading, time
from mem_profiler.memscope import tracer
from mem_profiler.memscope.tracer import RecordFunction

def leaf():
    return 1

def outer():
    leaf()
    try:
        raising()
    except ValueError:
        pass
    return sum(numbers())

def raising():
    raise ValueError

def numbers():
    yield 1
    yield 2

def around():
    tracer.start(sys.argv[1])
    leaf()

def in_thread():
    leaf()

def still_on():
    with RecordFunction("part"):
        leaf()
    named()
    return tracer.stop()

@RecordFunction("step")
def named():
    leaf()

around()
outer()
thread = threading.Thread(target=in_thread)
thread.start()
thread.join()
before = time.monotonic_ns()
paths = still_on()
leaf()
print("\\n".join(paths))
"""


def traced(version: str, folder: Path) -> dict[str, list[tuple[str, int, int]]]:
    """Rows by thread: functions with begin and end."""
    program = folder / "prog.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [interpreter(version), program, folder], env=ENVIRONMENT,
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    found = {}
    for path in done.stdout.split():
        with open(path, newline="") as file:
            header, *rows = csv.reader(file)
        assert header == ["FuncInfo", "StartTime(ns)", "EndTime(ns)", "Thread Id", "Process Id"]
        tid = Path(path).name.split("_")[2]
        assert {row[3] for row in rows} == {tid}
        found[tid] = [(row[0], int(row[1]), int(row[2])) for row in rows]
    return found


def named(rows: list[tuple[str, int, int]], name: str) -> list[tuple[int, int]]:
    return [(a, b) for info, a, b in rows if info.rpartition(": ")[2] == name]


@pytest.mark.parametrize("version", [v for v in VERSIONS if v != "3.8" and not v.endswith("t")])
def test_each_call_has_its_begin_and_end(version: str, tmp_path: Path) -> None:
    threads = list(traced(version, tmp_path).values())
    main = next(rows for rows in threads if named(rows, "outer"))
    other = next(rows for rows in threads if named(rows, "in_thread"))
    assert [len(named(main, f)) for f in ("outer", "raising", "leaf")] == [1, 1, 4]
    # It runs three times: to each yield and to its end.
    assert len(named(main, "numbers")) == 3
    assert len(named(other, "leaf")) == 1
    assert all(a <= b for rows in threads for _, a, b in rows)

    def within(inner: tuple[int, int], outer: tuple[int, int]) -> bool:
        return outer[0] <= inner[0] <= inner[1] <= outer[1]

    [outer] = named(main, "outer")
    assert within(named(main, "raising")[0], outer)
    assert all(within(run, outer) for run in named(main, "numbers"))
    assert within(named(other, "leaf")[0], named(other, "in_thread")[0])
    # What began before the trace, and what went on behind it.
    assert len(named(main, "around")) == len(named(main, "still_on")) == 1
    [part], [step] = named(main, "part"), named(main, "step")
    assert within(part, named(main, "still_on")[0]) and part[1] <= step[0]
    assert main[-1][0].endswith("<module>") or named(main, "<module>") == []
    assert not [info for rows in threads for info, _, _ in rows if "mem_profiler" in info]


def test_a_second_profiler_is_refused_and_left_alone(tmp_path: Path) -> None:
    code = (
        "import sys, cProfile\n"
        "from mem_profiler.memscope import tracer\n"
        "p = cProfile.Profile(); p.enable()\n"
        "try: tracer.start(sys.argv[1]); tracer.stop(); print('both')\n"
        "except RuntimeError as error: print(error)\n"
        "p.disable(); print(len(p.getstats()) > 0)\n"
    )
    for version in ("3.9", "3.11", "3.12", "3.13"):
        done = subprocess.run(
            [interpreter(version), "-c", code, tmp_path], env=ENVIRONMENT,
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        first, second = done.stdout.splitlines()
        assert first in {"both", "another profiler runs in this thread: only one can"}
        assert second == "True"
