"""The sampler builds for aarch64, and its core's tests pass there under qemu-user."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from c_build import PLAIN, core_program, expect_pass, sampler_build
from device_run import only_device_counted
from stub_driver import Ascend, Ledger, agrees

COMPILER = "aarch64-linux-gnu-gcc"
LIBRARIES = "/usr/aarch64-linux-gnu"

pytestmark = pytest.mark.skipif(
    shutil.which(COMPILER) is None,
    reason=f"{COMPILER} (Debian: gcc-aarch64-linux-gnu) is not installed",
)


@pytest.fixture(scope="module")
def sampler_aarch64() -> Path:
    """The sampler, built for aarch64."""
    return sampler_build(COMPILER) / "libmem_sampler.so"


def test_the_whole_library_builds(sampler_aarch64: Path) -> None:
    header = sampler_aarch64.read_bytes()[:20]
    assert header[:4] == b"\x7fELF"
    assert int.from_bytes(header[18:20], "little") == 183  # EM_AARCH64


def test_the_core_holds_under_qemu() -> None:
    program = core_program("test_core.c", PLAIN, compiler=COMPILER)
    qemu = shutil.which("qemu-aarch64")
    if qemu is None:
        pytest.skip("qemu-aarch64 (Debian: qemu-user) is not installed; it builds")
    expect_pass(qemu, "-L", LIBRARIES, str(program))


@pytest.mark.skipif(shutil.which("qemu-aarch64") is None, reason="qemu-user is not installed")
@pytest.mark.parametrize("way", ["link", "local"])
def test_a_driver_is_followed_under_qemu(
    sampler_aarch64: Path, segment_dir: Path, way: str
) -> None:
    ascend = Ascend.build("aarch64", compiler=COMPILER)
    arguments = ["link"] if way == "link" else ["open", "local", *map(str, ascend.libraries())]
    lines = "set 0\nmalloc 0 1000\nhas nothing\nhas halMemAlloc\nmalloc 1 5000000\nfree 0\n"
    variables = {"LD_PRELOAD": str(sampler_aarch64), "MEM_PROFILER_START": "1"}
    result = subprocess.run(
        ["qemu-aarch64", "-L", LIBRARIES,
         *(part for name, value in variables.items() for part in ("-E", f"{name}={value}")),
         str(ascend.program(linked=way == "link")), *arguments],
        input=lines, capture_output=True, text=True, timeout=120,
        env={**os.environ, "STUB_LEDGER": str(segment_dir / "ledger")},
    )  # fmt: skip
    assert (result.stdout, result.returncode) == ("0\n0\n0\n1\n0\n0\n", 0), result.stderr
    agrees(Ledger.read(segment_dir / "ledger"), only_device_counted(segment_dir))
