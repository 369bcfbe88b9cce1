"""Destinations of the call graph: an SVG or PNG file, or a pipe of SVG."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from mem_cli.output import write_bytes, write_result
from mem_parser.errors import UsageProblem
from mem_parser.escape import file_part, shell_path

if TYPE_CHECKING:
    from mem_parser.reports.graph import CallGraph

_OTHERS = (".gif", ".jpeg", ".jpg", ".pdf", ".ps", ".webp")


def check_picture(output: str | None, subject: str, *, options: str = "") -> None:
    """Refuse what a call graph cannot be written to, before any work: a terminal, and a file of
    another format. Raises `UsageProblem`.

    ``subject`` names the file of the hint, ``options`` stand before it.
    """
    name = shell_path(f"{file_part(os.path.basename(subject).removesuffix('.heap'))}.svg")
    hint = f"{options} -o {name}".lstrip()
    if output is None and sys.stdout.isatty():
        raise UsageProblem("the call graph is a picture (SVG), no text for a terminal", hint=hint)
    if output is not None and output.lower().endswith(_OTHERS):
        raise UsageProblem(f"cannot write {output}: call graphs are SVG or PNG", hint=hint)


def write_picture(graph: CallGraph, output: str | None) -> None:
    """Draw a call graph, and write it as the name of the file says. Raises `MemError`."""
    from mem_parser.reports.svg import draw_png, draw_svg

    if output is not None and output.lower().endswith(".png"):
        write_bytes(draw_png(graph), output)
    else:
        write_result(draw_svg(graph), output)
