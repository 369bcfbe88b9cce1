"""Libraries that only some work needs, and that a user installs for it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import sys
from typing import Any

from mem_parser.errors import MemError
from mem_parser.escape import shell_join

DISTRIBUTION = "mem-profiler"


def pip_line(extra: str, *packages: str) -> str:
    """Return the command that installs an extra where this Python finds it.

    pip and uv take the distribution that is installed, a clone's or a wheel's, and add what its
    extra needs, in the versions that fit. Where none is installed, no index may be asked for
    it: then the line names the packages.
    """
    from importlib import metadata

    try:
        metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        wanted = packages
    else:
        wanted = (f"{DISTRIBUTION}[{extra}]",)
    return shell_join([*_installer(), *wanted])


def _installer() -> list[str]:
    """`pip`, if the shell finds the one of this environment; uv's environments have none."""
    beside = os.path.join(os.path.dirname(sys.executable), "pip")
    found = shutil.which("pip")
    if found is not None and os.path.realpath(found) == os.path.realpath(beside):
        return ["pip", "install"]
    if importlib.util.find_spec("pip") is None and shutil.which("uv") is not None:
        return ["uv", "pip", "install", "--python", sys.executable]
    return [sys.executable, "-m", "pip", "install"]


class MissingLibrary(MemError):
    """A library is not installed that only some work needs."""


def pyarrow(module: str = "pyarrow") -> Any:
    """Return `pyarrow`, or a module of it. Raises MissingLibrary."""
    return _imported(module)


def duckdb() -> Any:
    """Return `duckdb`. Raises MissingLibrary."""
    return _imported("duckdb")


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        library = name.partition(".")[0]
        raise MissingLibrary(
            f"{library} is missing: {str(error) or 'it cannot be imported'}",
            hint=pip_line("query", "duckdb", "pyarrow"),
        ) from error
