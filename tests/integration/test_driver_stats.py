"""`mem_profiler.driver_stats`: bytes in use by line, of this process and of others."""

import errno
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller_tools import ROOT, Stepper, command_environment, run_command
from json_outputs import checked_json
from mem_parser.errors import MemError
from mem_profiler.capture import toggle
from mem_profiler.driver_stats import (
    MemRecordType,
    TrackerError,
    get_mem_profiler_room,
    get_mem_report,
    other_process,
    set_enable_mem_profiler,
)
from mem_profiler.segment import discovery
from pythons import of_pythons
from sampler_run import run, segments, silent

pytestmark = [
    pytest.mark.usefixtures("sampler", "segment_dir", "quick_helper"), pytest.mark.timeout(180)
]  # fmt: skip

IMPORTS = "import json, os, sys\nfrom mem_profiler.driver_stats import *\n"
STEPPER_LINE = 24
"""The call of malloc that keeps its blocks, in tests/targets/stepper.c."""


def program(folder: Path, text: str, python: str = sys.executable) -> str:
    """Run a script, which must succeed in silence; returns its output."""
    script = folder / "test.py"
    script.write_text(IMPORTS + text)
    env = {k: v for k, v in command_environment().items() if k != "LD_PRELOAD"}
    env["PYTHONPATH"] = os.pathsep.join(str(ROOT / name) for name in ("bindings", "parser"))
    return silent([python, str(script)], env, cwd=folder)


def rows(report: dict[str, object]) -> list[tuple[str, int, int]]:
    """File, line and size of each text of a report."""
    lines = report["mem_report"]
    assert isinstance(lines, list)
    found = []
    for text in lines:
        file, line, size = text.rsplit(maxsplit=2)
        found.append((file, int(line.removeprefix("line:")), int(size.removeprefix("size:"))))
    assert sum(size for *_, size in found) == report["total_size"]
    assert [size for *_, size in found] == sorted((size for *_, size in found), reverse=True)
    return found


def size_of(report: dict[str, object], name: str, line: int) -> int | None:
    """The bytes of one line; None: it is not in the report."""
    found = [s for file, number, s in rows(report) if file.endswith(name) and number == line]
    assert len(found) <= 1
    return found[0] if found else None


# -- this process ---------------------------------------------------------------------------------

SPEC = """
def get_system_info(n):
    return bytes(5000 + n)
assert set_enable_mem_profiler(MemRecordType.{mode}) is True
kept = []
for i in range(10000):
    kept.append(get_system_info(i % 100))
freed = bytearray(100000)
del freed
report = get_mem_report()
true = sum(sys.getsizeof(one) for one in kept)
assert set_enable_mem_profiler(MemRecordType.CLOSED) is True
print(json.dumps([report, true, sys.getsizeof(kept)]))
"""


@pytest.mark.parametrize("python", of_pythons(ends=True))
@pytest.mark.parametrize("mode", ["MEM_RECORD", "MEM_FAST"])
def test_the_first_line_is_the_one_that_has_most_with_its_true_bytes(
    python: str, mode: str, tmp_path: Path
) -> None:
    text = SPEC.format(mode=mode)
    report, true, of_list = json.loads(program(tmp_path, text, python))
    assert set(report) == {"total_size", "mem_report"}
    script = str(tmp_path / "test.py")
    first, second, *others = rows(report)
    assert first == (script, 5, true)
    head = sys.getsizeof([])
    assert second[:2] == (script, 9)
    assert 0 <= second[2] - of_list + head < 1000, "the list's items, and a frame before 3.11"
    assert (script, 10, 0) in others, "a line whose blocks are all freed"
    assert {file for file, *_ in rows(report)} == {script}, "nothing of ours"
    columns = {(text.index("line:"), text.index("size:")) for text in report["mem_report"]}
    assert len(columns) == 1, "columns are aligned"


def test_two_reports_around_a_leak_show_its_line(tmp_path: Path) -> None:
    before, after = json.loads(program(tmp_path, """
set_enable_mem_profiler()
held, cache = [], {}
def request(k):
    cache[k % 10] = bytearray(3000)
    held.append(bytes(1967))
for k in range(100):
    request(k)
before = get_mem_report()
for k in range(100):
    request(k)
after = get_mem_report()
print(json.dumps([before, after]))
"""))  # fmt: skip
    grown = {
        line: size - (size_of(before, "test.py", line) or 0)
        for file, line, size in rows(after)
        if file.endswith("test.py")
    }
    assert grown[8] - 100 * 2000 in range(2000), "the leak, and the list that holds it"
    assert grown[7] == 0
    assert max(size for line, size in grown.items() if line != 8) < 1000


def test_what_a_report_itself_holds_is_in_no_report(tmp_path: Path) -> None:
    [sizes, lines] = json.loads(program(tmp_path, """
code = "\\n".join(f"x{k} = [None] * {k + 50}" for k in range(500))
code = compile(code, "/made/long/name/of/a/file/with/many/lines.py", "exec")
set_enable_mem_profiler()
exec(code)
reports = [None] * 5
sizes = [0] * 5
for k in range(5):
    reports[k] = get_mem_report()
    sizes[k] = reports[k]["total_size"]
print(json.dumps([sizes, len(reports[-1]["mem_report"])]))
"""))  # fmt: skip
    assert lines >= 500
    assert max(sizes) - min(sizes) < 1000


def test_modes_change_and_end_as_one_expects(tmp_path: Path) -> None:
    out = program(tmp_path, """
assert set_enable_mem_profiler(MemRecordType.CLOSED) is True
assert set_enable_mem_profiler(MemRecordType.MEM_RECORD) is True
kept = bytes(1 << 20)
small = get_mem_profiler_room()
assert set_enable_mem_profiler(4) is True
assert set_enable_mem_profiler(MemRecordType.MEM_FAST, reserve_bytes=32 << 20) is True
large = get_mem_profiler_room()
print(get_mem_report()["total_size"] >= 1 << 20, small < 8 << 20, large > 20 << 20)
assert set_enable_mem_profiler(MemRecordType.MEM_RECORD) is True
print(get_mem_report()["total_size"] >= 1 << 20)
assert set_enable_mem_profiler(MemRecordType.CLOSED) is True
assert set_enable_mem_profiler(MemRecordType.CLOSED) is True
try:
    get_mem_report()
except TrackerError as error:
    print(error)
assert set_enable_mem_profiler() is True
print(get_mem_report()["total_size"] < 10000)
""")  # fmt: skip
    first, second, third, fourth = out.splitlines()
    assert (first, second, fourth) == ("True True True", "True", "True")
    assert third == (
        "this process has no record of its memory"
        " (set_enable_mem_profiler(MemRecordType.MEM_RECORD) begins one)"
    )


def test_a_process_has_the_pages_of_its_tables_up_front(tmp_path: Path) -> None:
    out = program(tmp_path, """
import re
set_enable_mem_profiler(MemRecordType.MEM_FAST)
text = open("/proc/self/smaps").read()
mapping = r"rw-s 00000000 .*/mem_profiler\\..*/%d-.*\\n" % os.getpid()
[resident] = re.findall(mapping + r"(?:\\w.*\\n)*?Rss: +(\\d+) kB", text)
print(int(resident) * 1024 >= get_mem_profiler_room() > 16 << 20)
""")  # fmt: skip
    assert out == "True\n"


@pytest.mark.parametrize("end", ["pass", "os._exit(0)", "os.abort()"])
def test_nothing_is_left_of_a_process_that_ends(
    end: str, tmp_path: Path, segment_dir: Path
) -> None:
    script = f"{IMPORTS}import resource\nresource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
    script += f"set_enable_mem_profiler()\nkept = bytes(100000)\nprint(end='x', flush=True)\n{end}"
    # The process beside has the other end of stderr until it has ended.
    done = run([sys.executable, "-c", script], command_environment(), cwd=tmp_path)
    assert (done.stdout, "Error" in done.stderr) == ("x", False), done.stderr
    assert segments(segment_dir) == []


def test_a_fork_child_has_a_record_of_its_own(tmp_path: Path) -> None:
    out = program(tmp_path, """
set_enable_mem_profiler()
kept = bytes(1 << 20)
sys.stdout.flush()
child = os.fork()
if child == 0:
    try:
        get_mem_report()
    except TrackerError as error:
        print("no record" in str(error))
    set_enable_mem_profiler()
    more = bytes(1 << 16)
    print(1 << 16 < get_mem_report()["total_size"] < 1 << 17)
    set_enable_mem_profiler(MemRecordType.CLOSED)
    sys.stdout.flush()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print(1 << 20 < get_mem_report()["total_size"] < 1 << 21)
""")  # fmt: skip
    assert out.split() == ["True"] * 3


def test_a_process_has_one_capture_at_a_time(tmp_path: Path) -> None:
    out = program(tmp_path, """
from mem_profiler import Tracker
set_enable_mem_profiler()
kept = bytes(1 << 20)
try:
    Tracker("out.heap").start()
except TrackerError as error:
    print(error)
print(get_mem_report()["total_size"] > 1 << 20)
set_enable_mem_profiler(0)
with Tracker("out.heap"):
    try:
        set_enable_mem_profiler()
    except TrackerError as error:
        print(error)
set_enable_mem_profiler()
""")  # fmt: skip
    first, second, third = out.splitlines()
    assert "is being captured by mem_profiler" in first
    assert second == "True"
    assert "is being captured by mem_profiler" in third


# -- another process ------------------------------------------------------------------------------


@pytest.fixture
def target(stepper: Path) -> Iterator[Stepper]:
    """A C program that runs with the sampler."""
    with Stepper(stepper) as running:
        yield running


def kept_in(report: dict[str, object]) -> int | None:
    return size_of(report, "stepper.c", STEPPER_LINE)


def test_lines_of_a_c_program_have_their_true_bytes(target: Stepper) -> None:
    target.tell("a 10 1000")
    assert set_enable_mem_profiler(MemRecordType.MEM_RECORD, pid=target.pid)
    target.tell("a 1000 100")
    target.tell("a 3 70000")
    assert kept_in(get_mem_report(pid=target.pid)) == 1000 * 100 + 3 * 70000
    target.tell("f")
    assert kept_in(get_mem_report(pid=target.pid)) == 0
    target.tell("a 1 50")
    assert set_enable_mem_profiler(pid=target.pid), "the same mode goes on"
    assert kept_in(get_mem_report(pid=target.pid)) == 50
    assert set_enable_mem_profiler(MemRecordType.CLOSED, pid=target.pid)
    assert set_enable_mem_profiler(MemRecordType.CLOSED, pid=target.pid)
    with pytest.raises(TrackerError, match=f"pid {target.pid} has no record of its memory"):
        get_mem_report(pid=target.pid)
    assert set_enable_mem_profiler(pid=target.pid)
    assert kept_in(get_mem_report(pid=target.pid)) is None, "a new record begins with nothing"


def test_a_process_that_nobody_prepared_is_attached_to(stepper: Path) -> None:
    with Stepper(stepper, LD_PRELOAD="") as target:
        assert set_enable_mem_profiler(pid=target.pid)
        target.tell("a 1000 100")
        assert kept_in(get_mem_report(pid=target.pid)) == 100_000


def tables(pid: int) -> list[int]:
    """What a process may use of its tables: ready levels, and bytes of its arrays."""
    with discovery.open_process(pid, writable=False) as segment:
        control = segment.control()
        levels = [int(control[name]["levels_ready"]) for name in ("stack_index", "sites", "live")]
        return levels + [int(row["reserved_bytes"]) for row in control["directory"]]


def lost(pid: int) -> int:
    with discovery.open_process(pid, writable=False) as segment:
        return int(segment.control()["lost"].sum())


def test_no_table_grows_in_a_hook_under_fast_and_all_do_else(stepper: Path) -> None:
    grown = {}
    for mode in (MemRecordType.MEM_RECORD, MemRecordType.MEM_FAST):
        with Stepper(stepper) as target:
            assert set_enable_mem_profiler(mode, pid=target.pid)
            before = tables(target.pid)
            # Nobody but the hooks is there now.
            target.tell("a 5000 64")
            grown[mode] = tables(target.pid) != before
            assert lost(target.pid) == 0
            assert kept_in(get_mem_report(pid=target.pid)) == 320_000
    assert grown == {MemRecordType.MEM_RECORD: True, MemRecordType.MEM_FAST: False}


def test_fast_reserves_what_it_is_told_and_no_more(target: Stepper) -> None:
    pid = target.pid
    assert set_enable_mem_profiler(MemRecordType.MEM_RECORD, pid=pid)
    small = get_mem_profiler_room(pid=pid)
    assert set_enable_mem_profiler(MemRecordType.MEM_FAST, pid=pid, reserve_bytes=4 << 20)
    little = get_mem_profiler_room(pid=pid)
    assert small < little <= 4 << 20
    assert set_enable_mem_profiler(MemRecordType.MEM_FAST, pid=pid, reserve_bytes=40 << 20)
    assert 24 << 20 < get_mem_profiler_room(pid=pid) <= 40 << 20
    assert set_enable_mem_profiler(MemRecordType.MEM_FAST, pid=pid, reserve_bytes=1 << 40)
    assert get_mem_profiler_room(pid=pid) <= 256 << 20, "no more than a segment may have"


def test_a_capture_of_others_is_no_record(target: Stepper) -> None:
    toggle.start(target.pid, 1024)
    for mode in (MemRecordType.MEM_RECORD, MemRecordType.CLOSED):
        with pytest.raises(TrackerError, match=f"pid {target.pid} "):
            set_enable_mem_profiler(mode, pid=target.pid)
    with pytest.raises(TrackerError, match="one sample in 1024 bytes: that is no record"):
        get_mem_report(pid=target.pid)


def test_a_report_without_a_place_for_it_ends_no_record(
    target: Stepper, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    assert set_enable_mem_profiler(pid=target.pid)
    target.tell("a 10 100")
    with monkeypatch.context() as patched:
        patched.setattr(tempfile, "mkdtemp", full)
        with pytest.raises(MemError, match=r"no place for the report of pid \d+: no space left"):
            other_process.report(target.pid)
    assert kept_in(get_mem_report(pid=target.pid)) == 1000


def test_what_is_no_mode_and_no_process_is_refused() -> None:
    for value in (3, -1, True, "MEM_RECORD", None):
        with pytest.raises(ValueError, match=r"is no MemRecordType: CLOSED \(0\), LOG_RECORD"):
            set_enable_mem_profiler(value)  # type: ignore[arg-type]
    for pid in (0, -4, 1 << 40, True):
        with pytest.raises(ValueError, match="pid is the number of a process"):
            get_mem_report(pid=pid)
    with pytest.raises(ValueError, match="reserve_bytes is for a FAST mode, not for MEM_RECORD"):
        set_enable_mem_profiler(reserve_bytes=1)
    with pytest.raises(ValueError, match="reserve_bytes is a number of bytes, not 0"):
        set_enable_mem_profiler(MemRecordType.MEM_FAST, reserve_bytes=0)
    with pytest.raises(TrackerError, match="no process"):
        get_mem_report(pid=(1 << 22) + 1)


# -- the command ----------------------------------------------------------------------------------


def driver_stats(*words: object) -> str:
    """Run `mem_profiler driver-stats`, which must succeed; what it prints."""
    done = run_command("driver-stats", *words)
    assert (done.returncode, "error" in done.stderr) == (0, False), done.stderr
    return done.stdout


def test_the_command_shows_what_the_functions_give(target: Stepper, tmp_path: Path) -> None:
    pid = target.pid
    on = driver_stats("on", pid).splitlines()
    assert on[0].startswith(f"pid {pid}: MEM_RECORD, every block; tables of ")
    assert on[1:] == [
        "next:",
        f"  mem_profiler driver-stats report {pid}",
        f"  mem_profiler driver-stats off {pid}",
    ]
    target.tell("a 1000 100")
    shown = driver_stats("report", pid).splitlines()
    assert shown[0].startswith("100000 bytes (97.7 KiB) in use, of ")
    assert shown[2].split()[-2:] == [str(STEPPER_LINE), "100000"]
    found = checked_json("driver-stats report", driver_stats("report", pid, "--json"))
    assert found == {"pid": pid, **get_mem_report(pid=pid), "missing": 0}
    assert kept_in(found) == 100_000
    assert driver_stats("report", pid, "-o", tmp_path / "lines.txt") == ""
    assert (tmp_path / "lines.txt").read_text().splitlines() == shown
    fast = driver_stats("on", pid, "--fast", "--reserve", "32M").splitlines()[0]
    assert fast.startswith(f"pid {pid}: MEM_FAST, every block; tables of ")
    assert fast.endswith(" reserved up front")
    assert get_mem_profiler_room(pid=pid) > 16 << 20
    assert driver_stats("off", pid) == f"pid {pid}: CLOSED\n"
    assert driver_stats("off", pid) == f"pid {pid}: CLOSED\n"


def test_the_command_says_in_one_line_what_is_wrong(target: Stepper) -> None:
    none = run_command("driver-stats", "report", target.pid)
    assert (none.returncode, none.stdout) == (4, "")
    assert none.stderr == (
        f"error: pid {target.pid} has no record of its memory\n"
        f"hint:  mem_profiler driver-stats on {target.pid}\n"
    )
    reserve = run_command("driver-stats", "on", target.pid, "--reserve", "1M")
    assert (reserve.returncode, reserve.stderr) == (2, "error: --reserve is for --fast\n")
