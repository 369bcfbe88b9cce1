"""Libraries that only tables need, and that a user installs for them."""

from __future__ import annotations

import importlib
from typing import Any

from mem_parser.errors import MemError

PIP = "pip install duckdb pyarrow"


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
            f"{library} is missing: {str(error) or 'it cannot be imported'}", hint=PIP
        ) from error
