"""`mem_profiler memscope` on a stub of Ascend's driver: dumps hold what its ledger has, and what
drivers, pools and marks tell beside the blocks.
"""

import subprocess
import sys
from pathlib import Path

import nvidia.nvtx
import pytest

from c_build import compile_program
from controller_tools import command_environment, command_ok
from mem_cli import errors
from mem_cli.profiler.memscope import memscope
from mem_parser.errors import UsageProblem
from mem_parser.memscope.analyzers import check_leaks
from memscope_dumps import printed
from memscope_run import (
    Collecting,
    Dump,
    attribute,
    collect,
    dumps,
    ledger_story,
    mstx_library,
    until,
)
from parser_run import parse
from stub_driver import FLAGS, STUBS, Ascend

pytestmark = pytest.mark.usefixtures("segment_dir")
WORK = ("set 0", "malloc 0 1000", "malloc 1 5000", "free 0", "malloc 2 3000", "rtmalloc 3 777",
        "free 1", "malloc 0 64", "rtfree 3")  # fmt: skip


def only(found: list[Dump]) -> Dump:
    [one] = found
    return one


@pytest.mark.parametrize("form", ["csv", "db"])
def test_the_dump_has_each_event_of_the_ledger_in_its_order(tmp_path: Path, form: str) -> None:
    run = collect(tmp_path, "--format", form, do=WORK)
    dump = only(dumps(run.output, form=form))
    assert [(event, size) for event, _, size in dump.story()] == ledger_story(run.ledger)
    assert dump.shadows() == [("FREE", 3040), ("FREE", 96)]  # what lived at the end
    told = (attribute(row, "used") for row in dump.of("MALLOC", "FREE"))
    used = [int(value) for value in told if value]
    sums, total = [], 0
    for event, size in ledger_story(run.ledger):
        total += size if event == "MALLOC" else -size
        sums.append(total)
    assert used == sums
    births = {row["Ptr"]: attribute(row, "allocation_id") for row in dump.of("MALLOC")[:1]}
    assert {attribute(row, "allocation_id") for row in dump.of("FREE")[:1]} == set(births.values())
    ids = [int(row["ID"]) for row in dump.rows]
    assert ids == sorted(set(ids))
    times = [int(row["Timestamp(ns)"]) for row in dump.rows]
    assert times == sorted(times)


def test_csv_and_database_have_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # nobody has read these symbols
    run = collect(tmp_path, "--call-stack", "c:3", do=WORK)
    kept = sorted(run.output.glob("*/events/*.memlog"))
    for name in ("again.csv", "again.db"):
        done = parse("convert", *kept, "--to", "memscope", "-o", tmp_path / name)
        assert done.returncode == 0, done.stderr

    online = only(dumps(run.output))
    assert (tmp_path / "again.csv").read_bytes() == online.path.read_bytes()
    rows, others = online.rows, Dump(tmp_path / "again.db").rows
    assert [plain(row) for row in others] == [plain(row) for row in rows]
    assert "aclrtMalloc" in rows[0]["Call Stack(C)"]


def plain(row: dict[str, str]) -> dict[str, str]:
    return row | {"Attr": row["Attr"].replace('"', "")}


def test_rows_are_there_while_the_blocks_live_and_survive_sigkill(tmp_path: Path) -> None:
    with Collecting(tmp_path) as run:
        run.do(*WORK[:3])
        found = until(lambda: [d for d in dumps(run.output) if len(d.rows) == 2], "no rows yet")
        assert [event for event, _, _ in found[0].story()] == ["MALLOC", "MALLOC"]
        run.do(*WORK[3:])
        run.kill()
        assert run.end() == -9

    dump = only(dumps(run.output))
    assert [(event, size) for event, _, size in dump.story()] == ledger_story(run.ledger)


def test_each_process_of_a_fork_tree_has_a_folder(tmp_path: Path) -> None:
    with Collecting(tmp_path) as run:
        run.do("set 0", "malloc 0 1000")
        run.child.stdin.write("fork\n")
        run.do("free 0", "malloc 1 2000")
        assert run.end() == 0, run.stderr

    stories = sorted(([e for e, _, _ in d.story()] for d in dumps(run.output)), key=len)
    assert len(stories) == 2
    assert stories[0] == ["MALLOC"] or stories[1] == ["MALLOC"]
    pids = {d.rows[0]["Process Id"] for d in dumps(run.output)}
    assert len(pids) == 2
    assert all(f"msmemscope_{d.rows[0]['Process Id']}_" in str(d.path) for d in dumps(run.output))


def test_memory_of_the_host_comes_with_cpu_alone(tmp_path: Path) -> None:
    lines = ("set 0", "host 0 5000", "malloc 1 100", "freehost 0")
    run = collect(tmp_path, "--device", "cpu，npu:3", do=lines)
    assert dumps(run.output, "0") == []
    columns = ("Event", "Event Type"), ("size", "pinned")
    assert [(*(r[c] for c in columns[0]), *(attribute(r, key) for key in columns[1]))
            for r in only(dumps(run.output, "cpu")).rows] == [
        ("MALLOC", "HOST_PINNED", "5000", "true"), ("FREE", "HOST_PINNED", "5000", "true"),
    ]  # fmt: skip


def test_events_none_and_a_deferred_collection_without_a_window_write_no_block(
    tmp_path: Path,
) -> None:
    for number, option in enumerate((("--events", "none"), ("--collect-mode", "deferred"))):
        folder = tmp_path / str(number)
        folder.mkdir()
        # An analysis of leaks needs allocations, whatever events says.
        run = collect(folder, *option, "--analysis", "none", do=WORK)
        assert "there is no dump" in run.stderr
        assert list(run.output.glob("*_ascend")) == []


def test_a_refusal_has_the_largest_and_the_latest_blocks_with_stacks(tmp_path: Path) -> None:
    with Collecting(tmp_path, "--analysis", "oom:2") as run:
        results = run.do("set 0", "malloc 0 1000", "malloc 1 9000", "malloc 2 10",
                         f"malloc 3 {1 << 46}", f"malloc 3 {1 << 46}")  # fmt: skip
        assert results[3] == 0
        assert results[4] != 0
        run.end()

    rows = only(dumps(run.output)).of("OOM_DETAIL")
    kinds = [row["Event Type"] for row in rows]
    assert kinds == [
        "OOM_TRIGGER", "OOM_RECENT_ALLOC", "OOM_RECENT_ALLOC", "OOM_TOP_ALLOC", "OOM_TOP_ALLOC",
        "OOM_TRIGGER",
    ]  # fmt: skip
    sizes = [int(attribute(row, "size")) for row in rows[1:5]]
    assert sizes[1] == sizes[2] == max(sizes)
    assert attribute(rows[0], "func") == "aclrtMalloc"
    assert int(attribute(rows[0], "req_size")) >= 1 << 46
    assert all("aclrtMalloc" in row["Call Stack(C)"] for row in rows)


def mstx_program() -> Path:
    return compile_program(STUBS / "marks" / "mstx_app.c", FLAGS, libs=("-ldl", "-lpthread"))


def test_steps_and_marks_of_mstx_from_c_find_the_leak_of_a_step(tmp_path: Path) -> None:
    run = collect(tmp_path, program=(mstx_program(), "steps"))
    dump = only(dumps(run.output))
    marks = dump.of("MSTX")
    assert [(r["Event Type"], r["Name"]) for r in marks[:3]] == [
        ("Range_start", "step start"), ("Mark", "MarkA"), ("Range_end", "step start"),
    ]  # fmt: skip
    assert '"step start"' in dump.path.read_text()
    assert len(marks) == 12
    assert {r["Event Type"] for r in dump.of("MALLOC")} == {"PTA"}
    # The third step frees nothing, so the block of the second one lives on.
    [leak] = [line for line in run.stderr.splitlines() if line.startswith("Direct ")]
    assert leak.startswith("Direct Pytorch Caching memory pool leak of 0.000977 Mb(s) at 0x")
    assert leak.endswith("at step 2.")
    assert "======= Pytorch Caching memory pool Gap Analysis of Device 0 =======" in run.stderr


def test_marks_have_their_texts_and_threads_while_the_program_runs(tmp_path: Path) -> None:
    def whole() -> list[Dump]:
        return [dump for dump in dumps(run.output) if len(dump.of("MSTX")) == 12]

    with Collecting(tmp_path, program=(mstx_program(), "steps")) as run:
        dump = only(until(whole, "no marks yet"))
        assert run.child.poll() is None
        assert {row["Name"] for row in dump.of("MSTX")} == {"step start", "MarkA"}
        assert {row["Thread Id"] for row in dump.rows} == {str(run.pid())}


def test_only_the_wanted_steps_are_written_and_nothing_is_analysed(tmp_path: Path) -> None:
    run = collect(tmp_path, "--steps=2,4", program=(mstx_program(), "steps"))
    rows = only(dumps(run.output)).rows
    starts = [int(r["Timestamp(ns)"]) for r in rows if r["Event Type"] == "Range_start"]
    assert len(starts) == 2
    blocks = [r for r in rows if r["Event"] == "MALLOC"]
    assert len(blocks) == 4
    assert "Detected memory leaks" not in run.stderr


PYTHON = """
import ctypes, sys
acl, mstx = ctypes.CDLL(sys.argv[1]), ctypes.CDLL(sys.argv[2])
block = ctypes.c_void_p()
acl.aclrtSetDevice(0)
for number in range(3):
    step = mstx.stub_range_start(b"step start")
    assert acl.aclrtMalloc(ctypes.byref(block), ctypes.c_size_t(1000 * (number + 1)), 0) == 0
    mstx.stub_range_end(step)
"""


def test_ranges_of_mstx_from_python_are_steps(tmp_path: Path) -> None:
    script = tmp_path / "steps.py"
    script.write_text(PYTHON)
    program = (script, Ascend.build().acl, mstx_library())
    run = collect(tmp_path, "--steps", "2", "--call-stack=python", program=program)
    dump = only(dumps(run.output))
    [(event, _, size)] = dump.story()
    assert (event, size) == ("MALLOC", 2048)
    [row] = dump.of("MALLOC")
    assert row["Call Stack(Python)"] == f"{script}(8): <module>"


BY_CALLS = """
import ctypes, sys
import mem_profiler.memscope as msmemscope
acl = ctypes.CDLL(sys.argv[1])
block = ctypes.c_void_p()
acl.aclrtSetDevice(0)
for number in range(3):
    assert acl.aclrtMalloc(ctypes.byref(block), ctypes.c_size_t(1000 * (number + 1)), 0) == 0
    msmemscope.step()
"""


def test_a_call_of_step_ends_a_step(tmp_path: Path) -> None:
    script = tmp_path / "calls.py"
    script.write_text(BY_CALLS)
    run = collect(tmp_path, "--steps", "1,3", program=(script, Ascend.build().acl))
    rows = only(dumps(run.output)).of("MALLOC")
    assert [int(attribute(row, "size")) for row in rows] == [1056, 3040]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--device=",), "--device: '': a list of npu"),
        (("--device", "npu:32"), "--device: 'npu:32'"),
        (("--device", "gpu"), "--device: 'gpu'"),
        (("--steps", "1,2,3,4,5,6"), "--steps: '1,2,3,4,5,6': at most 5 steps"),
        (("--steps", "0"), "--steps: '0': a list of numbers of steps, from 1 on"),
        (("--level", "2"), "--level: '2': op, kernel or both"),
        (("--events", "alloc,malloc"), "--events: 'alloc,malloc'"),
        (("--call-stack", "c:1001"), "--call-stack: 'c:1001'"),
        (("--call-stack", "java"), "--call-stack: 'java'"),
        (("--collect-mode", "later"), "--collect-mode: 'later': immediate or deferred"),
        (("--analysis", "oom:0"), "--analysis: 'oom:0': oom:K, K from 1 to 1000"),
        (("--analysis", "all"), "--analysis: 'all'"),
        (("--format", "xml"), "--format / --data-format: 'xml': csv or db"),
        (("--data-format=",), "--data-format: '': csv or db"),
        (("-o", ""), "-o / --output-path / --output: '': the path of a folder"),
        (("--watch", "a,b,c"), "--watch: 'a,b,c'"),
        (("--watch", "full-content"), "--watch: 'full-content'"),
        (("-o", "x" * 4097), "at most 4096 characters"),
        (("--log-level", "loud"), "--log-level: 'loud'"),
        (("--input", "/a,/b"), "--input is for --compare alone"),
        (("--compare",), "--compare runs no program"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_option_value_and_what_is_allowed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code = errors.run_command(memscope, "mem_profiler memscope", [*options, "--", "true"])
    said = capsys.readouterr().err
    assert code == UsageProblem("").exit_code, said
    [line] = [line for line in said.splitlines() if line.startswith("error: ")]
    assert words in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["-v", "-V", "--version"])
def test_the_version_is_shown(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert errors.run_command(memscope, "mem_profiler memscope", [option]) == 0
    assert capsys.readouterr().out.startswith("mem_profiler memscope ")


def test_all_three_forms_of_a_program_are_taken(tmp_path: Path) -> None:
    program = Ascend.build().program(linked=True)
    script = tmp_path / "user.sh"
    script.write_text(f"printf 'set 0\\nmalloc 0 1000\\n' | {program} link\n")
    plain_script = tmp_path / "prog"
    plain_script.write_text(f"#!/bin/sh\n{script.read_text()}")
    plain_script.chmod(0o755)
    for number, words in enumerate(((plain_script,), ("bash", script), ("--", "bash", script))):
        output = tmp_path / f"out{number}"
        command_ok(
            "memscope", "--output-path", output, *words,
            variables={
            "STUB_LEDGER": str(tmp_path / "ledger")},
        )  # fmt: skip
        assert [event for event, _, _ in only(dumps(output)).story()] == ["MALLOC"]
        # The shells took no memory of a device: they leave no folder.
        assert len(list(output.glob("*_ascend"))) == 1


def test_what_nobody_collects_is_said(tmp_path: Path) -> None:
    run = collect(
        tmp_path, "--level", "kernel", "--events", "access", "--analysis", "decompose,inefficient",
        "--watch", "op0,op1", do=WORK,
    )  # fmt: skip
    notes = [line for line in run.stderr.splitlines() if line.startswith("note: ")]
    for word in ("level kernel", "events access", "decompose", "inefficient", "watch"):
        assert any(word in note for note in notes), word


MARKED = """
import ctypes, sys
acl, mstx = ctypes.CDLL(sys.argv[1]), ctypes.CDLL(sys.argv[2])

def malloc(size):
    block = ctypes.c_void_p()
    assert acl.aclrtMalloc(ctypes.byref(block), ctypes.c_size_t(size), 0) == 0
    return block

acl.aclrtSetDevice(0)
malloc(1 << 20)
mstx.stub_mark(b"test")
malloc(2 << 20)
freed, late = malloc(1 << 20), malloc(3 << 20)
mstx.stub_mark(b"test")
acl.aclrtFree(freed)
mstx.stub_mark(b"test")
acl.aclrtFree(late)
"""


def test_check_leaks_finds_the_leaks_between_marks_of_a_dump_of_ours(tmp_path: Path) -> None:
    script = tmp_path / "marked.py"
    script.write_text(MARKED)
    program = (script, Ascend.build().acl, mstx_library())
    run = collect(tmp_path, program=program)
    dump = only(dumps(run.output))
    said = printed(check_leaks, input_path=str(dump.path), mstx_info="test", start_index=0)
    leaked = [row for row in dump.of("MALLOC") if int(attribute(row, "size")) > 2 << 20]
    assert said == [
        "INFO: Starting to analyze data for device 0...",
        "",
        "Leak Analysis Results for the Custom Range:",
        "====== ERROR: Detected memory leaks on device 0 ======",
        *(
            f"Direct Hal memory leak of {int(attribute(row, 'size')) / (1 << 20)} Mb(s)"
            f" at {row['Ptr']} in Index {row['ID']}."
            for row in leaked
        ),
    ]
    assert len(leaked) == 2


STUB_DEVICE_BYTES = 64 << 20
PAGES = ("set 0", "malloc 0 1000", "malloc 1 2097152", "physical 2 2097152 0", "hal 3 4096 1024",
        "free 0")  # fmt: skip


@pytest.mark.parametrize("form", ["csv", pytest.param("db", marks=pytest.mark.soak)])
def test_the_driver_s_blocks_say_pages_module_and_the_device_s_use(
    tmp_path: Path, form: str
) -> None:
    run = collect(tmp_path, "--analysis", "decompose", "--format", form, do=PAGES)
    [dump] = dumps(run.output, form=form)
    keys = ("page_type", "alloc_type", "owner")
    assert [tuple(attribute(row, key) for key in keys) for row in dump.of("MALLOC")] == [
        ("normal", "alloc", "CANN@APP"), ("huge", "alloc", "CANN@APP"),
        ("huge", "create", "CANN@APP"), ("normal", "alloc", "CANN@SLOG"),
    ]  # fmt: skip
    shown = [row for row in dump.of("MALLOC", "FREE") if attribute(row, "shadow") != "true"]
    uses = [int(attribute(row, "device_used") or 0) for row in shown]
    assert uses == sorted(uses)
    assert uses[-1] <= STUB_DEVICE_BYTES


@pytest.mark.parametrize(
    ("what", "kind", "reserved"), [("steps", "PTA", 1 << 21), ("heap", "ARENA", 1 << 16)]
)
def test_rows_of_a_pool_say_what_it_or_its_heaps_together_have_reserved(
    tmp_path: Path, what: str, kind: str, reserved: int
) -> None:
    run = collect(tmp_path, program=(mstx_program(), what))
    [dump] = dumps(run.output)
    shown = [row for row in dump.of("MALLOC", "FREE") if attribute(row, "shadow") != "true"]
    totals = [attribute(row, "total") for row in shown if row["Event Type"] == kind]
    assert set(totals) == {str(reserved)}


def nvtx_program() -> Path:
    headers = Path(next(iter(nvidia.nvtx.__path__))) / "include"
    flags = (*FLAGS, "-isystem", str(headers))
    return compile_program(STUBS / "marks" / "nvtx_app.c", flags, libs=("-ldl", "-lpthread"))


@pytest.mark.parametrize("form", [pytest.param("csv", marks=pytest.mark.soak), "db"])
def test_rows_of_a_pool_of_nvtx_say_what_its_heaps_have(tmp_path: Path, form: str) -> None:
    program = (nvtx_program(), "memory")
    run = collect(tmp_path, "--format", form, program=program)
    [dump] = dumps(run.output, form=form)
    shown = [row for row in dump.of("MALLOC", "FREE") if attribute(row, "shadow") != "true"]
    assert [(row["Event Type"], attribute(row, "size")) for row in shown] == [
        ("RMM", "100"), ("RMM", "200"), ("RMM", "100"), ("RMM", "150"), ("RMM", "200"),
    ]  # fmt: skip
    assert {attribute(row, "total") for row in shown} == {str(1 << 16)}


def test_a_block_of_two_pools_has_its_address_in_the_rows_of_both(tmp_path: Path) -> None:
    run = collect(tmp_path, program=(mstx_program(), "pool"))
    addresses: dict[str, set[int]] = {"PTA": set(), "ATB": set()}
    for dump in dumps(run.output):
        for row in dump.of("MALLOC"):
            addresses[row["Event Type"]].add(int(row["Ptr"], 16))
    first = min(addresses["PTA"])
    assert addresses == {"PTA": {first + 512 * k for k in range(5)}, "ATB": {first}}
    assert first < 1 << 48


def test_a_refusal_writes_a_snapshot_with_the_stack_of_the_call(tmp_path: Path) -> None:
    with Collecting(tmp_path, "--analysis", "none") as run:
        run.do(*PAGES)
        assert run.do("malloc 9 99999999999") != [0]
        assert run.end() == 0, run.stderr
    [row] = dumps(run.output)[0].of("SNAPSHOT")
    assert (row["Event Type"], row["Name"]) == ("SNAPSHOT", "OOM_Snapshot")
    assert attribute(row, "total") == str(STUB_DEVICE_BYTES)
    live = 2097184 + 2097152 + 4096
    assert (attribute(row, "used"), attribute(row, "max_used")) == (str(live), str(live + 1056))
    assert "aclrtMalloc" in row["Call Stack(C)"]


MIXED = """
import ctypes, sys
acl, mstx = ctypes.CDLL(sys.argv[1]), ctypes.CDLL(sys.argv[2])
mstx.stub_range_start.restype = ctypes.c_uint64
import mem_profiler.memscope as msmemscope
block = ctypes.c_void_p()
acl.aclrtSetDevice(0)
assert acl.aclrtMalloc(ctypes.byref(block), ctypes.c_size_t(1000), 0) == 0
mstx.stub_range_start(b"another")
{first}
mstx.stub_range_start(b"step start")
try:
    msmemscope.step()
except RuntimeError as error:
    print(error)
"""


@pytest.mark.parametrize("first", ["", "msmemscope.step()"])
def test_a_step_by_a_call_fails_where_ranges_begin_steps(tmp_path: Path, first: str) -> None:
    script = tmp_path / "mixed.py"
    script.write_text(MIXED.format(first=first))
    libraries = (Ascend.build().acl, mstx_library())
    done = command_ok("memscope", "--", sys.executable, script, *libraries, cwd=tmp_path)
    [line] = done.stdout.splitlines()
    assert "ranges named `step start` begin the steps of this process" in line
    assert "use one of the two" in line


CONFIG = """
import os, sys
from importlib.machinery import PathFinder
real = PathFinder.find_spec
PathFinder.find_spec = lambda name, *more: None if name == "torch" else real(name, *more)
import mem_profiler.memscope as msmemscope
msmemscope.config({options}output_path=os.path.join(sys.argv[1], "other"))
"""


def test_config_says_what_nobody_collects(tmp_path: Path) -> None:
    options = 'analysis="decompose,inefficient", watch="a,b", '
    done = subprocess.run(
        [sys.executable, configured(tmp_path, options), tmp_path], env=command_environment(),
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = done.stderr.splitlines()
    for words in (
        "analysis decompose: modules of CANN of every program; weights,",
        "analysis inefficient: of ATB's operators, and of Python",
        "watch: of Python programs with PyTorch 2.3.1 or later alone; it is not",
        "config() chose what is collected, but nothing was",
    ):
        assert any(line.startswith(f"mem_profiler: note: {words}") for line in said), (words, said)


def test_config_says_what_the_capture_that_runs_does_not_have(tmp_path: Path) -> None:
    script = configured(tmp_path, 'level="kernel", device="npu,cpu", ')
    done = command_ok("memscope", "--", sys.executable, script, tmp_path, cwd=tmp_path)
    said = done.stderr.splitlines()
    for note in (
        "level kernel: not collected, since the capture began with level op",
        "device cpu: not collected, since the capture began without",
    ):
        assert any(line.startswith(f"mem_profiler: note: {note}") for line in said), (note, said)


def configured(folder: Path, options: str) -> Path:
    """A program that calls `config`."""
    script = folder / "config.py"
    script.write_text(CONFIG.format(options=options))
    return script
