"""`mem_parser graph`."""

from __future__ import annotations

from typing import Any

import click

from mem_cli.commands import PATH
from mem_cli.options import view_options
from mem_cli.parser.picture import check_picture, write_picture
from mem_cli.pipeline import open_views, refuse_cut


@click.command("graph")
@view_options
@click.option(
    "--base", type=PATH, metavar="FILE", help="Colour what changed since this older profile."
)
def graph(file: str, **options: Any) -> None:
    r"""Draw the call graph: SVG, or PNG by the name of the file.

    \b
    mem_parser graph custom_prof.4711.1.heap -o redis.svg --focus net
    mem_parser graph new.heap --base old.heap -o change.svg
    """
    from mem_parser.programname import profile_name
    from mem_parser.reports.graph import build_graph
    from mem_parser.reports.graph_diff import graph_of_change

    check_picture(options["output"], options["binary"] or file)
    files = [file] if options["base"] is None else [file, options["base"]]
    found = open_views(files, options)
    view = found[0][1]
    name = profile_name(view.profile.capture, options["binary"], file)
    if len(found) == 1:
        filters = view.filters
        drawn = build_graph(view.profile, view.sums(), filters.count, filters.unit, name)
    else:
        drawn = graph_of_change(found[1][1], view, name)
    write_picture(drawn, options["output"])
    sources = [source for opened, _ in found for source in opened.sources]
    refuse_cut(sources, partial=options["partial"])
