"""Stacks through code without unwind tables: what runtimes make as they run, assembly, Go.

Every program allocates in `makeBuffer`, called by `handleRequest`, called by `serve`, or what these
are called in its language.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from c_build import BUILD
from controller_tools import run_command
from mem_parser.model import Profile
from mem_parser.readers import read_profile
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
