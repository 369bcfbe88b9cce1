"""Libraries that only some work needs, and that a user installs for it."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from typing import Any

from mem_parser.errors import MemError
from mem_parser.escape import shell_join


def pip_line(*packages: str) -> str:
    """Return the command that installs packages where this Python finds them: `pip`, if the shell
    finds the one of the same environment.
    """
    beside = os.path.join(os.path.dirname(sys.executable), "pip")
    found = shutil.which("pip")
    own = found is not None and os.path.realpath(found) == os.path.realpath(beside)
    words = ["pip"] if own else [sys.executable, "-m", "pip"]
    return shell_join([*words, "install", *packages])


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
            hint=pip_line("duckdb", "pyarrow"),
        ) from error
