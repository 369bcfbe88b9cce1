"""Check the live view's requirements: its library, and a terminal to draw on."""

from __future__ import annotations

import importlib.util
import os
import sys

from mem_cli.colour import is_coloured
from mem_cli.live.texts import LEAST_COLUMNS, LEAST_LINES
from mem_parser.errors import MemError, UsageProblem
from mem_parser.tables.extras import pip_line

_CURE = "mem_profiler snapshot PID writes a file; mem_profiler serve shows a page"


def check() -> None:
    """Raise MemError if the view cannot be shown here."""
    if importlib.util.find_spec("textual") is None:
        raise MemError("the live view needs the package textual", hint=pip_line("live", "textual"))
    for stream, name in ((sys.stdin, "standard input"), (sys.stdout, "standard output")):
        if stream is None or not stream.isatty():
            raise UsageProblem(f"the live view needs a terminal, and {name} is none", hint=_CURE)
    kind = os.environ.get("TERM", "")
    if kind in {"", "dumb"}:
        what = f"TERM={kind}" if kind else "no TERM"
        raise UsageProblem(f"the live view cannot draw on this terminal ({what})", hint=_CURE)
    size = os.get_terminal_size(sys.stdout.fileno())
    if 0 < size.columns < LEAST_COLUMNS or 0 < size.lines < LEAST_LINES:
        raise UsageProblem(
            f"the live view needs {LEAST_COLUMNS} columns and {LEAST_LINES} lines, and this"
            f" terminal has {size.columns} and {size.lines}",
            hint=_CURE,
        )


def agree_on_colour() -> None:
    """Pass `--color` and `NO_COLOR` on to textual: it reads only that variable, and counts an empty
    value as set.
    """
    if is_coloured():
        os.environ.pop("NO_COLOR", None)
    else:
        os.environ["NO_COLOR"] = "1"
