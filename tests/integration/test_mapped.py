"""Mappings of real programs, against their own ledgers of pages and the kernel's lists."""

import importlib.util
import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from controller_tools import HeapFile, command, command_environment, wait_until
from mem_cli.serve.answers import REHEARSAL, Answers
from mem_cli.serve.metrics import unpacked
from mem_cli.watching.warmup import readers
from mem_cli.watching.worker import About, Worker
from mem_parser.errors import MemError
from mem_parser.records.kinds import AllocatorType
from mem_profiler import memray_api
from mem_profiler.attach.control import attach, detach
from mem_profiler.capture import toggle
from mem_profiler.capture.recover import recover_pid
from mem_profiler.live.watched import Watched
from mem_profiler.segment import discovery
from parser_run import parse, report
from parser_run import told as told_by
from python_frames import PYTHON_FRAMES
from sampler_run import WAIT_S, Target, build, environment, run, silent

pytestmark = [pytest.mark.usefixtures("sampler"), pytest.mark.timeout(120)]
Sums = dict[str, int]
OTHERS = {"peak", "peak-reserved", "allocated"}


def told(target: Target) -> tuple[Sums, Sums]:
    """Bytes of each function by the program's own ledger, and its other sums."""
    return ledger_of(target, start=True)


def ledger_of(target: Target, *, start: bool = False) -> tuple[Sums, Sums]:
    """The same, of a capture that runs already."""
    assert target.line() == "ready"
    if start:
        toggle.start(target.pid, 1024)
    target.tell("go on")
    rows = []
    while (line := target.line()) != "told":
        name, _, number = line.rpartition(" ")
        rows.append((name, int(number)))
    found = dict(rows)
    return {k: v for k, v in found.items() if k not in OTHERS}, found


def files_of(folder: Path, pid: int | str = "*", number: int = 1) -> dict[str, str]:
    """The files of mappings by domain."""
    found = {}
    for path in folder.glob(f"*.{pid}.{number}.*.heap"):
        if name := re.search(r"\.(mmap[a-z-]*)\.heap$", path.name):
            found[name[1]] = str(path)
    return found


def by_function(path: str, *options: str) -> Sums:
    rows = report("top", path, "-n", 0, *options)["rows"]
    return {row["function"].split(" (")[0]: round(row["flat"]) for row in rows if row["flat"]}


def sums_of(files: dict[str, str], *options: str) -> Sums:
    """Bytes of each function in all files together."""
    sums: Sums = {}
    for path in files.values():
        for name, size in by_function(path, *options).items():
            sums[name] = sums.get(name, 0) + size
    return sums


def in_use(folder: Path, pid: int | str = "*") -> Sums:
    """The same of what is in use, without stacks of threads and what has no ledger."""
    files = {name: path for name, path in files_of(folder, pid).items() if name != "mmap-stack"}
    return {k: size for k, size in sums_of(files, "--inuse").items() if k != "others"}


def random_target(segment_dir: Path, *args: object) -> Target:
    return random_target_in(environment(segment_dir, device="mmap", seed="1"), *args)


def random_target_in(env: dict[str, str], *args: object) -> Target:
    return Target([build("mapped.c"), *map(str, args)], env)


@pytest.mark.parametrize(("seed", "threads"), [(1, 1), (2, 1), (3, 4)])
def test_random_mappings_are_right_to_the_page(
    segment_dir: Path, tmp_path: Path, seed: int, threads: int
) -> None:
    (tmp_path / "dead").mkdir()
    with random_target(segment_dir, seed, 3000, threads) as target:
        truth, more = told(target)
        toggle.snapshot(target.pid, str(tmp_path / "x"))
        target.kill()
        recover_pid(target.pid, str(tmp_path / "dead" / "x"))
    # The kernel has not been asked of this one.
    assert in_use(tmp_path / "dead") == nonzero(truth)
    assert in_use(tmp_path) == nonzero(truth)
    if threads == 1:
        files = files_of(tmp_path).values()
        allocated = sum(sum(by_function(path, "--alloc").values()) for path in files)
        assert allocated == more["allocated"]
        for domain, name in (("mmap", "peak"), ("mmap-reserved", "peak-reserved")):
            header = HeapFile(files_of(tmp_path)[domain]).header
            assert header["peak"]["estimate_bytes"] == more[name]
            peaks = sum(by_function(files_of(tmp_path)[domain], "--peak").values())
            assert more[name] * 0.99 < peaks <= more[name]


def test_an_attach_that_is_asked_for_mappings_sees_those_from_then_on(
    segment_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEM_PROFILER_DEVICE", "mmap")
    with Target([build("mapped.c"), "6", "2000", "1"], dict(os.environ)) as target:
        attach(target.pid)
        truth, _ = told(target)
        toggle.snapshot(target.pid, str(tmp_path / "x"))
        detach(target.pid)
        target.tell("go on")
        target.finish()
    assert in_use(tmp_path) == nonzero(truth)


def test_commands_attach_with_the_choice_of_mappings_and_refuse_a_sampler_without_it(
    segment_dir: Path, tmp_path: Path
) -> None:
    with Target([build("mapped.c"), "10", "2000", "1"], dict(os.environ)) as target:
        words = ("-s", "60", "-c", "1M", "-p", target.pid, "--device", "mmap", "-o", tmp_path / "x")
        with subprocess.Popen(command(*words), env=command_environment()) as capture:
            wait_until(lambda: is_captured(target.pid), "a capture runs")
            truth, _ = ledger_of(target)
            capture.send_signal(signal.SIGINT)
            assert capture.wait(WAIT_S) == 0
        assert in_use(tmp_path) == nonzero(truth)
    for device, code in (("mmap", 0), ("auto", 4)):
        env = environment(segment_dir, device=device)
        with Target.started([build("mapped.c"), "10", "10", "1"], env) as target:
            done = run(command("start", target.pid, "--device", "mmap"), command_environment())
            assert done.returncode == code, done.stderr
            assert ("--device is chosen when it comes" in done.stderr) == bool(code)


def is_captured(pid: int) -> bool:
    try:
        with discovery.open_process(pid, writable=False) as segment:
            return segment.control().running(time.monotonic_ns())
    except MemError:
        return False


def test_threads_that_unmap_parts_of_one_mapping_at_once_leave_what_the_kernel_has(
    segment_dir: Path, tmp_path: Path
) -> None:
    env = environment(segment_dir, device="mmap", seed="1")
    with Target([build("mapped_race.c")], env) as target:
        truth, _ = told(target)
        toggle.snapshot(target.pid, str(tmp_path / "x"))
    assert in_use(tmp_path) == truth


def test_a_log_of_events_has_the_same_blocks_in_use_and_the_same_peak(
    segment_dir: Path, tmp_path: Path
) -> None:
    env = environment(
        segment_dir, rate=1024, device="mmap", device_rate="1M", events="8M", seed="1"
    )
    with random_target_in(env, 8, 1500, 1) as target:
        truth, more = ledger_of(target)
        target.kill()
        recover_pid(target.pid, str(tmp_path / "x"))
    [log] = map(str, tmp_path.glob("*.memlog"))
    found: Sums = {}
    for domain, name in (("mmap", "peak"), ("mmap-reserved", "peak-reserved")):
        found |= by_function(log, "--inuse", "--domain", domain)
        highest = max(row["live_bytes"] for row in report("peaks", log, "--domain", domain)["rows"])
        assert highest == more[name]
    assert found == nonzero(truth)


def test_single_records_of_a_log_are_mmap_and_munmap_that_add_up(
    segment_dir: Path, tmp_path: Path
) -> None:
    env = environment(segment_dir, rate=1024, device="mmap", events="8M", seed="1")
    with random_target_in(env, 13, 1500, 1) as target:
        truth, _ = ledger_of(target)
        target.kill()
        recover_pid(target.pid, str(tmp_path / "x"))
    [log] = map(str, tmp_path.glob("*.memlog"))
    live: dict[int, tuple[str, int]] = {}
    with memray_api.FileReader(log) as reader:
        for record in reader.get_allocation_records():
            if record.allocator is AllocatorType.MUNMAP:
                assert live.pop(record.address)[1] == record.size > 0
            elif record.allocator is AllocatorType.MMAP:
                assert record.address not in live
                live[record.address] = record.native_stack_trace(1)[0][0], record.size
    found: Sums = {}
    for function, size in live.values():
        found[function] = found.get(function, 0) + size
    assert found == nonzero(truth)


MAPPINGS = """
import mmap
def make():
    return mmap.mmap(-1, 5 << 20)
with memray.Tracker("out"):
    held = [make() for _ in range(3)]
    held.pop(1).close()
    held.append(make())
for record in memray.FileReader("out").get_allocation_records():
    if record.size == 5 << 20:
        kind = memray.AllocatorType(record.allocator).name
        print(kind, record.n_allocations, record.stack_trace()[0][0] if kind == "MMAP" else "")
with memray.FileReader("out") as reader:
    for records in (
        reader.get_high_watermark_allocation_records, reader.get_leaked_allocation_records
    ):
        some = [one for one in records() if one.allocator == memray.AllocatorType.MMAP]
        print(sum(one.size for one in some if "make" in (one.stack_trace() or [()])[0]))
"""


@pytest.mark.skipif(importlib.util.find_spec("memray") is None, reason="memray is missing")
@pytest.mark.skipif(not PYTHON_FRAMES, reason="no Python frames here")
def test_mappings_have_the_records_that_memray_has(tmp_path: Path) -> None:
    printed = []
    for module in ("memray", "mem_profiler.memray_api as memray"):
        folder = tmp_path / module.partition(" ")[0]
        folder.mkdir()
        words = [sys.executable, "-c", f"import {module}\n{MAPPINGS}"]
        env = command_environment() | {"MEM_PROFILER_DEVICE": "mmap"}
        done = silent(words, env, cwd=folder)
        printed.append(done)
    assert printed[0].split().count("MMAP") == 4
    assert printed[1] == printed[0]


@pytest.mark.parametrize(("seed", "threads"), [(11, 1), (12, 3)])
def test_what_a_child_inherits_is_its_own_with_its_parents_stack_until_it_ends_it(
    segment_dir: Path, tmp_path: Path, seed: int, threads: int
) -> None:
    env = environment(segment_dir, rate=1 << 30, device="mmap", seed="1", follow_fork="1")
    (tmp_path / "dead").mkdir()
    with random_target_in(env, seed, 1500, threads, "forks") as target:
        truth, _ = ledger_of(target)
        mine = {name: size for name, size in truth.items() if " " not in name}
        theirs: dict[int, Sums] = {}
        for name, size in truth.items():
            if " " in name:
                pid, _, function = name.partition(" ")
                theirs.setdefault(int(pid), {})[function] = size
        assert len(theirs) == 2
        for pid, ledger in {target.pid: mine, **theirs}.items():
            toggle.snapshot(pid, str(tmp_path / "x"))
            assert in_use(tmp_path, pid) == nonzero(ledger)
        target.kill()
    for pid, ledger in theirs.items():
        wait_until(lambda pid=pid: not Path(f"/proc/{pid}").exists(), "the child ends, too")
        recover_pid(pid, str(tmp_path / "dead" / "x"))
        assert in_use(tmp_path / "dead", pid) == nonzero(ledger)


FORKING_PYTHON = """
import mmap, os, sys
def private():
    return mmap.mmap(-1, 32 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
def in_c(depth):
    return list(map(in_c, [depth - 1]))[0] if depth else private()
def deeper(depth):
    return deeper(depth - 1) if depth else in_c(8)
def page():
    return mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
many = [page() for _ in range(5000)]
kept = [deeper(50), private()]
print("ready", flush=True); sys.stdin.readline()
read, write = os.pipe()
if not (child := os.fork()):
    kept.pop().close()
    many.pop().close()
    mine = mmap.mmap(-1, 1 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    os.write(write, b".")
    sys.stdin.readline()
    os._exit(0)
os.read(read, 1)
print(child, flush=True); sys.stdin.readline()
"""


def test_the_stack_of_an_inherited_mapping_is_whole_with_pythons_frames(
    segment_dir: Path, tmp_path: Path
) -> None:
    env = environment(
        segment_dir, rate=1 << 30, device="mmap", seed="1", follow_fork="1", pymem="1"
    )
    with Target.started([sys.executable, "-c", FORKING_PYTHON], env) as target:
        child = int(target.ask("go on"))
        for pid in (target.pid, child):
            toggle.snapshot(pid, str(tmp_path / "x"))
    stacks = {}
    for pid in (target.pid, child):
        path = files_of(tmp_path, pid)["mmap"]
        stacks[pid] = collapsed(path)
    whole = [line for line in stacks[target.pid] if "deeper" in line]
    assert len(whole) == 1
    assert whole[0].count("deeper") == 51
    assert whole == [line for line in stacks[child] if "deeper" in line]
    parents, childs = (by_function(files_of(tmp_path, p)["mmap"]) for p in stacks)
    assert parents["private"] == 64 << 20
    assert (childs["private"], childs["<module>"]) == (32 << 20, 1 << 20)
    assert (parents["page"], childs["page"]) == (5000 << 12, 4999 << 12)


def collapsed(path: str) -> list[str]:
    """One line for each stack, with its bytes in use."""
    done = parse("convert", path, "--to", "collapsed", "-o", "-")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def nonzero(ledger: Sums) -> Sums:
    return {name: size for name, size in ledger.items() if size}


@pytest.mark.parametrize("seed", [4, 5])
def test_what_the_sampler_did_not_see_end_is_taken_out_by_the_kernels_list(
    segment_dir: Path, tmp_path: Path, seed: int
) -> None:
    with random_target(segment_dir, seed, 3000, 1, "raw") as target:
        truth, _ = told(target)
        toggle.snapshot(target.pid, str(tmp_path / "x"))
    assert in_use(tmp_path) == nonzero(truth)


def test_views_show_each_kind_as_the_kernel_has_it_with_what_is_resident(
    segment_dir: Path, tmp_path: Path
) -> None:
    env = environment(segment_dir, device="mmap", seed="1")
    domains = ("mmap", "mmap-reserved")
    with random_target_in(env, 9, 3000, 1, "raw") as target:
        truth, _ = told(target)
        with readers(Answers, REHEARSAL) as forkserver:
            watched = Watched(target.pid)
            worker = Worker(forkserver, target.pid, watched.segment)
            worker.take(About(1, target.pid, 0.0, "", watched.state), watched.facts())
            for name in domains:
                (tmp_path / name).write_bytes(worker.make(("heap", name)))
            numbers = unpacked(target.pid, worker.make(("metrics", 0)))
            shown = json.loads(worker.make(("live", "", False)))
            worker.close()
            watched.close()
    found = {name: by_function(str(tmp_path / name), "--inuse") for name in domains}
    assert found["mmap"] | found["mmap-reserved"] == nonzero(truth)
    told_of = {name: one.resident_bytes for name, one in numbers.domains.items()}
    assert told_of == {"host": None, "mmap": 0, "mmap-reserved": 0}
    assert numbers.domains["mmap"].inuse_bytes == sum(found["mmap"].values())
    assert "resident.space" not in shown["data"]["facts"]["headlines"]  # of the host: unknown


PYTHON = """
import mmap, sys
print("ready", flush=True); sys.stdin.readline()
def private():
    found = mmap.mmap(-1, 32 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    found[: 16 << 20] = b"x" * (16 << 20)
    return found
def shared():
    found = mmap.mmap(-1, 8 << 20)
    found[:] = b"x" * (8 << 20)
    return found
def reserved():
    return mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=0)
def of_file():
    with open(sys.argv[1], "rb") as file:
        found = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    found.find(b"nothing")
    return found
kept = [private(), shared(), reserved(), of_file()]
small = [[k] for k in range(400_000)]  # pymalloc maps arenas for these
print("told", flush=True); sys.stdin.readline()
"""
ASKED = {"private": 32 << 20, "shared": 8 << 20, "reserved": 64 << 20, "of_file": 4 << 20}
TOUCHED = {"private": 16 << 20, "shared": 8 << 20, "of_file": 4 << 20}


def test_a_python_programs_mappings_are_named_by_kind_with_what_is_resident_of_each(
    segment_dir: Path, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * (4 << 20))
    env = environment(segment_dir, device="mmap", seed="1")
    with Target.started([sys.executable, "-c", PYTHON, file], env) as target:
        toggle.start(target.pid, 1024)
        target.tell("go on")
        assert target.line() == "told"
        path = toggle.snapshot(target.pid, str(tmp_path / "x")).path
    files = files_of(tmp_path)
    assert set(files) == {"mmap", "mmap-shared", "mmap-reserved", "mmap-file"}
    assert in_use(tmp_path) == ASKED
    resident: Sums = {}
    for one in files.values():
        resident |= by_function(one, "--resident")
    assert resident == TOUCHED
    found = report("rss", path)
    rows = {row["key"]: row["bytes"] for row in found["rows"]}
    assert sum(rows.values()) == found["rss_bytes"]
    assert rows["mapped"] == sum(TOUCHED.values())
    assert rows["files"] + rows["shared"] < 32 << 20
    assert "mapped by the program itself" in told_by("rss", path)
    refused = parse("rss", files["mmap"])
    assert refused.returncode == 3
    assert "the file is of mmap: the sum of all resident memory is in another one" in refused.stderr
    told = told_by(files["mmap"], "--inuse")
    assert "resident 16.00 MiB, 50.0 % of what is in use" in told
    columns = told_by("-f", path, "-f", files["mmap"], "--by", "domain", "--inuse")
    assert "private" in columns


@pytest.mark.parametrize("follow", ["0", "1"])
def test_every_kind_of_mapping_counts_with_what_is_resident_of_it(
    segment_dir: Path, tmp_path: Path, follow: str
) -> None:
    env = environment(segment_dir, device="mmap", seed="1", follow_fork=follow)
    asked: Sums = {}
    touched: Sums = {}
    with Target.started([build("mapped_kinds.c", libs=("-lrt",))], env) as target:
        toggle.start(target.pid, 1024)
        target.tell("go on")
        while (line := target.line()) != "told":
            name, size, resident = line.split()
            asked[name], touched[name] = int(size), int(resident)
        path = toggle.snapshot(target.pid, str(tmp_path / "x")).path
        text = Path(f"/proc/{target.pid}/status").read_text()
        kernel = {k: int(v) << 10 for k, v in re.findall(r"(Rss\w+):\s+(\d+) kB", text)}
        target.kill()
        recover_pid(target.pid, str(tmp_path / "x"))
    living = files_of(tmp_path, target.pid, 1)
    dead = files_of(tmp_path, target.pid, 2)
    assert sums_of(living, "--inuse") == sums_of(dead, "--inuse") == asked
    assert sums_of(living, "--resident") == touched
    found = report("rss", path)
    rows = {row["key"]: row["bytes"] for row in found["rows"]}
    assert rows["mapped"] == sum(touched.values())
    # Shared memory is not taken for files.
    assert rows["files"] == pytest.approx(kernel["RssFile"], abs=64 << 10)
    assert rows["shared"] + rows["sampler"] < kernel["RssShmem"] - (10 << 20)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="stacks are known on x86-64")
def test_stacks_of_threads_belong_to_who_made_the_thread(segment_dir: Path, tmp_path: Path) -> None:
    env = environment(segment_dir, device="mmap", seed="1")
    with Target([build("mapped_stacks.c")], env) as target:
        truth, _ = told(target)
        path = toggle.snapshot(target.pid, str(tmp_path / "x")).path
        regions = Path(f"/proc/{target.pid}/smaps").read_text()
    files = files_of(tmp_path)
    assert set(files) == {"mmap", "mmap-stack"}
    assert sums_of(files, "--inuse") == truth
    resident = by_function(files["mmap-stack"], "--resident")
    assert set(resident) == {"by_default", "of_size"}
    assert 3 * (256 << 10) < resident["by_default"] < 3 * (300 << 10)
    assert (256 << 10) < resident["of_size"] < 300 << 10
    # The whole of a stack is in one mapping of the kernel's, up to its end.
    sizes = {int(kb) << 10 for kb in re.findall(r"^Size: +(\d+) kB", regions, re.MULTILINE)}
    assert {truth["by_default"] // 3, truth["of_size"]} <= sizes
    found = report("rss", path)
    assert sum(row["bytes"] for row in found["rows"]) == found["rss_bytes"]
    rows = {row["key"]: row["bytes"] for row in found["rows"]}
    assert (256 << 10) < rows["mapped"] < 300 << 10


def test_a_thread_may_give_back_its_handle_before_pthread_create_returns(segment_dir: Path) -> None:
    done = run([build("mapped_handles.c")], environment(segment_dir, device="mmap", rate="1M"))
    assert (done.returncode, done.stdout) == (0, "2000\n"), done.stderr


def test_an_allocators_own_mappings_are_not_the_programs(segment_dir: Path, tmp_path: Path) -> None:
    jemalloc = next(Path("/usr/lib").glob("*/libjemalloc.so.2"))
    env = environment(segment_dir, device="mmap", preload=[jemalloc], seed="1")
    with Target.started([build("blocks.c")], env) as target:
        toggle.start(target.pid, 1)
        assert target.ask("alloc 100 3000000") == "done"
        toggle.snapshot(target.pid, str(tmp_path / "x"))
    assert files_of(tmp_path) == {}


def test_without_the_choice_nothing_is_redirected_and_there_is_no_file(
    segment_dir: Path, tmp_path: Path
) -> None:
    with Target(
        [build("mapped.c"), "7", "100", "1"], environment(segment_dir, device="auto")
    ) as target:
        told(target)
        toggle.snapshot(target.pid, str(tmp_path / "x"))
    assert files_of(tmp_path) == {}
