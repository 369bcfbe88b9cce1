"""Names of Python functions and lines in reports."""

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
_MADE = "<string>"
"""The file of code that `exec` and `eval` run, and of `python -c`."""
_FROZEN = "<frozen "
_MOST_LINE = 1 << 24
"""No source file that is shown has so many."""


def python_locations(
    python: PythonStacks, builder: SymbolTableBuilder, used: npt.NDArray[np.bool_]
) -> tuple[list[int], npt.NDArray[np.int32]]:
    """Add the functions and lines of the nodes that are ``used`` to ``builder``.

    Returns the locations, and for each node the position of its own among them; of others 0.
    """
    line = np.where(python.line < _MOST_LINE, python.line, 0)
    key = python.code.astype(np.int64) << 32 | line
    distinct, place = np.unique(key[used], return_inverse=True)
    row = np.zeros(len(python), dtype=np.int32)
    row[used] = np.asarray(place).reshape(-1)
    functions: dict[int, int] = {}
    places: dict[str, str] = {}
    result = []
    for value in distinct.tolist():
        code = python.codes[value >> 32]
        if value >> 32 not in functions:
            if code.file not in places:
                places[code.file] = short_file(code.file)
            functions[value >> 32] = _function(code, places[code.file], builder)
        result.append(builder.location_of(functions[value >> 32], code.file, value & 0xFFFFFFFF))
    for node, maker in _makers(python, used).items():
        code, module = python.codes[python.code[node]], python.codes[maker].file
        function = _function(code, f"{_MADE} in {short_file(module)}", builder, module)
        row[node] = len(result)
        result.append(builder.location_of(function, code.file, int(line[node])))
    return result, row


def _makers(python: PythonStacks, used: npt.NDArray[np.bool_]) -> dict[int, int]:
    """Return for each node of code that a library made and runs the code object of the library."""
    made = np.array([code.file == _MADE for code in python.codes], dtype=np.bool_)
    makers: dict[int, int] = {}
    if not made.any():
        return makers
    library = [in_library(c.file) or c.file.startswith(_FROZEN) for c in python.codes]
    # Callers come before their callees.
    for node in np.flatnonzero(made[python.code] & used).tolist():
        caller = int(python.parent[node]) - 1
        if caller in makers:
            makers[node] = makers[caller]
        elif caller >= 0 and library[python.code[caller]]:
            makers[node] = int(python.code[caller])
    return makers


def _function(
    code: PythonCode, place: str, builder: SymbolTableBuilder, module: str | None = None
) -> int:
    qualname = printable(code.qualname or code.name) or _UNNAMED
    name = f"{qualname} ({place})" if place else qualname
    module = code.file if module is None else module
    return builder.function(name, qualname, module, code.file, python=True)


def in_library(path: str) -> bool:
    """Tell whether a source file is of the standard library or of an installed package."""
    return bool(_LIBRARY_FOLDER.search(path))


def short_file(path: str) -> str:
    """Return the part of a file's path that tells it from others: the file and its folder, but of a
    library no folder that all libraries share.
    """
    end = 0
    for found in _LIBRARY_FOLDER.finditer(path):
        end = found.end()
    return "/".join(path[end:].rsplit("/", 2)[-2:]).strip("/")
