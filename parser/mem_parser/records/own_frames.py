"""Recognize this project's own Python frames in a program that captures itself."""

from __future__ import annotations

import numpy as np

from mem_parser.model import BoolArray
from mem_parser.python.stacks import OWN_FOLDER, PythonStacks

_FOLDERS = tuple(f"{OWN_FOLDER}{part}/" for part in ("tracking", "memray_api", "driver_stats"))
_PASSING = {"tracked", "create_module"}
"""Functions in these folders that call the program's: of a decorator, and of imports."""


def own_stacks(python: PythonStacks) -> BoolArray:
    """Tell for each number of an interpreter's stack, 0 included, whether a frame of it is ours."""
    own = [code.name not in _PASSING and code.file.startswith(_FOLDERS) for code in python.codes]
    inside = np.array(own, dtype=np.bool_)[python.code].tolist()
    for node, parent in enumerate(python.parent.tolist()):
        inside[node] = inside[node] or (parent > 0 and inside[parent - 1])
    return np.array([False, *inside], dtype=np.bool_)
