"""Stacks through code without unwind tables, and through programs whose segments lie far apart."""

import functools
import itertools
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from attach_run import Unprepared
from c_build import BUILD
from controller_tools import command_ok
from mem_parser.libraries.mark import mark_libraries
from mem_parser.libraries.rules import Libraries
from mem_parser.model import Count, Profile
from mem_parser.readers import read_profile
from mem_parser.reports.aggregate import rows_of, sum_stacks
from mem_parser.symbols.elf import ElfImage
from mem_parser.symbols.symbolizer import symbolize
from mem_profiler.attach.images import images_of, program_of
from mem_profiler.attach.memory import Memory
from mem_profiler.process import procfs
from sampler_run import Counted, Target, build, environment, run

pytestmark = [pytest.mark.usefixtures("sampler"), pytest.mark.timeout(300)]
LIMIT_S = 240

JAVASCRIPT = """
function makeBuffer(i) { return new Uint8Array(70000 + i % 7); }
function handleRequest(i) { return makeBuffer(i).length; }
function serve(n) { let s = 0; for (let i = 0; i < n; i++) s += handleRequest(i); return s; }
console.log(serve(2000));
"""
JAVA = """
import java.nio.ByteBuffer;
public class Serving {
    static ByteBuffer[] kept = new ByteBuffer[64];
    static void makeBuffer(int i) { kept[i % 64] = ByteBuffer.allocateDirect(70000 + i % 7); }
    static void handleRequest(int i) { makeBuffer(i); }
    static void serve(int n) { for (int i = 0; i < n; i++) handleRequest(i); }
    public static void main(String[] words) { serve(1000); }
}
"""
GO = """
package main

// #include <stdlib.h>
import "C"
import "unsafe"

//go:noinline
func makeBuffer(i int) unsafe.Pointer { return C.malloc(C.size_t(70000 + i%7)) }

//go:noinline
func handleRequest(i int) { C.free(makeBuffer(i)) }

//go:noinline
func serve(n int) {
	for i := 0; i < n; i++ {
		handleRequest(i)
	}
}

func main() {
	done := make(chan bool)
	go func() { serve(1000); done <- true }()
	serve(1000)
	<-done
}
"""
CSHARP = """
using System; using System.Runtime.InteropServices; using System.Runtime.CompilerServices;
class Serving {
  [MethodImpl(MethodImplOptions.NoInlining)]
  static IntPtr MakeBuffer(int i) { return Marshal.AllocHGlobal(70000 + i % 7); }
  [MethodImpl(MethodImplOptions.NoInlining)]
  static void HandleRequest(int i) { Marshal.FreeHGlobal(MakeBuffer(i)); }
  static void Main() { for (int i = 0; i < 2000; i++) HandleRequest(i); }
}
"""
GREENLETS = """
import ctypes, greenlet
malloc, free = ctypes.CDLL(None).malloc, ctypes.CDLL(None).free
malloc.restype = free.argtypes = None
malloc.restype, free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def deeper(n, main):
    if n:
        return [deeper(n - 1, main) for _ in (0,)]
    for i in range(20):
        free(malloc(70000))
        main.switch()
def serve():
    main = greenlet.getcurrent()
    workers = [greenlet.greenlet(lambda n=n: deeper(n, main)) for n in range(20)]
    while any(not w.dead for w in workers):
        for w in workers:
            if not w.dead: w.switch()
serve()
"""


ADDON = """
#include <node_api.h>
#include <stdlib.h>
static napi_value keep(napi_env env, napi_callback_info info) {
    *(void *volatile *)malloc(sizeof(void *)) = calloc(1, 300000);
    (void)env, (void)info;
    return NULL;
}
NAPI_MODULE_INIT() {
    napi_value f;
    napi_create_function(env, "keep", NAPI_AUTO_LENGTH, keep, NULL, &f);
    return f;
}
"""
JNI = """
#include <jni.h>
#include <stdlib.h>
static void *volatile kept;
JNIEXPORT void JNICALL Java_Mixed_keep(JNIEnv *env, jclass type) {
    kept = calloc(1, 300000);
    (void)env, (void)type;
}
"""
MIXED_JAVASCRIPT = """
const keep = require("./addon.node");
const kept = [];
function makeBuffer() { kept.push(new Uint8Array(200000)); }
for (let i = 0; i < 200; i++) { keep(); makeBuffer(); }
"""
MIXED_JAVA = """
public class Mixed {
    static java.nio.ByteBuffer[] kept = new java.nio.ByteBuffer[200];
    static native void keep();
    static void makeBuffer(int i) { kept[i] = java.nio.ByteBuffer.allocateDirect(200000); }
    public static void main(String[] words) {
        System.load(words[0]);
        for (int i = 0; i < 200; i++) { keep(); makeBuffer(i); }
    }
}
"""


def need(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def captured(folder: Path, *words: object, unwinder: str = "") -> Profile:
    """The profile of a program, from its start to its end: each large block is sampled."""
    variables = {"MEM_PROFILER_UNWIND": unwinder} if unwinder else {}
    prefix = folder / f"x{unwinder}"
    command_ok("run", "-c", "4K", "-o", prefix, "--", *words, variables=variables, cwd=folder)
    [path] = folder.glob(f"{prefix.name}.*.heap")
    profile = read_profile(path)
    Path(f"/tmp/perf-{profile.capture.pid}.map").unlink(missing_ok=True)
    return profile


def large(profile: Profile) -> np.ndarray:
    """Which sites have the blocks of `makeBuffer`."""
    sites = profile.sites
    each = sites.alloc_bytes / np.maximum(sites.alloc_blocks, 1)
    return np.asarray((each >= 69000) & (each < 72000))


def share_ended_early(profile: Profile) -> float:
    """The share of these blocks whose stack ended early."""
    wanted = large(profile)
    early = (profile.stacks.flags[profile.sites.stack] & 2) != 0
    blocks = profile.sites.alloc_blocks
    return float(blocks[wanted & early].sum() / blocks[wanted].sum())


def callers(profile: Profile) -> dict[tuple[str, ...], int]:
    """Blocks by the names of their stack, innermost first."""
    symbols = symbolize(profile)
    found: dict[tuple[str, ...], int] = {}
    sites = profile.sites
    for k in np.flatnonzero(large(profile)).tolist():
        stack = int(sites.stack[k])
        spelled = slice(symbols.offsets[stack], symbols.offsets[stack + 1])
        places = symbols.locations_of_stack[spelled].tolist()
        names = tuple(symbols.functions[symbols.locations[p].function].name for p in places)
        found[names] = found.get(names, 0) + int(sites.alloc_blocks[k])
    return found


def has_in_order(names: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
    rest = iter(names)
    return all(any(name == one for name in rest) for one in wanted)


def share_through(profile: Profile, *wanted: str) -> float:
    """The share of these blocks whose stack goes through all these functions, innermost first."""
    found = callers(profile)
    through = sum(n for names, n in found.items() if has_in_order(names, wanted))
    return through / sum(found.values())


def test_functions_of_node_are_in_its_stacks_by_name(tmp_path: Path) -> None:
    need("node")
    (tmp_path / "serving.js").write_text(JAVASCRIPT)
    words = ("node", "--perf-basic-prof", "--interpreted-frames-native-stack",
             "--no-opt", "--no-sparkplug", "serving.js")  # fmt: skip
    profile = captured(tmp_path, *words)
    assert share_ended_early(profile) < 0.01
    assert share_through(profile, "makeBuffer", "handleRequest", "serve") > 0.9
    assert share_ended_early(captured(tmp_path, *words, unwinder="cfi")) > 0.9


def test_functions_of_a_jvm_are_in_its_stacks_by_name(tmp_path: Path) -> None:
    need("java", "javac")
    (tmp_path / "Serving.java").write_text(JAVA)
    subprocess.run(["javac", "Serving.java"], cwd=tmp_path, check=True, timeout=LIMIT_S)
    profile = captured(
        tmp_path, "java", "-Xmx256m", "-XX:+PreserveFramePointer", "-Xcomp", "-Xbatch",
        "-XX:CompileCommand=quiet", "-XX:CompileCommand=compileonly,Serving.*",
        "-XX:CompileCommand=dontinline,Serving.*", "-XX:+UnlockDiagnosticVMOptions",
        "-XX:+DumpPerfMapAtExit", "-cp", ".", "Serving",
    )  # fmt: skip
    assert share_ended_early(profile) < 0.01
    wanted = ("Serving.makeBuffer", "Serving.handleRequest", "Serving.serve", "Serving.main")
    assert share_through(profile, *wanted) > 0.9


def test_go_functions_that_call_c_are_followed_from_the_threads_stack_to_the_goroutines(
    tmp_path: Path,
) -> None:
    need("go", "gcc")
    (tmp_path / "main.go").write_text(GO)
    variables = os.environ | {
        "GO111MODULE": "off", "GOCACHE": str(BUILD / "go-cache"), "GOFLAGS": "", "CGO_ENABLED": "1",
    }  # fmt: skip
    build = ["go", "build", "-o", "serving", "main.go"]
    subprocess.run(build, cwd=tmp_path, env=variables, check=True, timeout=LIMIT_S)
    profile = captured(tmp_path, "./serving")
    assert share_ended_early(profile) < 0.01
    assert share_through(profile, "main.makeBuffer", "main.handleRequest", "main.serve") == 1.0
    assert share_through(profile, "main.serve", "main.main") == pytest.approx(0.5, abs=0.01)


def test_methods_of_mono_are_followed_to_the_programs_start(tmp_path: Path) -> None:
    need("mcs", "mono")
    (tmp_path / "serving.cs").write_text(CSHARP)
    subprocess.run(["mcs", "serving.cs"], cwd=tmp_path, check=True, timeout=LIMIT_S)
    assert share_ended_early(captured(tmp_path, "mono", "serving.exe")) < 0.01
    assert share_ended_early(captured(tmp_path, "mono", "serving.exe", unwinder="cfi")) > 0.9


def test_a_greenlets_stack_ends_where_it_was_entered_and_has_no_frame_that_is_no_code(
    tmp_path: Path,
) -> None:
    pytest.importorskip("greenlet", reason="greenlet is not installed")
    (tmp_path / "serving.py").write_text(GREENLETS)
    profile = captured(tmp_path, sys.executable, "serving.py")
    stacks = profile.stacks
    inside = np.zeros(len(stacks.frames), dtype=np.bool_)
    for module in profile.modules:
        for part in module.ranges:
            inside |= (stacks.frames > part.start) & (stacks.frames <= part.end)
    assert (inside | stacks.is_leaf).all()
    # words of other greenlets lie beyond: each would make a stack of its own
    assert large(profile).sum() < 200


def most_own(profile: Profile) -> list[str]:
    """The two functions with most bytes of their own."""
    symbols = mark_libraries(profile, symbolize(profile), Libraries())
    rows = rows_of(sum_stacks(profile, symbols, count=Count.ALLOC))
    return [row.name for row in sorted(rows, key=lambda row: -row.flat.value)][:2]


def library(folder: Path, name: str, source: str, *words: str) -> None:
    (folder / "x.c").write_text(source)
    build = ["gcc", "-O1", "-g", "-shared", "-fPIC", *words, "-o", name, "x.c"]
    subprocess.run(build, cwd=folder, check=True, timeout=LIMIT_S)


def test_memory_of_node_counts_for_an_addon_and_for_functions_of_javascript(tmp_path: Path) -> None:
    need("node", "gcc")
    said = subprocess.run(
        ["node", "-p", "process.execPath"], check=True, timeout=LIMIT_S, stdout=subprocess.PIPE
    )
    headers = Path(os.fsdecode(said.stdout).strip()).parent.parent / "include/node"
    if not (headers / "node_api.h").exists():
        pytest.skip("node's headers are not installed")
    library(tmp_path, "addon.node", ADDON, f"-I{headers}")
    (tmp_path / "mixed.js").write_text(MIXED_JAVASCRIPT)
    profile = captured(
        tmp_path, "node", "--perf-basic-prof", "--interpreted-frames-native-stack", "--no-opt",
        "mixed.js",
    )  # fmt: skip
    assert most_own(profile) == ["keep", "makeBuffer"]


def test_memory_of_a_jvm_counts_for_its_jni_library_and_for_methods_of_java(tmp_path: Path) -> None:
    need("java", "javac", "gcc")
    home = Path(str(shutil.which("javac"))).resolve().parent.parent
    library(tmp_path, "libmixed.so", JNI, f"-I{home}/include", f"-I{home}/include/linux")
    (tmp_path / "Mixed.java").write_text(MIXED_JAVA)
    subprocess.run(["javac", "Mixed.java"], cwd=tmp_path, check=True, timeout=LIMIT_S)
    words = ("-Xmx256m", "-XX:+PreserveFramePointer", "-cp", ".", "Mixed", tmp_path / "libmixed.so")
    profile = captured(
        tmp_path, "java", "-Xcomp", "-Xbatch", "-XX:CompileCommand=quiet",
        "-XX:CompileCommand=compileonly,Mixed.*", "-XX:CompileCommand=dontinline,Mixed.*",
        "-XX:+UnlockDiagnosticVMOptions", "-XX:+DumpPerfMapAtExit", *words,
    )  # fmt: skip
    assert most_own(profile) == ["Java_Mixed_keep", "Mixed.makeBuffer"]
    for path in tmp_path.glob("x*.heap"):
        path.unlink()
    unnamed = captured(tmp_path, "java", *words)
    assert most_own(unnamed) == ["Java_Mixed_keep", "Unsafe_AllocateMemory0"]


def test_mappings_of_a_jvm_count_for_its_java_heap_metaspace_and_code_cache(tmp_path: Path) -> None:
    need("java", "javac")
    (tmp_path / "Serving.java").write_text(JAVA)
    subprocess.run(["javac", "Serving.java"], cwd=tmp_path, check=True, timeout=LIMIT_S)
    command_ok(
        "run", "--device", "mmap", "-o", "x", "--", "java", "-XX:+UseG1GC", "-Xms64m", "-Xmx64m",
        "-cp", ".", "Serving", cwd=tmp_path,
    )  # fmt: skip
    found: Counter[str] = Counter()
    for domain in ("mmap", "mmap-reserved"):
        [path] = tmp_path.glob(f"x.*.{domain}.heap")
        profile = read_profile(path)
        symbols = mark_libraries(profile, symbolize(profile), Libraries())
        for row in rows_of(sum_stacks(profile, symbols, count=Count.ALLOC)):
            found[row.name.partition("::")[0].removeprefix("G1")] += int(row.flat.value)
    assert found["HeapRegionManager"] >= 64 << 20
    assert found["Metaspace"] and found["CodeHeap"]


GUEST_ROOM_BYTES = 1 << 20
"""Of a hole that holds the guest with room to spare."""
FAR = ("-Wl,-z,max-page-size=0x200000",)
FIXED, MOVABLE = ("-no-pie", "-fno-pie"), ("-pie", "-fPIE")
LAYOUTS = {
    "bfd": ("-fuse-ld=bfd", *FAR, "-Wl,-z,separate-code"),
    "bfd-together": ("-fuse-ld=bfd", *FAR, "-Wl,-z,noseparate-code"),
    "gold": ("-fuse-ld=gold", *FAR),
    "gold-apart": ("-fuse-ld=gold", *FAR, "-Wl,--rosegment"),
    "lld": ("-fuse-ld=lld", *FAR),
    "lld-apart": ("-fuse-ld=lld", *FAR, "-Wl,-z,separate-code"),
    "mold": ("-fuse-ld=mold", *FAR),
    "mold-apart": ("-fuse-ld=mold", *FAR, "-Wl,-z,separate-code"),
}
OWN = ["malloc", "inner", "middle", "outer", "allocate", "main"]
CALLED_BACK = ["malloc", "inner", "called_back", "guest", "allocate", "main"]
GUESTS = ["malloc", "guest_block", "guest", "allocate", "main"]
STARTED = "_start"
LIBGCC = Path("libgcc_s.so.1")


@dataclass(frozen=True)
class Built:
    """A program and the guest for one of its holes; `prefix` keeps the program where it is."""

    program: Path
    guest: Path
    prefix: tuple[str, ...]

    def command(self, *arguments: str) -> list[str | Path]:
        return [*self.prefix, self.program, *arguments]


@functools.cache
def built(layout: str, kind: str) -> Built:
    """Link the program in one layout, and a guest that prefers an address in its largest hole."""
    linker = LAYOUTS[layout][0].removeprefix("-fuse-ld=")
    if shutil.which(f"ld.{linker}") is None:
        pytest.skip(f"the linker {linker} is not installed")
    flags = (*LAYOUTS[layout], *(FIXED if kind == "fixed" else MOVABLE))
    program = build("holes.c", *flags, "-Wl,--build-id", out=f"holes-{layout}-{kind}")
    prefix = () if kind == "fixed" else ("setarch", "-R")
    base = int(run([*prefix, program], {}).stdout, 16)
    hole = base + hole_in(program)
    place = f"-Wl,-Ttext-segment={hole:#x}"
    shared = ("-shared", "-fPIC", "-fuse-ld=bfd", "-Wl,-z,noseparate-code", place)
    return Built(program, build("holes_guest.c", *shared, out="holes_guest.so"), prefix)


def hole_in(program: Path) -> int:
    """Where a hole begins between the segments, counted from the ELF header, a page after its
    begin.
    """
    segments = sorted(ElfImage.open(str(program)).segments, key=lambda s: s.vaddr)
    header = next(s.vaddr for s in segments if s.offset == 0)
    for before, after in itertools.pairwise(segments):
        end = before.vaddr + before.mem_size + 0xFFFF & ~0xFFFF
        if after.vaddr - end >= GUEST_ROOM_BYTES:
            return end - header
    pytest.skip("this linker leaves no hole in this layout")


def stacks_of(counted: Counted) -> set[tuple[str, ...]]:
    """The stacks of the program's own blocks, without what glibc has between main and _start."""
    return {tuple(s.names) for s in counted.stacks if "allocate" in s.names}


def check(stacks: set[tuple[str, ...]]) -> None:
    """All three paths are there, each down to the outermost frame."""
    for wanted in (OWN, CALLED_BACK, GUESTS):
        found = [stack for stack in stacks if list(stack[: len(wanted)]) == wanted]
        assert found, (wanted, stacks)
        assert all(stack[-1] == STARTED for stack in found), found


def named(path: Path) -> set[tuple[str, ...]]:
    """The stacks of a file, as the parser names them."""
    profile = read_profile(str(path))
    symbols = symbolize(profile)
    assert not symbols.problems
    functions = [symbols.functions[place.function].name for place in symbols.locations]
    spelled, bounds = symbols.locations_of_stack.tolist(), symbols.offsets.tolist()
    names = (tuple(functions[k] for k in spelled[a:b]) for a, b in itertools.pairwise(bounds))
    # The first frames are those of the sampler's own hook, as its debug information has them.
    return {stack[stack.index("malloc") :] for stack in names if "allocate" in stack}


KINDS = ("fixed", "movable")
every = pytest.mark.parametrize(("layout", "kind"), [*itertools.product(LAYOUTS, KINDS)])
# Each layout in one kind, each kind in several layouts; all of them in `make soak`.
some = pytest.mark.parametrize(
    ("layout", "kind"),
    [
        pytest.param(layout, kind, marks=[pytest.mark.soak] if (n + k) % 2 else [])
        for n, layout in enumerate(("bfd", "gold-apart", "lld", "mold"))
        for k, kind in enumerate(KINDS)
    ],
)


@every
def test_stacks_through_a_hole_are_whole_and_equal_to_those_of_libgcc(
    segment_dir: Path, tmp_path: Path, layout: str, kind: str
) -> None:
    made = built(layout, kind)
    found = []
    for unwinder in ("cfi", "libgcc"):
        own = segment_dir / unwinder
        own.mkdir(mode=0o700)
        command = made.command("run", str(made.guest))
        variables = environment(own, rate=1, preload=[LIBGCC], unwind=unwinder)
        with Target(command, variables) as target:
            assert target.line() == "inside"
            target.finish()
        counted = target.counted()
        program = next(m for m in counted.modules if Path(m.path) == made.program)
        assert program.build_id == ElfImage.open(str(made.program)).build_id
        found.append(stacks_of(counted))
    check(found[0])
    assert found[0] == found[1]


@some
def test_a_captured_run_names_every_frame(
    segment_dir: Path, tmp_path: Path, layout: str, kind: str
) -> None:
    made = built(layout, kind)
    command = made.command("run", str(made.guest))
    command_ok("run", "-c", 1, "-o", tmp_path / "p", "--", *command, input="")
    [path] = [p for p in tmp_path.glob("p*.heap") if "holes" in p.read_text(errors="replace")]
    check(named(path))


@some
def test_an_attached_program_with_something_in_its_holes_is_named_and_let_go(
    segment_dir: Path, tmp_path: Path, layout: str, kind: str
) -> None:
    made = built(layout, kind)
    with Unprepared(made.command("storm", str(made.guest)), segment_dir) as target:
        assert target.line() == "inside"
        command_ok("doctor", target.pid)
        command_ok("-s", 0.3, "-c", 64, "-p", target.pid, "-o", tmp_path / "p")
        target.finish()
    [path] = tmp_path.glob("p*.heap")
    check(named(path))


@every
def test_the_attaching_side_sees_each_image_whole_and_apart(
    tmp_path: Path, layout: str, kind: str
) -> None:
    made = built(layout, kind)
    with Unprepared(made.command("run", str(made.guest)), tmp_path) as target:
        assert target.line() == "inside"
        mappings = procfs.maps(target.pid)
        with Memory(target.pid) as memory:
            images = images_of(mappings, memory)
            program = program_of(target.pid, images)
            guest = next(i for i in images if i.path == str(made.guest))
            assert [s.address for s in guest.find("guest")] != []
        target.finish()
    assert program.mappings == [m for m in mappings if m.path == str(made.program)]
    assert program.start < guest.start < guest.end < program.end
    assert all(b <= guest.start or guest.end <= a for a, b in program.runs)
    for image in (program, guest):
        assert image.build_id.hex() == ElfImage.open(image.path).build_id
        assert [s.executable for s in image.segments].count(True) == 1
        assert all(image.run_at(s.start) != (0, 0) for s in image.segments)


def foreign_profile(made: Built, tmp_path: Path) -> Path:
    """A profile as gperftools writes one: addresses and /proc/PID/maps, no build-id."""
    with Unprepared(made.command("run", str(made.guest)), tmp_path) as target:
        assert target.line() == "inside"
        maps = Path(f"/proc/{target.pid}/maps").read_text()
        target.finish()
    bias = _bias(made.program, maps)
    frames = [_address(made.program, name) + bias + 5 for name in ("inner", "main")]
    stack = " ".join(f"{at:#x}" for at in frames)
    path = tmp_path / "foreign.heap"
    path.write_text(
        f"heap profile: 1: 10 [1: 10] @ heapprofile\n1: 10 [1: 10] @ {stack}\n\n"
        f"MAPPED_LIBRARIES:\n{maps}"
    )
    return path


def _bias(program: Path, maps: str) -> int:
    first = re.search(rf"^([0-9a-f]+)-\S+ \S+ 0+ .* {re.escape(str(program))}$", maps, re.MULTILINE)
    header = next(s.vaddr for s in ElfImage.open(str(program)).segments if s.offset == 0)
    return int(first[1], 16) - header


def _address(program: Path, name: str) -> int:
    text = subprocess.run(["nm", program], capture_output=True, text=True, check=True, timeout=60)
    [line] = [line for line in text.stdout.splitlines() if line.split()[-1] == name]
    return int(line.split()[0], 16)


@some
def test_profiles_of_other_tools_match_the_file_by_its_mappings(
    tmp_path: Path, layout: str, kind: str
) -> None:
    profile = read_profile(str(foreign_profile(built(layout, kind), tmp_path)))
    symbols = symbolize(profile)
    names: Sequence[str] = [function.name for function in symbols.functions]
    assert not symbols.problems
    assert {"inner", "main"} <= set(names)
