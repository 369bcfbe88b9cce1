"""The sampler builds for aarch64, and its core's tests pass there under qemu-user."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from c_build import CORE, ROOT, compile_program, core_sources, run_program

COMPILER = "aarch64-linux-gnu-gcc"
LIBRARIES = "/usr/aarch64-linux-gnu"

pytestmark = pytest.mark.skipif(
    shutil.which(COMPILER) is None,
    reason=f"{COMPILER} (Debian: gcc-aarch64-linux-gnu) is not installed",
)


def test_the_whole_library_builds(tmp_path: Path) -> None:
    result = subprocess.run(
        [
            "make",
            "-C",
            ROOT / "sampler",
            f"BUILD={tmp_path}",
            f"CC={COMPILER}",
            "AR=aarch64-linux-gnu-ar",
        ],
        capture_output=True,
        text=True,
        timeout=240,
        env={k: v for k, v in os.environ.items() if not k.startswith("MAKE")},
    )
    assert result.returncode == 0, result.stderr
    header = (tmp_path / "libmem_sampler.so").read_bytes()[:20]
    assert header[:4] == b"\x7fELF"
    assert int.from_bytes(header[18:20], "little") == 183  # EM_AARCH64


def core_test() -> Path:
    return compile_program(
        [
            ROOT / "tests" / "c" / "test_core.c",
            *core_sources(
                "sample", "table", "local", "stacks", "keyed", "sites", "live", "stack_range"
            ),
        ],
        (
            "-std=gnu11",
            "-D_GNU_SOURCE",
            "-O1",
            "-g",
            "-Wall",
            "-Wextra",
            "-Werror",
            f"-I{CORE}",
            f"-I{ROOT / 'tests' / 'c'}",
        ),
        name="core-aarch64",
        compiler=COMPILER,
        libs=("-lm", "-lpthread"),
    )


def test_the_core_holds_under_qemu() -> None:
    qemu = shutil.which("qemu-aarch64")
    if qemu is None:
        core_test()
        pytest.skip("qemu-aarch64 (Debian: qemu-user) is not installed; it builds")
    result = run_program(Path(qemu), "-L", LIBRARIES, str(core_test()))
    assert result.returncode == 0, result.stderr
    assert "0 failed" in result.stdout
