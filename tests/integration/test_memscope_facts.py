"""What drivers, pools and marks tell beside the blocks: rows of a collection have it, calls that
contradict it fail, and what nobody collects is said.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nvidia.nvtx
import pytest

from c_build import compile_program
from controller_tools import command_environment, run_command
from memscope_run import Collecting, attribute, dumps, mstx_library
from stub_driver import FLAGS, STUBS, Ascend

pytestmark = pytest.mark.usefixtures("segment_dir")
STUB_DEVICE_BYTES = 64 << 20
WORK = ("set 0", "malloc 0 1000", "malloc 1 2097152", "physical 2 2097152 0", "hal 3 4096 1024",
        "free 0")  # fmt: skip


@pytest.mark.parametrize("form", ["csv", pytest.param("db", marks=pytest.mark.soak)])
def test_the_driver_s_blocks_say_pages_module_and_the_device_s_use(
    tmp_path: Path, form: str
) -> None:
    with Collecting(tmp_path, "--analysis", "decompose", "--format", form) as run:
        run.do(*WORK)
        assert run.end() == 0, run.stderr
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
    with Collecting(tmp_path, program=(mstx_program(), what)) as run:
        assert run.end() == 0, run.stderr
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
    with Collecting(tmp_path, "--format", form, program=program) as run:
        assert run.end() == 0, run.stderr
    [dump] = dumps(run.output, form=form)
    shown = [row for row in dump.of("MALLOC", "FREE") if attribute(row, "shadow") != "true"]
    assert [(row["Event Type"], attribute(row, "size")) for row in shown] == [
        ("RMM", "100"), ("RMM", "200"), ("RMM", "100"), ("RMM", "150"), ("RMM", "200"),
    ]  # fmt: skip
    assert {attribute(row, "total") for row in shown} == {str(1 << 16)}


def test_a_block_of_two_pools_has_its_address_in_the_rows_of_both(tmp_path: Path) -> None:
    with Collecting(tmp_path, program=(mstx_program(), "pool")) as run:
        assert run.end() == 0, run.stderr
    addresses: dict[str, set[int]] = {"PTA": set(), "ATB": set()}
    for dump in dumps(run.output):
        for row in dump.of("MALLOC"):
            addresses[row["Event Type"]].add(int(row["Ptr"], 16))
    first = min(addresses["PTA"])
    assert addresses == {"PTA": {first + 512 * k for k in range(5)}, "ATB": {first}}
    assert first < 1 << 48


def test_a_refusal_writes_a_snapshot_with_the_stack_of_the_call(tmp_path: Path) -> None:
    with Collecting(tmp_path, "--analysis", "none") as run:
        run.do(*WORK)
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
    done = run_command("memscope", "--", sys.executable, script, *libraries, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
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
    done = run_command("memscope", "--", sys.executable, script, tmp_path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
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
