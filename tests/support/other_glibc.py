"""Programs of the tests on another glibc than the machine's.

Model: MEM_PROFILER_TEST_SYSROOT names a folder with the headers and libraries of another glibc,
such as the unpacked packages libc6, libc6-dev and linux-libc-dev of another Debian release.
Programs that `build_for` compiles then use its headers, its libraries and its loader. Without the
variable they use the machine's.
"""

from __future__ import annotations

import os
from pathlib import Path

from sampler_run import build

VARIABLE = "MEM_PROFILER_TEST_SYSROOT"


def build_for(name: str) -> Path:
    """Compile tests/targets/NAME for the glibc under test."""
    return build(name, *_flags(), libs=("-lpthread", "-ldl", "-lrt"))


def _flags() -> list[str]:
    root = os.environ.get(VARIABLE)
    if not root:
        return []
    folders = sorted({path.parent for path in Path(root).rglob("libc.so.6")})
    loader = next(iter(sorted(folders[0].glob("ld-linux*.so.*"))))
    return [
        f"--sysroot={root}",
        f"-Wl,--dynamic-linker={loader}",
        *(f"-Wl,-rpath,{folder}" for folder in folders),
    ]
