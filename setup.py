"""Build hook: sampler/Makefile makes the library, pyproject.toml holds all metadata.

Three roots hold packages: parser/, bindings/ and cmd/. They are found here, sub-packages included,
because setuptools' own search knows one root for a package name and cmd/ must never become a
package itself (it would shadow the standard library's `cmd`).
"""

import os
import shutil
import subprocess
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent
ROOTS = ("parser", "bindings", "cmd")
LIBRARIES = (
    "libmem_sampler.so",
    "libmem_sampler_libascend_kernel_hook.so",
    "libmem_sampler_layers.so",
)


def package_dirs() -> dict[str, str]:
    """Map every package, sub-packages too, to its folder relative to this file."""
    return {
        name: f"{root}/{name.replace('.', '/')}" for root in ROOTS for name in find_packages(root)
    }


class BuildPy(build_py):
    """Builds the C library first and puts it beside the Python code that loads it."""

    def run(self) -> None:
        """Make the libraries, place them in mem_profiler, then build the packages."""
        out = HERE / "build" / "sampler"
        jobs = f"-j{os.cpu_count() or 1}"
        subprocess.run(
            ["make", jobs, "-C", str(HERE / "sampler"), f"BUILD={out}"],
            check=True,
            # This build is complete in itself: a make that calls us must not lend its job server.
            env={k: v for k, v in os.environ.items() if k not in {"MAKEFLAGS", "MFLAGS"}},
        )
        # By a rename: a process that has an older one mapped must keep it whole.
        for library in LIBRARIES:
            place = HERE / "bindings" / "mem_profiler" / library
            shutil.copy2(out / library, place.with_suffix(".new"))
            place.with_suffix(".new").replace(place)
        super().run()


setup(
    packages=list(package_dirs()),
    package_dir=package_dirs(),
    cmdclass={"build_py": BuildPy},
    cffi_modules=[
        "bindings/mem_profiler/_build.py:ffibuilder",
        "bindings/mem_profiler/_build_inject.py:ffibuilder",
    ],
)
