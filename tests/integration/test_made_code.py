"""Stacks through code without unwind tables: what runtimes make as they run, assembly, Go.

Every program allocates in `makeBuffer`, called by `handleRequest`, called by `serve`, or what these
are called in its language.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from c_build import BUILD
from controller_tools import run_command
from mem_parser.libraries.mark import mark_libraries
from mem_parser.libraries.rules import Libraries
from mem_parser.model import Count, Profile
from mem_parser.readers import read_profile
from mem_parser.reports.aggregate import rows_of, sum_stacks
from mem_parser.symbols.symbolizer import symbolize

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
    done = run_command(
        "run", "-c", "4K", "-o", prefix, "--", *words, variables=variables, cwd=folder
    )
    assert done.returncode == 0, done.stdout + done.stderr
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
    done = run_command(
        "run", "--device", "mmap", "-o", "x", "--", "java", "-XX:+UseG1GC", "-Xms64m", "-Xmx64m",
        "-cp", ".", "Serving", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found: Counter[str] = Counter()
    for domain in ("mmap", "mmap-reserved"):
        [path] = tmp_path.glob(f"x.*.{domain}.heap")
        profile = read_profile(path)
        symbols = mark_libraries(profile, symbolize(profile), Libraries())
        for row in rows_of(sum_stacks(profile, symbols, count=Count.ALLOC)):
            found[row.name.partition("::")[0].removeprefix("G1")] += int(row.flat.value)
    assert found["HeapRegionManager"] >= 64 << 20
    assert found["Metaspace"] and found["CodeHeap"]
