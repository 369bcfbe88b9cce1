"""Allocators of a program that report blocks by mem_profiler.h, against the program's ledger."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import mem_profiler
from attach_run import Unprepared
from controller_tools import HeapFile, command_environment, command_ok
from device_run import DeviceCounted, Tally, device_counted
from mem_profiler import attach as attaching
from mem_profiler.capture import gate
from mem_profiler.segment import discovery
from parser_run import told
from sampler_run import TARGETS, Controller, Target, build, environment, segments

INCLUDE = f"-I{mem_profiler.include_path()}"
ARENA, SLAB = "heap-requests", "heap-slab____x"
SLAB_PAGES_BYTES = 256 << 20  # mapped by the program
VALGRIND = Path("/usr/include/valgrind/memcheck.h")
BUILDS = [
    pytest.param((), id="plain"),
    pytest.param(("-O2", "-flto"), id="lto"),
    pytest.param(("-O2", "-s", "-Wl,--gc-sections", "-ffunction-sections"), id="stripped"),
    pytest.param(("-no-pie", "-fno-pie"), id="no pie"),
]


_USE = """
#include <mem_profiler.h>
static struct mem_profiler_heap heap = MEM_PROFILER_HEAP("one", MEM_PROFILER_SAMPLED);
static char memory[64];
static void use(void) {
    struct mem_profiler_heap made;
    mem_profiler_heap_init(&made, "a name that is much longer than the forty bytes there are", 0);
    mem_profiler_report_allocation(&heap, memory, 32);
    mem_profiler_report_resize(&heap, memory, memory, 64);
    mem_profiler_report_free(&heap, memory);
    mem_profiler_report_pool_allocation(&heap, &made, memory, 8);
    mem_profiler_pool_end(&heap, &made);
    mem_profiler_heap_reset(&made);
    mem_profiler_heap_end(&heap);
}
"""


@dataclass
class Told:
    """What the program says of itself: the truth."""

    pid: int
    arena: Tally
    slab: Tally

    @classmethod
    def of(cls, line: str) -> Told:
        pid, *numbers = map(int, line.split())
        (ab, abytes, alb, alby), (sb, sbytes, slb, slby) = numbers[:4], numbers[4:]
        return cls(pid, Tally(ab, abytes, 0, alb, alby), Tally(sb, sbytes, 0, slb, slby))


def program(*flags: str) -> Path:
    """The program, with the header as a user's."""
    return build("heaps.c", INCLUDE, *flags)


def said(target: Target, *lines: str) -> Told:
    """Tell it these; its last answer."""
    for line in lines:
        answer = target.ask(line)
    return Told.of(answer)


@pytest.mark.parametrize("flags", BUILDS)
def test_every_block_of_an_arena_and_a_slab_is_in_the_profile(
    segment_dir: Path, flags: tuple[str, ...]
) -> None:
    with Target([program(*flags)], environment(segment_dir, rate=1)) as target:
        target.line()
        truth = said(target, "arena 1000 64", "reset", "arena 300 96", "slab 50 4096", "unslab 20",
                    "resize 10000")  # fmt: skip
        counted = device_counted(target)
        assert counted.by_domain() == {ARENA: truth.arena, SLAB: truth.slab}
        assert set(counted.apis()) == {"mem_profiler_report_allocation"} or "-s" in flags
        if not flags:
            for by in (counted.under("serve_request", ARENA), counted.by("arena_alloc", ARENA)):
                assert by == truth.arena
        assert counted.lost == {}
        target.finish()


def test_a_memory_resource_and_a_block_cache_in_cxx(segment_dir: Path) -> None:
    built = build("cxx_heaps.cc", INCLUDE)
    with Target([built], environment(segment_dir, rate=1)) as target:
        target.line()
        truth = said(target, "vectors 100", "pages 50")
        counted = device_counted(target)
        names = {"heap-cxx_requests": truth.arena, "heap-pages": truth.slab}
        assert counted.by_domain() == names
        assert any("parse_request" in name for s in counted.stacks for name in s.names)
        assert any("read_page" in name for s in counted.stacks for name in s.names)
        truth = said(target, "release", "vectors 7", "pages 200")
        names = {"heap-cxx_requests": truth.arena, "heap-pages": truth.slab}
        assert device_counted(target).by_domain() == names
        assert truth.slab.live_blocks == 64
        target.finish()


@pytest.mark.skipif(not VALGRIND.exists(), reason="no headers of Valgrind")
@pytest.mark.parametrize("rate", [1, 4096])
def test_requests_to_valgrind_are_reports(segment_dir: Path, rate: int) -> None:
    requests = ("-include", "mem_profiler.h", '-DMEM_PROFILER_POOL_REQUESTS="contexts"')
    with Target(
        [build("contexts.c", INCLUDE, *requests)], environment(segment_dir, rate=rate)
    ) as target:
        blocks, size, live_blocks, live_size = map(int, target.line().split())
        truth = Tally(blocks, size, 0, live_blocks, live_size)
        counted = device_counted(target)
        if rate == 1:
            assert counted.by_domain() == {"heap-contexts": truth}
            assert counted.under("parse_query").blocks == blocks - 2
        assert counted.lost == {}
        target.finish()


@pytest.mark.parametrize(
    ("compiler", "flags"),
    [
        ("g++", ("-std=c++17", "-fsanitize=address,undefined")),
        ("clang++", ("-std=c++20",)),
        ("gcc", ("-std=c99", "-pedantic", "-fsanitize=address,undefined")),
        ("clang", ("-std=c11", "-flto=thin", "-fuse-ld=lld")),
        ("gcc", ("-std=c11", "-static")),
        ("gcc", ("-std=c11", "-DMEM_PROFILER_DISABLE")),
    ],
    ids=["c++17", "c++20", "c99", "thin lto", "static", "disabled"],
)
def test_the_header_compiles_and_does_nothing_without_a_sampler(
    compiler: str, flags: tuple[str, ...], tmp_path: Path
) -> None:
    if shutil.which(compiler) is None or ("lld" in " ".join(flags) and not shutil.which("ld.lld")):
        pytest.skip(f"no {compiler}")
    suffix = "cc" if "++" in compiler else "c"
    sources = [tmp_path / f"one.{suffix}", tmp_path / f"two.{suffix}"]
    sources[0].write_text(_USE + "void two(void);\nint main(void) { use(); two(); return 0; }\n")
    sources[1].write_text(_USE + "void two(void);\nvoid two(void) { use(); }\n")
    command = [compiler, "-Wall", "-Wextra", "-Werror", "-Wundef", INCLUDE, *flags, *sources]
    subprocess.run([*command, "-o", str(tmp_path / "p")], check=True, timeout=120)
    subprocess.run([str(tmp_path / "p")], check=True, timeout=60)


def test_what_cannot_be_is_counted_and_changes_nothing_else(segment_dir: Path) -> None:
    with Target([program()], environment(segment_dir, rate=1)) as target:
        target.line()
        truth = said(target, "slab 3 100", "twice", "unknown", "unknown")
        counted = device_counted(target)
        assert counted.by_domain() == {SLAB: truth.slab}
        slab = counted.domains[SLAB]
        assert (slab.repeated_blocks, slab.unknown_frees) == (1, 2)
        assert len(slab.notes()) == 2
        target.finish()


@pytest.mark.parametrize(
    "lines",
    [("arena 5 64", "threads 8"), ("arena 20000 32", "slab 5000 16", "reset", "arena 7 32")],
    ids=["many threads", "more blocks than there are nodes"],
)
def test_heaps_of_many_threads_and_many_blocks(segment_dir: Path, lines: tuple[str, ...]) -> None:
    with Target([program()], environment(segment_dir, rate=1)) as target:
        target.line()
        truth = said(target, *lines)
        counted = device_counted(target)
        assert counted.by_domain() == {ARENA: truth.arena, SLAB: truth.slab}
        assert counted.lost == {}
        target.finish()


def test_sampled_blocks_of_an_arena_stand_for_all(segment_dir: Path) -> None:
    with Target([program()], environment(segment_dir, rate=4096)) as target:
        target.line()
        truth = said(target, "arena 40000 96", "reset", "arena 40000 96")
        tally = device_counted(target).by_domain()[ARENA]
        assert tally.blocks < truth.arena.blocks / 10
        p = 1 - 2.718281828 ** (-96 / 4096)
        for sampled, true in (
            (tally.blocks, truth.arena.blocks),
            (tally.live_blocks, truth.arena.live_blocks),
        ):
            assert abs(sampled / p - true) < 5 * (true * (1 - p) / p) ** 0.5
        target.finish()


def test_heaps_and_mappings_are_sampled_each_by_its_own_rule(segment_dir: Path) -> None:
    env = environment(segment_dir, rate=4096, device="mmap", device_rate=str(1 << 20))
    with Target([program()], env) as target:
        target.line()
        truth = said(target, "threads 4", "threads 4", "arena 40000 96", "slab 50 4096")
        counted = device_counted(target)
        rated = {name: counted.domains[name].rated for name in (ARENA, SLAB, "mmap")}
        assert rated == {ARENA: "host", SLAB: "none", "mmap": "none"}
        tallies = counted.by_domain()
        assert tallies[SLAB] == truth.slab
        assert 0 < tallies[ARENA].blocks < truth.arena.blocks / 10
        assert tallies["mmap"].live_bytes >= SLAB_PAGES_BYTES
        assert [note for domain in counted.domains.values() for note in domain.notes()] == []
        target.finish()


def test_a_child_has_its_own(segment_dir: Path) -> None:
    env = environment(segment_dir, rate=1, follow_fork="1")
    with Target([program()], env) as target:
        target.line()
        mine = said(target, "arena 20 64")
        child = Told.of(target.ask("fork"))
        child_truth = said(target, "reset", "arena 3 128")
        assert child_truth.pid == child.pid != mine.pid
        [path] = [p for p in segments(segment_dir) if p.name.startswith(f"{child.pid}-")]
        counted = DeviceCounted.read(path)
        assert counted.by_domain() == {ARENA: child_truth.arena}
        assert device_counted(target).by_domain() == {ARENA: mine.arena}
        target.finish()


def test_a_library_that_is_opened_later(segment_dir: Path) -> None:
    plugin = build("heaps_plugin.c", INCLUDE, "-shared", "-fPIC", out="heaps_plugin.so")
    with Target([program()], environment(segment_dir, rate=1)) as target:
        target.line()
        target.ask(f"open {plugin}")
        assert device_counted(target).by_domain() == {"heap-plugin": Tally(10, 10000, 0, 9, 9000)}
        target.finish()


def test_attached_detached_and_attached_again(segment_dir: Path) -> None:
    with Unprepared([program()], segment_dir) as target:
        target.line()
        before = said(target, "arena 100 64", "slab 5 64")
        for _ in range(2):
            attaching.attach(target.pid)
            with discovery.open_process(target.pid) as segment:
                gate.start(segment, target.pid, 1, None)
                now = said(target, "arena 30 64", "slab 4 512")
                counted = DeviceCounted.of(segment)
                fresh = {ARENA: (30, 30 * 64, 30), SLAB: (4, 4 * 512, 4)}
                found = {
                    name: (t.blocks, t.bytes, t.live_blocks)
                    for name, t in counted.by_domain().items()
                }
                assert found == fresh
                said(target, "reset", "unslab 4")
                after = DeviceCounted.of(segment).by_domain()
                assert {name: t.live_blocks for name, t in after.items()} == {ARENA: 0, SLAB: 0}
            attaching.detach(target.pid)
            said(target, "arena 10 64", "slab 1 64", "unslab 1")
        assert now.arena.blocks > before.arena.blocks
        target.finish()


def test_the_second_capture_of_a_process_begins_with_nothing(segment_dir: Path) -> None:
    with Target([program()], environment(segment_dir)) as target:
        target.line()
        said(target, "arena 50 64", "slab 5 64")
        with Controller(target) as controller:
            for _ in range(2):
                number = controller.start(1)
                said(target, "arena 10 64", "slab 2 64")
                controller.stop(number)
                tallies = device_counted(target).by_domain()
                assert {n: (t.blocks, t.live_blocks) for n, t in tallies.items()} == {
                    ARENA: (10, 10),
                    SLAB: (2, 2),
                }
        target.finish()


def test_files_say_that_a_heap_is_inside_malloc(segment_dir: Path, tmp_path: Path) -> None:
    command_ok(
        "run", "-c", "1", "-o", tmp_path / "p", "--", program(), input="arena 100 64\nslab 3 4096\n"
    )
    [arena] = tmp_path.glob(f"p.*.{ARENA}.heap")
    [slab] = tmp_path.glob(f"p.*.{SLAB}.heap")
    assert HeapFile(arena).total("alloc_bytes") == 6400
    shown = {path: told("-t", "-f", path) for path in (arena, slab)}
    assert "inside blocks of malloc" in shown[arena]
    assert "inside blocks of malloc" not in shown[slab]


@pytest.mark.skipif(shutil.which("rustc") is None, reason="no rustc")
@pytest.mark.parametrize("flags", [(), ("-O", "-C", "lto=fat", "-C", "strip=symbols")])
def test_a_global_allocator_of_rust(
    segment_dir: Path, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    built = tmp_path / "rust_heaps"
    command = ["rustc", "--edition=2021", "-g", *flags, "-o", str(built)]
    subprocess.run([*command, str(TARGETS / "rust_heaps.rs")], check=True, timeout=240)
    with Target([built], environment(segment_dir, rate=1)) as target:
        target.line()
        blocks, size, live_blocks, live_size = map(int, target.ask("vectors 500").split())
        counted = device_counted(target)
        assert blocks > 500
        assert counted.by_domain() == {"heap-rust": Tally(blocks, size, 0, live_blocks, live_size)}
        assert flags or any("collect" in name for s in counted.stacks for name in s.names)
        target.finish()


_PYTHON = """
import mmap, sys
from mem_profiler.heaps import Heap

def load_frame(heap, at):
    heap.report_allocation(at, 1000)

heap = Heap("frames ../ " + 50 * "x", exact=True, own_pages=True)
other = Heap("arena", exact=True, arena=True)
if "ctypes" in sys.modules: print("ctypes", flush=True)
for at in range(0x10000, 0x10000 + 40 * 4096, 4096):
    load_frame(heap, at)
    other.report_allocation(at, 1)
for at in range(0x10000, 0x10000 + 10 * 4096, 4096):
    heap.report_free(at)
heap.report_resize(0x10000 + 39 * 4096, 0x900000, 500)
other.reset()
print("done", flush=True)
sys.stdin.read()
"""


def test_the_face_of_python(segment_dir: Path) -> None:
    env = environment(segment_dir, rate=1) | command_environment()
    with Target([sys.executable, "-c", _PYTHON], env) as target:
        assert [target.line(), target.line()] == ["ctypes", "done"]
        counted = device_counted(target)
        frames = f"heap-frames_____{28 * 'x'}"
        assert counted.by_domain() == {
            frames: Tally(41, 40500, 0, 30, 29500),
            "heap-arena": Tally(40, 40, 0, 0, 0),
        }
        target.finish()


def test_without_a_sampler_the_face_of_python_loads_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PYTHON], env=command_environment(), capture_output=True,
        input=b"", timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout == b"done\n"


def test_blocks_that_python_reports_are_those_of_its_functions(
    segment_dir: Path, tmp_path: Path
) -> None:
    command_ok("run", "-o", tmp_path / "p", "--", sys.executable, "-c", _PYTHON)
    [frames] = tmp_path.glob("p.*.heap-frames*.heap")
    table = told("-t", "--alloc", "-f", frames)
    [first] = [line for line in table.splitlines() if "load_frame" in line]
    assert first.split()[:2] == ["39.06", "KiB"]
