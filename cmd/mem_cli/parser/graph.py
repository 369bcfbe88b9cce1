"""`mem_parser graph`."""

from __future__ import annotations

import os
from typing import Any

import click

from mem_cli.output import write_result
from mem_cli.parser.views import end, open_view, view_options


@click.command("graph")
@view_options
@click.option("--base", metavar="FILE", help="Colour what changed since this older profile.")
def graph(file: str, **options: Any) -> None:
    r"""Draw the call graph as SVG.

    \b
    mem_parser graph custom_prof.4711.1.heap -o redis.svg --focus net
    mem_parser graph new.heap --base old.heap -o change.svg
    """
    from mem_parser.diff import variance_between
    from mem_parser.model import Count
    from mem_parser.reports.graph import build_graph
    from mem_parser.reports.graph_diff import build_diff_graph
    from mem_parser.reports.svg import draw_svg

    older = options["base"]
    # What was freed since the base tells how sure its changes are.
    view = open_view(file, options, all_counts=older is not None)
    filters = view.filters
    name = os.path.basename(options["binary"] or view.profile.capture.exe or file)
    if older is None:
        drawn = build_graph(view.profile, view.sums(), filters.count, filters.unit, name)
        write_result(draw_svg(drawn), options["output"])
        end(view, file, options)
        return
    base = open_view(older, options | {"binary": None}, all_counts=True)
    paired = filters.count is Count.INUSE
    drawn = build_diff_graph(
        view.profile,
        view.sums(),
        base.sums(),
        count=filters.count,
        unit=filters.unit,
        title=name,
        between=variance_between(base.profile, view.profile, filters.unit) if paired else None,
    )
    write_result(draw_svg(drawn), options["output"])
    end(view, file, options)
    end(base, older, options)
