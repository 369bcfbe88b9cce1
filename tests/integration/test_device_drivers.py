"""Every driver through the same scenarios: what the profile says is what the stub's ledger says.

Model: a program on a stub of the driver (tests/stubs/) obeys lines. After each step of a scenario
profile and ledger must hold the same bytes in every domain, and what the step names. Scenarios that
differ by driver are rows of `CASES`; those that all drivers share are tests over `DRIVERS`.
"""

from __future__ import annotations

import os
import random
import signal
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from c_build import compile_program
from device_run import DeviceCounted, device_counted, only_device_counted
from sampler_run import Controller, Target, environment, segments
from stub_driver import (
    DRIVERS,
    FLAGS,
    STUBS,
    Driver,
    LateApp,
    Obeying,
    agrees,
    cuda_includes,
    cuda_libraries,
    cuda_toolkit,
)

KIB, MIB = 1 << 10, 1 << 20
PAGE = 2 * MIB
FLAG_SVM, FLAG_DEVICE, FLAG_HOST, FLAG_DVPP, FLAG_RESERVE, FLAG_UVM = (
    kind << 10 for kind in (0, 1, 2, 3, 5, 7)
)
HUGE_PAGES, GIANT_PAGES, MODULE = 1 << 17, 1 << 31, 33 << 56
NOT_SUPPORTED, OUT_OF_MEMORY = 207000, 207001


def driver_named(name: str) -> Driver:
    """The driver, or a skipped test."""
    driver = DRIVERS[name]
    if not driver.present:
        pytest.skip(f"{driver.needs} is absent")
    return driver


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> Driver:
    return driver_named(request.param)


def do(app: Obeying, lines: str) -> None:
    """Lines with a comma between; "!": refused; "N=": answers N, else 0."""
    for line in filter(None, (part.strip() for part in lines.split(","))):
        if line.startswith("!"):
            assert app.do(line[1:]) != [0], line
        else:
            before, equal, rest = line.partition("=")
            assert app.do(rest or before) == [int(before) if equal else 0], line


@dataclass(frozen=True)
class Step:
    """Lines, then what must be: live bytes by domain (of those that are named), and more."""

    lines: str
    live: dict[str, int] = field(default_factory=dict)
    domains: set[str] | None = None
    apis: set[str] | None = None
    refused: dict[str, int] = field(default_factory=dict)  # bytes by function
    taken: dict[str, int] = field(default_factory=dict)  # bytes by domain, or by function
    actual: dict[str, tuple[int | None, int]] = field(default_factory=dict)
    """Of a domain's device, as the driver says: bytes in use (None: any), and all."""

    def check(self, app: Obeying, driver: Driver) -> None:
        """Do it, and compare."""
        do(app, self.lines)
        counted = device_counted(app)
        agrees(app.ledger(), counted, refusals=not driver.hides_refusals)
        by_domain, apis = counted.by_domain(), counted.apis()
        assert {d: counted.total(d).live_bytes for d in self.live} == self.live
        assert self.domains in (None, {d for d, t in by_domain.items() if t.blocks})
        assert self.apis in (None, set(apis))
        named = {name: tally.failed_bytes for name, tally in apis.items() if tally.failed_bytes}
        assert not self.refused or named == self.refused
        assert {n: (by_domain | apis)[n].taken for n in self.taken} == self.taken
        for domain, (used, total) in self.actual.items():
            actual = counted.domains[domain].actual
            assert actual is not None
            assert (used or actual.used_bytes, total) == (actual.used_bytes, actual.total_bytes)


@dataclass(frozen=True)
class Case:
    """A scenario of one driver, by each of the ways and in each of the variants."""

    driver: str
    name: str
    steps: tuple[Step, ...]
    ways: tuple[str, ...] = ("",)
    variants: tuple[str, ...] = ("",)
    fail: str = ""
    variables: dict[str, str] = field(default_factory=dict)


def layers_of_hal(lines: str) -> tuple[Step, ...]:
    return (
        Step(lines,
             domains={"hal-0", "hal-1", "hal-pinned", "hal-0-managed"},
             apis={"aclrtMalloc", "aclrtMallocAlign32", "rtMalloc", "aclrtMallocHost",
                   "aclrtMemAllocManaged", "halMemAlloc", "halHostRegister"},
             live={"hal-pinned": 9400}),
    )  # fmt: skip


CUDA_KINDS = (
    "context 0 1, alloc 1 1000, alloc 2 5000, free 1, null, pitch 3 1000 10, managed 4 70000,"
    "host 5 3000, hostalloc 6 4000, freehost 5, register 7 8192, array 8 100 50,"
    "array3d 9 16 16 4 0, array3d 10 64 64 64 64, async 11 9000 0, async 12 9100 3,"
    "pooled 13 700 3, freeasync 11 0, !alloc 14 999999999, free 2"
)
RUNTIME_KINDS = (
    "malloc 1 1000, malloc 2 5000, cudafree 1, malloc 30 0, cudafree 30, mallocmanaged 3 70000,"
    "mallocpitch 4 1000 10, malloc3d 5 1000 10 2, mallochost 6 100, halloc 7 4000,"
    "hregister 8 8192, mallocarray 9 100 50 0, mallocarray 10 64 64 64, mallocasync 11 9000 0,"
    "mallocpool 12 700 3, record 4, mallocasync 13 8192 4, cudafreeasync 2 4, endrecord 4,"
    "record 2, ownasync 14 60, endrecord 2, ownasync 14 50, ownasync 15 70, ownfree 15, "
    "mallochost 16 10, cudafreehost 16, 2=malloc 17 999999999"
)
RUNTIME_NAMES = {
    "cudaMalloc", "cudaMallocManaged", "cudaMallocPitch", "cudaMalloc3D", "cudaMallocHost",
    "cudaHostAlloc", "cudaHostRegister", "cudaMallocArray", "cudaMallocAsync",
    "cudaMallocFromPoolAsync", "cudaMallocAsync_ptsz",
}  # fmt: skip
RUNTIME_STEPS = (
    Step(
        RUNTIME_KINDS,
        apis=RUNTIME_NAMES,
        refused={"cudaMalloc": 999999999},
        domains={"cuda-0", "cuda-0-managed", "cuda-pinned"},
        actual={"cuda-0": (None, 64 * MIB)},
        taken={"cudaMallocPitch": 1024 * 10, "cudaMalloc3D": 1024 * 20},
    ),
    Step("!cudafree 2", live={"cuda-0": 5000 + 30000 + 40000 + 9750}),
    Step(
        "cudafree 2, cudafree 3, hunregister 8, cudafreearray 9, cudafreehost 6, cudafreehost 7",
        live={"cuda-pinned": 0, "cuda-0-managed": 0, "cuda-0": 30000 + 9750},
    ),
    Step("devicereset", live={"cuda-0": 9750}),
)
CASES = (
    Case("hal", "each layer is counted once and named by the outermost",
         layers_of_hal(
             "set 0, malloc 0 1000, align32 1 2000000, rtmalloc 2 3000, host 3 400, managed 4 500,"
             f"hal 5 600 {FLAG_DEVICE | 1}, malloc 6 7000, free 6, rtmalloc 7 800, halfree 7,"
             "free 2, register 8 9000, rtmalloc 9 77"),
         ways=DRIVERS["hal"].ways, variants=("plain", "inner", "old")),
    Case("hal", "huge pages that are refused are no loss, and exhaustion is one",
         (Step("set 0, align32 0 3000000", live={"hal-0": 3000000}),
          Step(f"{OUT_OF_MEMORY}=align32 1 {65 * MIB}",
               refused={"aclrtMallocAlign32": 65 * MIB})),
         ways=("link", "local"), variables={"STUB_HUGE_BYTES": "0"}),
    Case("hal", "a driver without a function looks so",
         (Step(f"set 0, {NOT_SUPPORTED}=physical 0 {PAGE} 0, has halMemCreate,"
               "has halMemAllocInner, has halDeviceClose, has halMemMap, 1=has halMemAlloc,"
               "1=has drvDeviceClose"),),
         ways=DRIVERS["hal"].ways, variants=("old",)),
    Case("hal", "a refused free leaves the block in use",
         (Step(f"malloc 0 1000, create 1 {MIB} 1 0, !free 0, !release 1",
               live={"hal-0": 1056 + MIB}),
          Step("free 0, release 1", live={"hal-0": 0})),
         fail="halMemFree:1,halMemRelease:1"),
    Case("hal", "closing a device frees what it held",
         (Step("set 0, set 0, malloc 0 1000, managed 1 2000, host 2 3000,"
               f"hal 3 4000 {FLAG_DEVICE | 1}"),
          Step(f"create 4 {MIB} 1 0, reserve 5 {MIB}, map 5 {MIB} 4, release 4"),
          Step("reset 0", live={"hal-0": 1056 + MIB}),
          Step("reset 0", live={"hal-0": 0, "hal-0-managed": 0, "hal-pinned": 3000,
                                "hal-1": 4000}))),
    Case("hal", "closing a device of an old driver",
         (Step("set 0, malloc 0 1000, host 2 3000"),
          Step("reset 0", live={"hal-0": 0, "hal-pinned": 3000})), variants=("old",)),
    Case("hal", "addresses and memory of others are not counted",
         (Step(f"hal 0 {MIB} {FLAG_RESERVE}, import 1 {MIB}, reserve 2 {MIB}, map 2 {MIB} 1,"
               "release 1, unmap 2, halfree 0", domains=set()),)),
    Case("hal", "flags say domain and pages",
         (Step(f"hal 0 100 {FLAG_DEVICE | 1 | HUGE_PAGES | MODULE}, hal 1 100 {FLAG_DVPP | MODULE},"
               f"hal 2 100 {FLAG_SVM | 1}, hal 3 100 {FLAG_UVM}, hal 4 100 {FLAG_HOST | 1},"
               f"hal 5 100 {4 << 10}, hal 6 100 {6 << 10}, hal 7 100 {FLAG_DEVICE | GIANT_PAGES}",
               taken={"hal-1": 2 * MIB, "hal-0": 4 * KIB + (1 << 30), "hal-1-managed": 4 * KIB,
                      "hal-0-managed": 4 * KIB, "hal-pinned": 12 * KIB}),)),
    Case("hal", "a driver that is closed and opened again",
         (Step("set 0, malloc 0 1000, free 0"),
          Step("close, open, malloc 1 2000, free 1"),
          Step("close, open, malloc 1 3000", live={"hal-0": 3040})), ways=("local", "global")),
    Case("cuda", "every kind of memory",
         (Step(CUDA_KINDS, domains={"cuda-1", "cuda-1-managed", "cuda-pinned"},
               actual={"cuda-1": (None, 64 * MIB)},
               taken={"cuMemAllocPitch_v2": 1024 * 10}, refused={"cuMemAlloc_v2": 999999999}),
          Step("unregister 7, freearray 8, freehost 6, free 4",
               live={"cuda-pinned": 0, "cuda-1-managed": 0})),
         ways=DRIVERS["cuda"].ways),
    Case("cuda", "refused frees are put back",
         (Step(f"context 0 0, alloc 1 4096, create 2 {PAGE} 0, async 3 512 0,"
               "!free 1, !release 2, !freeasync 3 0", live={"cuda-0": PAGE + 4608}),
          Step("free 1, release 2, freeasync 3 0", live={"cuda-0": 0})),
         fail="cuMemFree_v2:1,cuMemRelease:1,cuMemFreeAsync:1"),
    Case("cuda", "a call without a context is no shortage",
         (Step("201=alloc 1 4096", domains=set(), apis=set()),)),
    Case("cuda", "what a graph records is no memory",
         (Step("context 0 0, async 1 4096 4, capture 4, async 2 8192 4, freeasync 1 4,"
               "endcapture 4", live={"cuda-0": 4096}),), ways=("lookup", "per thread")),
    Case("cuda", "stream 0 is the thread's own in functions of that variant",
         (Step("context 0 0, capture 2, async 1 4096 0, endcapture 2", live={"cuda-0": 0}),),
         ways=("per thread",)),
    Case("cuda", "stream 0 is no thread's own in the others",
         (Step("context 0 0, capture 2, async 1 4096 0, endcapture 2", live={"cuda-0": 4096}),),
         ways=("lookup",)),
    Case("cuda", "contexts take their memory with them",
         (Step("context 0 0, alloc 1 1000, array 2 8 8, register 3 4096, async 4 50 0,"
               "context 5 1, alloc 6 2000, use 0, !destroy 0", live={"cuda-0": 1562}),
          Step("destroy 0", live={"cuda-0": 50, "cuda-1": 2000, "cuda-pinned": 0})),
         fail="cuCtxDestroy_v2:1"),
    Case("cuda", "primary contexts end with their last user",
         (Step("primary 0 0, primary 1 0, use 0, alloc 2 1000, unprimary 0",
               live={"cuda-0": 1000}),
          Step("unprimary 0", live={"cuda-0": 0}),
          Step("primary 0 0, use 0, alloc 2 1000, reset 0", live={"cuda-0": 0})),
         ways=("lookup",)),
    Case("cuda", "physical memory lives as long as something refers to it",
         (Step(f"context 0 0, create 1 {PAGE} 1, reserve 2 {4 * PAGE}, import 8, map 2 {PAGE} 1,"
               f"release 1, retain 3 2, unmap 2 {PAGE}, release 8", live={"cuda-1": PAGE}),
          Step(f"release 3, create 4 {PAGE} -1, !create 5 {128 * MIB} 0",
               live={"cuda-1": 0, "cuda-pinned": PAGE}, refused={"cuMemCreate": 128 * MIB})),
         ways=("lookup",)),
    Case("cuda", "a shared runtime gives names and the driver bytes",
         (Step("malloc 1 4096, malloc 2 5000, cudafree 1, mallochost 3 100", live={"cuda-0": 5000},
               apis={"cudaMalloc", "cudaMallocHost"}),
          Step("devicereset", live={"cuda-0": 0})),
         ways=("shared runtime",), variants=("new", "old", "secretive")),
    Case("cuda", "of a static runtime the driver gives the names",
         (Step("malloc 1 4096, malloc 2 5000, cudafree 1, mallochost 3 100", live={"cuda-0": 5000},
               apis={"cuMemAlloc_v2", "cuMemAllocHost_v2"}),
          Step("devicereset", live={"cuda-0": 0})),
         ways=("static runtime",), variants=("new", "old", "secretive")),
    Case("cuda", "of a shared runtime each kind of memory counts once", RUNTIME_STEPS,
         ways=("shared runtime",), variants=("new", "secretive"), fail="cuMemFree_v2:2"),
    Case("cuda", "stream-ordered calls of a runtime",
         (Step("mallocasync 4 300 0", live={"cuda-0": 300}),),
         ways=("shared runtime", "static runtime"), variants=("new", "secretive")),
    Case("cuda", "a driver without stream-ordered calls",
         (Step("801=mallocasync 4 300 0", domains=set()),),
         ways=("shared runtime", "static runtime"), variants=("old",)),
    Case("hip", "bytes are those of HSA and names those of HIP",
         (Step(f"malloc 1 100, malloc 2 200, malloc 3 {4 * MIB}, host 4 5000, free 2, device 1,"
               f"malloc 5 {2 * MIB}, register 6 8192, 2=malloc 7 {100 * MIB}",
               actual={"hip-0": (24 * MIB, 64 * MIB)},
               live={"hip-0": 5 * MIB, "hip-1": 2 * MIB}, refused={"hipMalloc": 100 * MIB},
               apis={"hipMalloc", "hipHostMalloc", "hipHostRegister"}),
          Step("free 3, freehost 4, unregister 6", live={"hip-0": MIB, "hip-pinned": 0})),
         ways=DRIVERS["hip"].ways),
    Case("hip", "HSA alone",
         (Step("pool 1 4096 0x20, pool 2 8192 0x21, pool 3 100 0x30, pool 4 200 0x10,"
               "region 5 300, poolfree 2, !pool 6 100 0x99",
               apis={"hsa_amd_memory_pool_allocate", "hsa_memory_allocate"},
               live={"hip-pinned": 500, "hip-0": 4096, "hip-1": 100}),)),
    Case("hip", "pools of streams are a domain beside their chunks",
         (Step("async 1 3000, async 2 4000, !freeasync 1", live={"pool-hip": 7000, "hip-0": MIB}),
          Step("freeasync 1", live={"pool-hip": 4000})), fail="hipFreeAsync:1"),
    Case("hip", "refused frees are put back",
         (Step(f"pool 1 4096 0x20, create 2 {PAGE} 0x30, !poolfree 1, !release 2",
               live={"hip-0": 4096, "hip-1": PAGE}),
          Step("poolfree 1, release 2", live={"hip-0": 0, "hip-1": 0})),
         fail="hsa_memory_free:1,hsa_amd_vmem_handle_release:1"),
    Case("ze", "each kind of memory is in its domain",
         (Step("device 1 100 0, device 2 200 1, device 3 300 2, shared 4 400 1, shared 5 500 3,"
               "host 6 600, flat 7 30 20, solid 8 5, line 9 900",
               domains={"ze-0", "ze-1", "ze-1-managed", "ze-managed", "ze-pinned"},
               apis={"zeMemAllocDevice", "zeMemAllocShared", "zeMemAllocHost", "zeImageCreate"},
               live={"ze-0": 100 + 300 + 30 * 20 * 4 + 5**3 * 2 + 900}),
          Step("free 1, freeext 2, free 4, free 6, noimage 7, noimage 9",
               live={"ze-0": 550, "ze-1": 0, "ze-pinned": 0})),
         ways=DRIVERS["ze"].ways),
    Case("ze", "memory of others is not counted", (Step("import 1 4096", domains=set()),)),
    Case("ze", "physical memory lives as long as something refers to it",
         (Step("create 1 65536 1, reserve 2 1000000000, map 2 65536 1, release 1",
               live={"ze-1": 65536}),
          Step("unmap 2 65536, unreserve 2 1000000000", live={"ze-1": 0}))),
    Case("ze", "refusals are counted, and refused frees are put back",
         (Step(f"device 1 100 0, !device 2 200 1, !shared 3 {4 << 30} 0, flat 4 3 3, !free 1,"
               "!noimage 4", live={"ze-0": 136},
               refused={"zeMemAllocDevice": 200, "zeMemAllocShared": 4 << 30}),
          Step("free 1, noimage 4", live={"ze-0": 0})),
         fail="zeMemAllocDevice:2,zeMemFree:1,zeImageDestroy:1"),
    Case("ze", "what is left in a context ends with it",
         (Step("device 1 100 0, context, device 2 200 1, flat 3 8 8, create 4 4096 0,"
               "reserve 5 4096, map 5 4096 4, host 6 60"),
          Step("end", live={"ze-0": 100, "ze-1": 0, "ze-pinned": 0}))),
)  # fmt: skip


@pytest.mark.parametrize(
    ("case", "way", "variant"),
    [
        pytest.param(case, way, variant, id=f"{case.driver} {case.name} {way} {variant}")
        for case in CASES
        for way in case.ways
        for variant in case.variants
    ],
)
def test_profile_and_ledger_agree(segment_dir: Path, case: Case, way: str, variant: str) -> None:
    driver = driver_named(case.driver)
    variables = case.variables | ({"STUB_FAIL": case.fail} if case.fail else {})
    with driver.start(segment_dir, way, variant, variables) as app:
        for step in case.steps:
            step.check(app, driver)
        app.finish()


# --- what all drivers share ---------------------------------------------------------------------

SOME = {
    "hal": f"set 0, malloc 0 1000, create 1 {MIB} 1 1, malloc 2 3000, free 0",
    "cuda": f"context 0 0, alloc 1 7000, alloc 2 8000, create 3 {PAGE} 0, free 1",
    "hip": f"malloc 1 {3 * MIB}, malloc 2 {2 * MIB}, pool 3 4096 0x20, free 1",
    "ze": "device 1 1000 0, shared 2 2000 1, create 3 4096 0, free 1",
}
"""Two blocks are left; register 2 has one of them."""
CALLERS = {"hal": "allocate", "cuda": "driver_line", "hip": "hip_line", "ze": "allocate"}


def test_a_stack_begins_with_the_api_and_its_caller(segment_dir: Path, driver: Driver) -> None:
    with driver.start(segment_dir) as app:
        do(app, SOME[driver.device])
        assert device_counted(app).by(CALLERS[driver.device]).live_blocks >= 1


@pytest.mark.parametrize("end", ["kill", "exit 3", "die", "finish"])
def test_what_was_counted_survives_the_end(segment_dir: Path, driver: Driver, end: str) -> None:
    with driver.start(segment_dir, driver.ways[1]) as app:
        do(app, SOME[driver.device])
        if end == "kill":
            app.kill()
        else:
            if end != "finish":
                app.tell(end)
            app.finish({"exit 3": 3, "die": -signal.SIGABRT, "finish": 0}[end])
        counted = only_device_counted(segment_dir)
        agrees(app.ledger(), counted)
        assert counted.total().live_blocks == 2


def test_a_forked_child_has_memory_of_its_own(segment_dir: Path, driver: Driver) -> None:
    more = {
        "hal": f"create 4 {MIB} 1 0, reserve 5 {MIB}, map 5 {MIB} 4",
        "cuda": f"create 4 {PAGE} 0, reserve 5 {PAGE}, map 5 {PAGE} 4",
        "hip": f"create 4 {PAGE} 0x20, reserve 5, map 5 {PAGE} 4",
        "ze": f"create 4 {PAGE} 0, reserve 5 {PAGE}, map 5 {PAGE} 4",
    }
    new = {"hal": "malloc 3 5000", "cuda": "alloc 3 5056", "hip": "pool 3 5056 0x20",
           "ze": "device 3 5056 0"}  # fmt: skip
    with driver.start(segment_dir, follow_fork="1") as app:
        do(app, SOME[driver.device])
        do(app, more[driver.device])
        parent = app.ledger()
        do(app, f"fork, {new[driver.device]}, free 2, unmap 5 {PAGE}, release 4")
        app.finish()

        found = {
            path.name.split("-")[0]: DeviceCounted.read(path) for path in segments(segment_dir)
        }
        agrees(parent, found.pop(str(app.pid)))
        [child] = found.values()
        assert (child.total().blocks, child.total().live_bytes) == (1, 5056)


def test_two_threads_on_one_address(segment_dir: Path, driver: Driver) -> None:
    with driver.start(segment_dir) as app:
        do(app, {"cuda": "context 0 0"}.get(driver.device, ""))
        do(app, "race")
        counted = device_counted(app)
        agrees(app.ledger(), counted)
        assert (counted.total().blocks, counted.total().live_blocks) == (4000, 0)


@pytest.mark.parametrize("device", ["none", "opencl,vulkan"])
def test_nothing_is_seen_when_the_backend_is_off(
    segment_dir: Path, driver: Driver, device: str
) -> None:
    with driver.start(segment_dir, driver.ways[-1], device=device) as app:
        do(app, SOME[driver.device])
        assert device_counted(app).domains == {}
        app.finish()


RANDOM = {
    "hal": ("set 0", "reserve {place} 65536", ("create {handle} 65536 {one} {one}",
            "map {place} 65536 {handle}", "unmap {place}", "import {handle} 65536",
            "hal {block} {size} 1024", "halfree {block}")),
    "cuda": ("context 0 0", f"reserve {{place}} {PAGE}", (f"create {{handle}} {PAGE} {{one}}",
             f"map {{place}} {PAGE} {{handle}}", f"unmap {{place}} {PAGE}", "import {handle}",
             "alloc {block} {size}", "free {block}")),
    "hip": ("", "reserve {place}", (f"create {{handle}} {PAGE} 0x2{{one}}",
            f"map {{place}} {PAGE} {{handle}}", f"unmap {{place}} {PAGE}",
            "pool {block} {size} 0x30", "poolfree {block}")),
    "ze": ("", f"reserve {{place}} {PAGE}", (f"create {{handle}} {PAGE} {{one}}",
           f"map {{place}} {PAGE} {{handle}}", f"unmap {{place}} {PAGE}",
           "device {block} {size} {one}", "shared {block} {size} 3", "flat {image} {one}7 3",
           "free {block}", "freeext {block}", "noimage {image}")),
}  # fmt: skip
"""How it begins, how an address is reserved, and what is done in any order."""
REFUSALS = ",".join(
    f"{name}:{n}"
    for name in ("halMemCreate", "halMemRelease", "halMemUnmap", "cuMemRelease", "cuMemUnmap",
                 "hsa_amd_vmem_handle_release", "zePhysicalMemDestroy", "zeVirtualMemUnmap")
    for n in ("3:4", "9", "20")
)  # fmt: skip


@pytest.mark.parametrize("retain", ["same", "new"])
@pytest.mark.parametrize(
    "seed", [1, 2, *(pytest.param(s, marks=pytest.mark.soak) for s in range(3, 20))]
)
def test_random_lives(segment_dir: Path, driver: Driver, seed: int, retain: str) -> None:
    """References to physical memory come and go in any order, wrong ones too; some are refused."""
    begin, reserve, templates = RANDOM[driver.device]
    both = ("release {handle}", *(() if driver.device == "ze" else ("retain {handle} {place}",)))
    chance = random.Random(seed)
    variables = {"STUB_RETAIN": retain, "STUB_FAIL": REFUSALS}
    with driver.start(segment_dir, variables=variables) as app:
        do(app, ",".join([begin, *(reserve.format(place=place) for place in range(50, 53))]))
        for _ in range(150):
            app.do(chance.choice((*templates, *both, *both)).format(
                handle=chance.randrange(1, 9), place=chance.randrange(50, 53),
                block=chance.randrange(20, 30), image=chance.randrange(30, 36),
                one=chance.randrange(2), size=chance.randrange(1, 9000)))  # fmt: skip
        agrees(app.ledger(), device_counted(app), refusals=not driver.hides_refusals)


@pytest.mark.parametrize("variant", ["new", "secretive"])
def test_a_runtime_that_is_attached_to_counts_itself(segment_dir: Path, variant: str) -> None:
    """It has fetched the driver's functions before: no wrapper of the driver sees a call."""
    driver = driver_named("cuda")
    (program, *_), variables = driver.command("shared runtime", variant)
    late = LateApp((program,), segment_dir, **variables, STUB_FAIL="cuMemFree_v2:3")
    with late as app:
        do(app, "malloc 1 64, mallocarray 2 8 8, cudafree 1, cudafreearray 2")
        assert app.begin().result == 0
        with Controller(app) as controller:
            controller.start(1)
            for step in RUNTIME_STEPS:
                step.check(app, driver)


def test_the_real_runtime_of_cuda_asks_through_us(segment_dir: Path) -> None:
    """NVIDIA's own libcudart needs more of a driver than a stub has; its look-up is real."""
    driver_named("cuda")
    runtime = Path(f"{cuda_toolkit()}/lib/libcudart.so.12")
    source = STUBS / "cuda" / "real_runtime.c"
    built = compile_program(source, (*FLAGS, *cuda_includes()), libs=(str(runtime),))
    env = environment(segment_dir, rate=1024, device="cuda")
    env["LD_LIBRARY_PATH"] = f"{runtime.parent}{os.pathsep}{cuda_libraries('new')}"
    with Target([built], env) as target:
        assert int(target.line()) != 0
        seen = device_counted(target).control["backend"][1]
        assert int(seen["calls"]) > 20
        assert int(seen["loaded"]) == 1
