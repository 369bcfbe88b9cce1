"""The program that lays call graphs out: the system's `dot`, else the `graphviz-pure` program that
pip installs. It has a bounded time for each graph.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig

from mem_parser.errors import MemError

DOT_VARIABLE = "MEM_PROFILER_DOT"
"""Names the program that lays graphs out, before all others."""
_HINT = "install Debian's graphviz, or: pip install graphviz-pure"
_MARKS = {"svg": b"<svg", "png": b"\x89PNG\r\n\x1a\n"}
"""What only a drawing of that form holds."""


class LayoutError(MemError):
    """The program failed for this graph; a simpler graph may succeed."""


def find_layout_program() -> list[str] | None:
    """Return the command that understands `-Tsvg` and `-Tpng`, or None."""
    chosen = os.environ.get(DOT_VARIABLE)
    if chosen:
        return [chosen]
    scripts = (sysconfig.get_path("scripts"), os.path.dirname(sys.executable))
    for name in ("dot", "graphviz-pure"):
        found = shutil.which(name) or shutil.which(
            name, path=os.pathsep.join(filter(None, scripts))
        )
        if found:
            return [found]
    return None


def lay_out(source: str, timeout_s: float, form: str = "svg") -> bytes:
    """Return the drawing of a graph in DOT as `svg` or `png`.

    Raises `LayoutError` if there is none after ``timeout_s`` seconds, `MemError` if there is no
    program that can be run.
    """
    program = find_layout_program()
    if program is None:
        raise MemError("dot is missing: the call graph cannot be drawn", hint=_HINT)
    try:
        done = subprocess.run(
            [*program, "-Kdot", f"-T{form}"],
            input=source.encode("utf-8", "replace"),
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except OSError as error:
        raise MemError(f"cannot run {program[0]}: {error.strerror}", hint=_HINT) from error
    except subprocess.TimeoutExpired as error:
        raise LayoutError(f"{program[0]} did not finish within {timeout_s:g} s") from error
    if done.returncode or _MARKS[form] not in done.stdout:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise LayoutError(f"{program[0]} failed: {said[0] if said else done.returncode}")
    return done.stdout
