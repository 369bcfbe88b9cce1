"""CUDA memory: what the profile says and what the driver's ledger says, byte for byte.

Model: a stub of the driver, built against NVIDIA's published headers, gives addresses and writes
down what it truly gave and took. Programs reach it by their own references, by dlsym and
cuGetProcAddress as the runtime does, or through a stub of the runtime, shared and static.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from c_build import BUILD, ROOT, compile_program
from device_run import DeviceCounted, Tally, device_counted, only_device_counted
from sampler_run import Target, environment
from stub_driver import FLAGS, App, library

nvidia = pytest.importorskip("nvidia", reason="the package nvidia-cuda-runtime-cu12 is absent")
HEADERS = Path(next(iter(nvidia.__path__))) / "cuda_runtime" / "include"
STUBS = ROOT / "tests" / "stubs" / "cuda"
INCLUDES = (f"-I{STUBS}", f"-I{HEADERS}")
MIB = 1 << 20


@pytest.fixture(scope="session")
def drivers() -> dict[str, Path]:
    """Folders with a stub driver and a stub runtime each: today's, an old one, a secretive one."""
    variants = {"new": (), "old": ("-DOLD_DRIVER",), "secretive": ("-DSECRETIVE",)}
    folders = {name: BUILD / f"cuda-{name}" for name in variants}
    for name, flags in variants.items():
        library(folders[name], "libcuda.so.1", STUBS / "driver.c", *INCLUDES, *flags)
        library(folders[name], "libcudart.so.12", STUBS / "runtime.c", *INCLUDES)
    return folders


def program(way: str, folder: Path) -> tuple[str | Path, ...]:
    """The command of the program that reaches the driver in a certain way."""
    app, flags = STUBS / "app.c", (*FLAGS, *INCLUDES)
    if way == "linked":
        libs = (str(folder / "libcuda.so.1"),)
        return compile_program(app, (*flags, "-DLINKED"), name="cuda-linked", libs=libs), "linked"
    if way == "shared runtime":
        libs = (str(folder / "libcudart.so.12"),)
        return (compile_program(app, (*flags, "-DRUNTIME"), name="cuda-runtime", libs=libs),)
    if way == "static runtime":
        sources = [app, STUBS / "runtime.c"]
        flags = (*flags, "-DRUNTIME", "-DSTATIC_RUNTIME")
        return (compile_program(sources, flags, name="cuda-static"),)
    built = compile_program(app, flags, name="cuda-lookup")
    return built, "lookup", "2" if way == "per thread" else "0"


def agree(app: App) -> DeviceCounted:
    """Compare profile and ledger, refusals too, and return the profile."""
    counted = device_counted(app)
    check(counted, app)
    return counted


def check(counted: DeviceCounted, app: App) -> None:
    """What was given and taken agrees in each domain; `taken` is not in the ledger."""
    found = {name: replace(tally, taken=0) for name, tally in counted.by_domain().items()}
    true = app.ledger().tallies
    assert {n: t for n, t in found.items() if t != Tally()} == dict(true)
    assert counted.lost == {}


Start = Callable[..., App]


@pytest.fixture
def start(segment_dir: Path, drivers: dict[str, Path]) -> Start:
    """Start a program on a stub driver with the sampler in it."""

    def run(way: str, driver: str = "new", **variables: str) -> App:
        variables["LD_LIBRARY_PATH"] = str(drivers[driver])
        device = variables.pop("device", "cuda")
        return App(program(way, drivers[driver]), segment_dir, variables=variables, device=device)

    return run


WAYS = ["linked", "lookup", "per thread"]
SCRIPT = [
    "context 0 1", "alloc 1 1000", "alloc 2 5000", "free 1", "null", "pitch 3 1000 10",
    "managed 4 70000", "host 5 3000", "hostalloc 6 4000", "freehost 5", "register 7 8192",
    "array 8 100 50", "array3d 9 16 16 4 0", "array3d 10 64 64 64 64", "async 11 9000 0",
    "async 12 9100 3", "pooled 13 700 3", "freeasync 11 0", "alloc 14 999999999", "free 2",
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_every_kind_of_memory_agrees_with_the_ledger(start: Start, way: str) -> None:
    with start(way) as app:
        answers = app.do(*SCRIPT)
        assert [k for k, answer in enumerate(answers) if answer] == [18]
        counted = agree(app)
        assert set(counted.domains) == {"cuda-1", "cuda-1-managed", "cuda-pinned"}
        assert counted.apis()["cuMemAllocPitch_v2"].taken == 1024 * 10
        assert counted.apis()["cuMemAlloc_v2"].failed_bytes == 999999999
        actual = counted.domains["cuda-1"].actual
        assert actual is not None
        assert actual.total_bytes == 64 * MIB
        app.do("unregister 7", "freearray 8", "freehost 6", "free 4")
        agree(app)


def test_refused_frees_are_put_back(start: Start) -> None:
    with start("linked", STUB_FAIL="cuMemFree_v2:1,cuMemRelease:1,cuMemFreeAsync:1") as app:
        app.do("context 0 0", "alloc 1 4096", "create 2 2097152 0", "async 3 512 0")
        assert 0 not in app.do("free 1", "release 2", "freeasync 3 0")
        assert agree(app).total("cuda-0").live_blocks == 3
        assert app.do("free 1", "release 2", "freeasync 3 0") == [0, 0, 0]
        assert agree(app).total("cuda-0").live_blocks == 0


def test_a_call_without_a_context_is_no_shortage(start: Start) -> None:
    with start("linked") as app:
        assert app.do("alloc 1 4096") == [201]
        assert agree(app).by_domain() == {}


@pytest.mark.parametrize("way", ["lookup", "per thread"])
def test_what_a_graph_records_is_no_memory(start: Start, way: str) -> None:
    with start(way) as app:
        app.do("context 0 0", "async 1 4096 4", "capture 4", "async 2 8192 4", "freeasync 1 4")
        app.do("endcapture 4")
        assert agree(app).total().live_bytes == 4096


def test_contexts_take_their_memory_with_them(start: Start) -> None:
    with start("linked", STUB_FAIL="cuCtxDestroy_v2:1") as app:
        app.do("context 0 0", "alloc 1 1000", "array 2 8 8", "register 3 4096", "async 4 50 0")
        app.do("context 5 1", "alloc 6 2000", "use 0")
        assert app.do("destroy 0") != [0]
        assert agree(app).total("cuda-0").live_blocks == 3
        app.do("destroy 0")
        counted = agree(app)
        assert counted.total("cuda-0").live_bytes == 50
        assert counted.total("cuda-1").live_bytes == 2000


def test_primary_contexts_end_with_their_last_user(start: Start) -> None:
    with start("lookup") as app:
        app.do("primary 0 0", "primary 1 0", "use 0", "alloc 2 1000", "unprimary 0")
        assert agree(app).total().live_blocks == 1
        app.do("unprimary 0")
        assert agree(app).total().live_blocks == 0
        app.do("primary 0 0", "use 0", "alloc 2 1000", "reset 0")
        assert agree(app).total().live_blocks == 0


def test_physical_memory_lives_as_long_as_something_refers_to_it(start: Start) -> None:
    size = 2 * MIB
    with start("lookup") as app:
        app.do("context 0 0", f"create 1 {size} 1", f"reserve 2 {4 * size}", "import 8")
        app.do(f"map 2 {size} 1", "release 1", "retain 3 2", f"unmap 2 {size}", "release 8")
        counted = agree(app)
        assert counted.total("cuda-1").live_bytes == size
        app.do("release 3", f"create 4 {size} -1", f"create 5 {128 * MIB} 0")
        counted = agree(app)
        assert counted.total("cuda-1").live_bytes == 0
        assert counted.total("cuda-pinned").live_bytes == size
        assert counted.total("cuda-0").failed_bytes == 128 * MIB


@pytest.mark.parametrize("seed", range(4))
def test_random_lives_agree_with_the_ledger(start: Start, seed: int) -> None:
    """References to physical memory come and go in any order; wrong ones are refused."""
    chance = random.Random(seed)
    size = 2 * MIB
    with start("lookup") as app:
        app.do("context 0 0", f"reserve 50 {size}", f"reserve 51 {size}", f"reserve 52 {size}")
        for _ in range(120):
            handle, place = chance.randrange(1, 9), chance.randrange(50, 53)
            app.do(
                chance.choice(
                    [
                        f"create {handle} {size} {chance.randrange(2)}",
                        f"release {handle}", f"map {place} {size} {handle}",
                        f"unmap {place} {size}", f"retain {handle} {place}",
                        f"alloc {handle + 20} {chance.randrange(1, 9000)}", f"free {handle + 20}",
                    ]
                )
            )  # fmt: skip
        agree(app)


@pytest.mark.parametrize("driver", ["new", "old", "secretive"])
@pytest.mark.parametrize("way", ["shared runtime", "static runtime"])
def test_the_runtime_gives_names_and_the_driver_bytes(start: Start, way: str, driver: str) -> None:
    with start(way, driver) as app:
        app.do("malloc 1 4096", "malloc 2 5000", "cudafree 1", "mallochost 3 100")
        asynchronous = app.do("mallocasync 4 300 0")
        assert (asynchronous == [0]) == (driver != "old")
        counted = agree(app)
        name = "cudaMalloc" if way == "shared runtime" else "cuMemAlloc_v2"
        assert counted.apis()[name].live_bytes == 5000
        assert counted.by("runtime_line" if way == "shared runtime" else "cudaMalloc") != Tally()
        app.do("devicereset")
        agree(app)


def test_two_threads_on_one_address(start: Start) -> None:
    with start("linked") as app:
        app.do("context 0 0", "race 0 2000")
        assert agree(app).total("cuda-0").blocks == 4000


def test_a_killed_program_leaves_its_blocks(start: Start, segment_dir: Path) -> None:
    with start("lookup") as app:
        app.do("context 0 0", "alloc 1 7000", "alloc 2 8000", "free 1")
        app.tell("die")
        app.process.wait(timeout=30)
        counted = only_device_counted(segment_dir)
        check(counted, app)
        assert counted.total("cuda-0").live_bytes == 8000


def test_a_forked_child_does_not_count_here(start: Start) -> None:
    with start("lookup") as app:
        app.do("context 0 0", "alloc 1 7000")
        before = agree(app).by_domain()
        app.do("fork")
        assert device_counted(app).by_domain() == before


def test_nothing_is_seen_when_the_backend_is_off(start: Start, segment_dir: Path) -> None:
    with start("lookup", device="none") as app:
        app.do(*SCRIPT[:8])
        assert device_counted(app).by_domain() == {}


def test_types_and_signatures_are_those_of_the_headers(tmp_path: Path) -> None:
    """The rows are read once with our declarations and once with NVIDIA's."""
    structures = (
        "sizeof(CUDA_ARRAY_DESCRIPTOR)", "offsetof(CUDA_ARRAY_DESCRIPTOR, NumChannels)",
        "sizeof(CUDA_ARRAY3D_DESCRIPTOR)", "offsetof(CUDA_ARRAY3D_DESCRIPTOR, Flags)",
        "sizeof(CUmemAllocationProp)", "offsetof(CUmemAllocationProp, location.id)",
        "offsetof(CUmemAllocationProp, allocFlags)", "sizeof(CUipcMemHandle)",
        "sizeof(CUmemAllocationHandleType)", "sizeof(CUdriverProcAddressQueryResult)",
        "sizeof(struct cudaExtent)", "sizeof(cudaIpcMemHandle_t)",
    )  # fmt: skip
    shown = "".join(f'printf("{s} %zu\\n", {s});' for s in structures)
    answers = []
    for name, include in (("ours", "drivers/cuda/cuda_abi.h"), ("theirs", "cuda.h")):
        source = tmp_path / f"{name}.c"
        source.write_text(
            "#define __CUDA_API_VERSION_INTERNAL\n#include <stddef.h>\n#include <stdio.h>\n"
            f'#include "{include}"\n'
            + ('#include "cuda_runtime_api.h"\n' if name == "theirs" else "")
            + f"int main(void) {{ {shown} return 0; }}\n"
        )
        flags = (*FLAGS, *INCLUDES)
        done = subprocess.run(
            [compile_program(source, flags)], capture_output=True, check=True, timeout=30
        )
        answers.append(done.stdout)
    assert answers[0] == answers[1]
    signatures = tmp_path / "signatures.c"
    signatures.write_text(
        "#define __CUDA_API_VERSION_INTERNAL\n#include <cuda.h>\n#include <cuda_runtime_api.h>\n"
        '#include "drivers/cuda/cuda_rows.h"\n#include "drivers/cuda/cudart_rows.h"\n'
        "#define CHECK(role, result, name, params, args, ...) "
        "_Static_assert(__builtin_types_compatible_p(__typeof__(name), result params), #name);\n"
        "MP_CUDA_ROWS(CHECK)\n"
        "MP_CUDART_ROWS(CHECK)\nint main(void) { return 0; }\n"
    )
    compile_program(signatures, (*FLAGS, *INCLUDES))


def test_the_real_runtime_asks_through_us(segment_dir: Path, drivers: dict[str, Path]) -> None:
    """NVIDIA's own libcudart needs more of a driver than a stub has; its look-up is real."""
    source = STUBS / "real_runtime.c"
    runtime = HEADERS.parent / "lib" / "libcudart.so.12"
    built = compile_program(source, (*FLAGS, *INCLUDES), libs=(str(runtime),))
    env = environment(segment_dir, rate=1024, device="cuda")
    env["LD_LIBRARY_PATH"] = f"{runtime.parent}{os.pathsep}{drivers['new']}"
    with Target([built], env) as target:
        assert int(target.line()) != 0
        counted = device_counted(target)
        seen = counted.control["backend"][1]
        assert int(seen["calls"]) > 20
        assert int(seen["loaded"]) == 1
