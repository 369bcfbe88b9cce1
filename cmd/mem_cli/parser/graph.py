"""`mem_parser graph`."""

from __future__ import annotations

import os
from typing import Any

import click

from mem_cli.options import view_options
from mem_cli.output import write_result
from mem_cli.pipeline import open_view, refuse_cut


@click.command("graph")
@view_options
@click.option("--base", metavar="FILE", help="Colour what changed since this older profile.")
def graph(file: str, **options: Any) -> None:
    r"""Draw the call graph as SVG.

    \b
    mem_parser graph custom_prof.4711.1.heap -o redis.svg --focus net
    mem_parser graph new.heap --base old.heap -o change.svg
    """
    from mem_parser.reports.graph import build_graph
    from mem_parser.reports.graph_diff import graph_of_change
    from mem_parser.reports.svg import draw_svg

    older = options["base"]
    # What was freed since the base tells how sure its changes are.
    opened, view = open_view(file, options, whole=older is not None)
    filters, sources = view.filters, list(opened.sources)
    name = os.path.basename(options["binary"] or view.profile.capture.exe or file)
    if older is None:
        drawn = build_graph(view.profile, view.sums(), filters.count, filters.unit, name)
    else:
        before, base = open_view(
            older, options | {"binary": None, str(filters.count): True}, whole=True, like=opened
        )
        sources += before.sources
        drawn = graph_of_change(base, view, name)
    write_result(draw_svg(drawn), options["output"])
    refuse_cut(sources, partial=options["partial"])
