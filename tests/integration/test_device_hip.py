"""HIP and HSA memory: what the profile says and what the runtime's ledger says, byte for byte.

Model: stubs of both layers, built against AMD's headers, with HIP's symbol versions and with a
cache of chunks as HIP keeps one. Bytes are those of HSA.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from c_build import BUILD, compile_program
from device_run import DeviceCounted, Tally, device_counted, only_device_counted
from stub_driver import FLAGS, STUBS, App, library

pytestmark = pytest.mark.skipif(
    not Path("/usr/include/hip/hip_runtime_api.h").exists(), reason="libamdhip64-dev is absent"
)
HIP = STUBS / "hip"
MIB = 1 << 20
CHUNK = MIB

Start = Callable[..., App]


@pytest.fixture(scope="session")
def driver() -> Path:
    """A folder with both stub libraries."""
    folder = BUILD / "hip"
    library(folder, "libhsa-runtime64.so.1", HIP / "hsa.c")
    library(
        folder,
        "libamdhip64.so.6",
        HIP / "hip.c",
        f"-Wl,--version-script={HIP / 'hip.map'}",
        libs=("-l:libhsa-runtime64.so.1",),
    )
    return folder


@pytest.fixture
def start(segment_dir: Path, driver: Path) -> Start:
    """Start the program, bound by its own references or by dlsym, with the sampler in it."""

    def run(way: str = "linked", **variables: str) -> App:
        flags: tuple[str, ...] = FLAGS
        libs: tuple[str, ...] = ("-ldl",)
        if way == "linked":
            flags = (*FLAGS, "-DLINKED")
            libs = (f"-L{driver}", "-l:libamdhip64.so.6", "-l:libhsa-runtime64.so.1")
        built = compile_program(HIP / "app.c", flags, name=f"hip-app-{way}", libs=libs)
        variables["LD_LIBRARY_PATH"] = str(driver)
        return App((built, way), segment_dir, variables=variables, device="hip")

    return run


def agree(app: App, counted: DeviceCounted | None = None) -> DeviceCounted:
    """Compare profile and ledger, refusals too, and return the profile."""
    counted = counted or device_counted(app)
    found = {name: replace(tally, taken=0) for name, tally in counted.by_domain().items()}
    assert {n: t for n, t in found.items() if t != Tally()} == dict(app.ledger().tallies)
    assert counted.lost == {}
    return counted


@pytest.mark.parametrize("way", ["linked", "opened"])
def test_bytes_are_those_of_hsa_and_names_those_of_hip(start: Start, way: str) -> None:
    with start(way) as app:
        app.do("malloc 1 100", "malloc 2 200", f"malloc 3 {4 * MIB}", "host 4 5000", "free 2")
        app.do("device 1", f"malloc 5 {2 * MIB}", "register 6 8192")
        assert app.do(f"malloc 7 {100 * MIB}") == [2]
        counted = agree(app)
        assert counted.total("hip-0").live_bytes == CHUNK + 4 * MIB
        assert counted.total("hip-1").failed_bytes == 100 * MIB
        assert set(counted.apis()) == {"hipMalloc", "hipHostMalloc", "hipHostRegister"}
        assert counted.by("hip_line").blocks == counted.total().blocks
        actual = counted.domains["hip-0"].actual
        assert actual is not None
        assert (actual.used_bytes, actual.total_bytes) == (24 * MIB, 64 * MIB)
        assert app.do("free 3", "freehost 4", "unregister 6") == [0, 0, 0]
        agree(app)


def test_hsa_alone(start: Start) -> None:
    with start() as app:
        app.do("pool 1 4096 0x20", "pool 2 8192 0x21", "pool 3 100 0x30", "pool 4 200 0x10")
        app.do("region 5 300", "poolfree 2", "pool 6 100 0x99")
        counted = agree(app)
        assert counted.total("hip-pinned").live_bytes == 500
        assert "hsa_amd_memory_pool_allocate" in counted.apis()


def test_pools_of_streams_are_a_domain_beside_their_chunks(start: Start) -> None:
    with start(STUB_FAIL="hipFreeAsync:1") as app:
        app.do("async 1 3000", "async 2 4000")
        assert app.do("freeasync 1") != [0]
        counted = agree(app)
        assert counted.total("pool-hip").live_bytes == 7000
        assert counted.total("hip-0").live_bytes == CHUNK
        app.do("freeasync 1")
        assert agree(app).total("pool-hip").live_bytes == 4000


def test_refused_frees_are_put_back(start: Start) -> None:
    with start(STUB_FAIL="hsa_memory_free:1") as app:
        app.do("pool 1 4096 0x20")
        assert app.do("poolfree 1") != [0]
        assert agree(app).total().live_blocks == 1
        app.do("poolfree 1")
        assert agree(app).total().live_blocks == 0


@pytest.mark.parametrize("seed", range(2))
def test_random_lives_of_physical_memory(start: Start, seed: int) -> None:
    chance = random.Random(seed)
    with start() as app:
        for _ in range(100):
            handle, place = chance.randrange(1, 7), 0x600000000 + chance.randrange(3) * 4 * MIB
            app.do(
                chance.choice(
                    [
                        f"create {handle} {MIB} 0x20", f"release {handle}",
                        f"map {place} {MIB} {handle}", f"unmap {place} {MIB}",
                        f"retain {handle} {place}",
                    ]
                )
            )  # fmt: skip
        agree(app)


def test_a_killed_program_leaves_its_blocks(start: Start, segment_dir: Path) -> None:
    with start("opened") as app:
        app.do(f"malloc 1 {3 * MIB}", f"malloc 2 {2 * MIB}", "free 1")
        app.tell("die")
        app.process.wait(timeout=30)
        counted = agree(app, only_device_counted(segment_dir))
        assert counted.total("hip-0").live_bytes == 2 * MIB


def test_signatures_are_those_of_the_headers(tmp_path: Path) -> None:
    """The rows are compiled against AMD's declarations."""
    source = tmp_path / "signatures.c"
    later = "hipHostAlloc"  # declared as deprecated
    source.write_text(
        '#pragma GCC diagnostic ignored "-Wdeprecated-declarations"\n'
        '#include "hip_stub.h"\n'
        '#include "drivers/hip/hsa_rows.h"\n#include "drivers/hip/hip_rows.h"\n'
        "#define CHECK(role, result, name, params, args, ...) "
        "_Static_assert(__builtin_types_compatible_p(__typeof__(name), result params), #name);\n"
        "MP_HSA_ROWS(CHECK)\nMP_HIP_ROWS(CHECK)\nMP_HIP_ASYNC_ROWS(CHECK)\n"
        f"int main(void) {{ return sizeof({later}) == 0; }}\n"
    )
    compile_program(source, ("-std=gnu11", f"-I{HIP}", "-w"))
