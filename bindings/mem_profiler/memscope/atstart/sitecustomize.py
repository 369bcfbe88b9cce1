"""Begins the collection of a Python program that `mem_profiler memscope` has started.

Python imports a module of this name when it starts. The one that would be there without this folder
is imported then.
"""

import contextlib
import importlib
import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))
_ROOTS = "MEM_PROFILER_MEMSCOPE_ROOTS"


def _import_other() -> None:
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != _HERE]
    ours = sys.modules.pop("sitecustomize", None)
    try:
        importlib.import_module("sitecustomize")
    except ImportError as error:
        if error.name != "sitecustomize":
            raise
    finally:
        if ours is not None:
            sys.modules.setdefault("sitecustomize", ours)


def _begin() -> None:
    roots = [root for root in os.environ.get(_ROOTS, "").split(os.pathsep) if root]
    sys.path += [root for root in roots if root not in sys.path]
    try:
        from mem_profiler.memscope import frameworks

        frameworks.begin_if_open()
    except Exception as error:
        # The program is not to fail for this.
        kind = type(error).__name__
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stderr.write(f"mem_profiler: PyTorch is not collected: {kind}: {error}\n")


if sys.version_info >= (3, 9):  # noqa: UP036 - of any program
    _begin()
_import_other()
