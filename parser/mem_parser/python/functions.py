"""What Python's functions and lines are called in reports."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from mem_parser.python.stacks import PythonCode, PythonStacks
from mem_parser.symbols.demangle import printable
from mem_parser.symbols.table import SymbolTableBuilder

LIBRARY_FOLDER = r"/(?:lib|lib32|lib64)/python\d[\d.]*t?/|/(?:site|dist)-packages/"
"""Pattern of the folders where the standard library is, and where packages are installed."""
_LIBRARY_FOLDER = re.compile(LIBRARY_FOLDER)
_UNNAMED = "[unknown]"
_MOST_LINE = 1 << 24
"""No source file that is shown has so many."""


def python_locations(
    python: PythonStacks, builder: SymbolTableBuilder
) -> tuple[list[int], npt.NDArray[np.int32]]:
    """Add the functions and lines of all frames to ``builder``.

    Returns the locations, and for each node the position of its own among them.
    """
    line = np.where(python.line < _MOST_LINE, python.line, 0)
    key = python.code.astype(np.int64) << 32 | line
    distinct, row = np.unique(key, return_inverse=True)
    functions: dict[int, int] = {}
    result = []
    for value in distinct.tolist():
        code = python.codes[value >> 32]
        if value >> 32 not in functions:
            functions[value >> 32] = _function(code, builder)
        result.append(builder.location_of(functions[value >> 32], code.file, value & 0xFFFFFFFF))
    return result, np.asarray(row).reshape(-1).astype(np.int32)


def _function(code: PythonCode, builder: SymbolTableBuilder) -> int:
    qualname = printable(code.qualname or code.name) or _UNNAMED
    place = short_file(code.file)
    name = f"{qualname} ({place})" if place else qualname
    return builder.function(name, qualname, code.file, code.file, python=True)


def short_file(path: str) -> str:
    """Return the part of a file's path that tells it from others: the file and its folder, but of a
    library no folder that all libraries share.
    """
    end = 0
    for found in _LIBRARY_FOLDER.finditer(path):
        end = found.end()
    return "/".join(path[end:].rsplit("/", 2)[-2:]).strip("/")
