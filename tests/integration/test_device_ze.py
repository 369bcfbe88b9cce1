"""Level Zero: what the profile says and what the driver's ledger says, byte for byte.

Model: Debian's loader takes a driver of ours in (ZE_ENABLE_ALT_DRIVERS), built against the
published headers: two devices, one of them in two parts.
"""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from c_build import BUILD, ROOT, compile_program
from device_run import DeviceCounted, Tally, device_counted
from stub_driver import FLAGS, STUBS, App, library

pytestmark = pytest.mark.skipif(
    not Path("/usr/include/level_zero/ze_api.h").exists(), reason="libze-dev is not installed"
)
ZE = STUBS / "ze"
GIB = 1 << 30

Start = Callable[..., App]


@pytest.fixture(scope="session")
def driver() -> Path:
    return library(BUILD / "ze", "libze_stub.so.1", ZE / "driver.c", "-fvisibility=hidden")


@pytest.fixture
def start(segment_dir: Path, driver: Path) -> Start:
    """Start the program, bound by its own references or by dlsym, with the sampler in it."""

    def run(way: str = "linked", **variables: str) -> App:
        flags = (*FLAGS, "-DLINKED") if way == "linked" else FLAGS
        libs = ("-lze_loader", "-ldl") if way == "linked" else ("-ldl",)
        built = compile_program(ZE / "app.c", flags, name=f"ze-app-{way}", libs=libs)
        variables["ZE_ENABLE_ALT_DRIVERS"] = str(driver)
        return App((built, way), segment_dir, variables=variables, device="ze")

    return run


def agree(app: App) -> DeviceCounted:
    """Compare profile and ledger, refusals too, and return the profile."""
    counted = device_counted(app)
    found = {name: replace(tally, taken=0) for name, tally in counted.by_domain().items()}
    assert {n: t for n, t in found.items() if t != Tally()} == dict(app.ledger().tallies)
    assert counted.lost == {}
    return counted


@pytest.mark.parametrize("way", ["linked", "opened"])
def test_each_kind_of_memory_is_in_its_domain(start: Start, way: str) -> None:
    with start(way) as app:
        app.do("device 1 100 0", "device 2 200 1", "device 3 300 2", "shared 4 400 1")
        app.do("shared 5 500 3", "host 6 600", "flat 7 30 20", "solid 8 5", "line 9 900")
        counted = agree(app)
        assert set(counted.by_domain()) == {
            "ze-0", "ze-1", "ze-1-managed", "ze-managed", "ze-pinned",
        }  # fmt: skip
        assert counted.total("ze-0").bytes == 100 + 300 + 30 * 20 * 4 + 5**3 * 2 + 900
        assert set(counted.apis()) == {
            "zeMemAllocDevice", "zeMemAllocShared", "zeMemAllocHost", "zeImageCreate",
        }  # fmt: skip
        assert (
            app.do("free 1", "freeext 2", "free 4", "free 6", "noimage 7", "noimage 9") == [0] * 6
        )
        agree(app)


def test_memory_of_others_is_not_counted(start: Start) -> None:
    with start() as app:
        assert app.do("import 1 4096") == [0]
        assert agree(app).total() == Tally()


def test_physical_memory_lives_as_long_as_something_refers_to_it(start: Start) -> None:
    with start() as app:
        app.do("create 1 65536 1", "reserve 2 1000000000", "map 2 65536 1", "destroy 1")
        assert agree(app).total("ze-1").live_bytes == 65536
        assert app.do("unmap 2 65536", "unreserve 2 1000000000") == [0, 0]
        assert agree(app).total().live_blocks == 0


def test_refusals_are_counted_and_a_refused_free_is_none(start: Start) -> None:
    with start(STUB_FAIL="zeMemAllocDevice:2,zeMemFree:1,zeImageDestroy:1") as app:
        out = app.do("device 1 100 0", "device 2 200 1", f"shared 3 {4 * GIB} 0", "flat 4 3 3")
        assert out[1] != 0
        assert out[2] != 0
        assert all(app.do("free 1", "noimage 4"))
        counted = agree(app)
        assert counted.total("ze-0").live_blocks == 2
        assert counted.total("ze-1").failed_bytes == 200
        assert app.do("free 1", "noimage 4") == [0, 0]
        agree(app)


def test_what_is_left_in_a_context_ends_with_it(start: Start) -> None:
    with start() as app:
        app.do("device 1 100 0")
        app.do("context", "device 2 200 1", "flat 3 8 8", "create 4 4096 0", "reserve 5 4096")
        app.do("map 5 4096 4", "host 6 60")
        agree(app)
        assert app.do("end") == [0]
        assert agree(app).total().live_bytes == 100


def test_a_killed_program_leaves_its_blocks(start: Start) -> None:
    with start() as app:
        app.do("device 1 1000 0", "shared 2 2000 1", "free 1")
        app.tell("die")
        app.process.wait(timeout=20)
        assert agree(app).total().live_bytes == 2000


def test_a_random_life_of_many_blocks(start: Start) -> None:
    rng = random.Random(7)
    live: list[int] = []
    with start() as app:
        for _ in range(300):
            if live and rng.random() < 0.45:
                app.do(f"{rng.choice(['free', 'freeext'])} {live.pop(rng.randrange(len(live)))}")
                continue
            register = rng.choice([r for r in range(64) if r not in live])
            size = rng.choice([1, 63, 4096, rng.randrange(1, 1 << 20)])
            kind = rng.choice([f"device {register} {size} {rng.randrange(3)}",
                               f"shared {register} {size} {rng.randrange(4)}",
                               f"host {register} {size}"])  # fmt: skip
            app.do(kind)
            live.append(register)
        agree(app)


def test_declarations_are_those_of_the_published_header(tmp_path: Path) -> None:
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    source = tmp_path / "check.cc"
    source.write_text(CHECK)
    done = subprocess.run(
        ["g++", "-std=c++17", "-fsyntax-only", f"-I{ROOT}/sampler", str(source)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


CHECK = r"""
#include <cstddef>
#include <level_zero/ze_api.h>
#include "drivers/ze/ze_abi.h"
#define SAME(theirs, ours) static_assert(long(theirs) == long(ours), #theirs)
#define FIELD(theirs, field, ours, name) SAME(offsetof(theirs, field), offsetof(ours, name))
SAME(sizeof(ze_result_t), sizeof(mp_ze_result));
SAME(ZE_RESULT_SUCCESS, MP_ZE_SUCCESS);
SAME(ZE_RESULT_ERROR_OUT_OF_HOST_MEMORY, MP_ZE_OUT_OF_HOST_MEMORY);
SAME(ZE_RESULT_ERROR_OUT_OF_DEVICE_MEMORY, MP_ZE_OUT_OF_DEVICE_MEMORY);
SAME(ZE_RESULT_ERROR_UNSUPPORTED_SIZE, MP_ZE_UNSUPPORTED_SIZE);
SAME(ZE_STRUCTURE_TYPE_EXTERNAL_MEMORY_IMPORT_FD, MP_ZE_IMPORT_FD);
SAME(ZE_STRUCTURE_TYPE_EXTERNAL_MEMORY_IMPORT_WIN32, MP_ZE_IMPORT_WIN32);
SAME(sizeof(ze_physical_mem_desc_t), sizeof(mp_ze_physical_desc));
FIELD(ze_physical_mem_desc_t, size, mp_ze_physical_desc, bytes);
FIELD(ze_device_mem_alloc_desc_t, pNext, mp_ze_desc, next);
FIELD(ze_host_mem_alloc_desc_t, pNext, mp_ze_desc, next);
SAME(sizeof(ze_image_desc_t), sizeof(mp_ze_image_desc));
FIELD(ze_image_desc_t, type, mp_ze_image_desc, shape);
FIELD(ze_image_desc_t, format.layout, mp_ze_image_desc, layout);
FIELD(ze_image_desc_t, width, mp_ze_image_desc, width);
FIELD(ze_image_desc_t, height, mp_ze_image_desc, height);
FIELD(ze_image_desc_t, depth, mp_ze_image_desc, depth);
FIELD(ze_image_desc_t, arraylevels, mp_ze_image_desc, layers);
SAME(ZE_IMAGE_TYPE_1DARRAY, MP_ZE_IMAGE_1D_ARRAY);
SAME(ZE_IMAGE_TYPE_2D, MP_ZE_IMAGE_2D);
SAME(ZE_IMAGE_TYPE_2DARRAY, MP_ZE_IMAGE_2D_ARRAY);
SAME(ZE_IMAGE_TYPE_3D, MP_ZE_IMAGE_3D);
SAME(ZE_IMAGE_TYPE_BUFFER, MP_ZE_IMAGE_BUFFER);
"""
