"""How a Python program begins to collect of itself when it starts: by `sitecustomize` in this
folder, which is the first one on the path where Python looks for modules.
"""

from __future__ import annotations

import os

import mem_parser
import mem_profiler

ROOTS = "MEM_PROFILER_MEMSCOPE_ROOTS"
"""Names the folders in which our packages are, for a Python that has them not."""


def variables() -> dict[str, str]:
    """Return the environment of a program that collects of itself."""
    theirs = os.environ.get("PYTHONPATH", "")
    folder = os.path.dirname(os.path.abspath(__file__))
    files = (mem_profiler.__file__, mem_parser.__file__)
    roots = {os.path.dirname(os.path.dirname(os.path.abspath(file or ""))) for file in files}
    path = f"{folder}{os.pathsep}{theirs}" if theirs else folder
    return {"PYTHONPATH": path, ROOTS: os.pathsep.join(sorted(roots))}
