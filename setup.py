"""Build hook: sampler/Makefile makes the library, pyproject.toml holds all metadata.

Three roots hold packages: parser/, bindings/ and cmd/. They are found here, sub-packages included,
because setuptools' own search knows one root for a package name and cmd/ must never become a
package itself (it would shadow the standard library's `cmd`).
"""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.errors import PlatformError

HERE = Path(__file__).resolve().parent
ROOTS = ("parser", "bindings", "cmd")
LIBRARIES = (
    "libmem_sampler.so",
    "libmem_sampler_libascend_kernel_hook.so",
    "libmem_sampler_layers.so",
)

# A build backend does not have the project's own folder on its path.
sys.path.insert(0, str(HERE / "release"))
import links  # noqa: E402


def package_dirs() -> dict[str, str]:
    """Map every package, sub-packages too, to its folder relative to this file."""
    return {
        name: f"{root}/{name.replace('.', '/')}" for root in ROOTS for name in find_packages(root)
    }


def long_description() -> str:
    """README.md for a page that does not lie beside the sources: no relative link is left."""
    project = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    source = project.get("urls", {}).get("Source")
    return links.detached((HERE / "README.md").read_text(encoding="utf-8"), source)


def check_tools() -> None:
    """PlatformError with one line if this machine cannot compile the C parts."""
    if sys.platform != "linux":
        raise PlatformError(f"mem-profiler runs on Linux only, and this is {sys.platform}")
    # make takes CC or cc; the extensions take CC or what this Python was built with.
    compilers = {os.environ.get("CC", name) for name in ("cc", sysconfig.get_config_var("CC"))}
    tools = {"make", *(shlex.split(compiler)[0] for compiler in compilers if compiler)}
    if missing := sorted(tool for tool in tools if shutil.which(tool) is None):
        raise PlatformError(
            f"building mem-profiler needs a C compiler and make, but there is no {missing[0]}:"
            " install them (Debian: apt install gcc libc6-dev make), or set CC"
        )
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        raise PlatformError(
            "building mem-profiler needs Python.h, but there is none for this Python:"
            " install its headers (Debian: apt install python3-dev)"
        )


class BuildPy(build_py):
    """Builds the C library first and puts it beside the Python code that loads it."""

    def run(self) -> None:
        """Make the libraries, place them in mem_profiler, then build the packages."""
        check_tools()
        out = HERE / "build" / "sampler"
        jobs = f"-j{os.cpu_count() or 1}"
        wanted = [str(out / library) for library in LIBRARIES]
        done = subprocess.run(
            ["make", jobs, "-C", str(HERE / "sampler"), f"BUILD={out}", *wanted],
            check=False,
            # This build is complete in itself: a make that calls us must not lend its job server.
            env={k: v for k, v in os.environ.items() if k not in {"MAKEFLAGS", "MFLAGS"}},
        )
        if done.returncode != 0:
            raise PlatformError("the C library does not compile; the compiler's messages are above")
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
    long_description=long_description(),
    long_description_content_type="text/markdown",
)
