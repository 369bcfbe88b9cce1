"""`mem_parser tree`."""

from __future__ import annotations

from typing import Any

import click

from mem_cli.memray_words import memray_options, understood
from mem_cli.options import json_option, lines_option, view_options
from mem_cli.pipeline import deliver, open_view


@click.command("tree")
@view_options
@memray_options
@click.option("-n", "--rows", type=click.IntRange(min=0), help="The heaviest N (200); 0: all.")
@click.option("-b", "--biggest-allocs", type=click.IntRange(min=1), hidden=True)
@click.option(
    "--min-share",
    type=click.FloatRange(0, 100),
    metavar="PERCENT",
    help="Leave out smaller branches (0.5).",
)
@click.option("--depth", type=click.IntRange(min=0), default=0, help="Levels; 0: all.")
@click.option(
    "--invert", "--inverted", is_flag=True, help="From the allocating functions to their callers."
)
@lines_option
@json_option
def tree(file: str, **options: Any) -> None:
    r"""Who called whom, as indented text.

    \b
    mem_parser tree custom_prof.4711.1.heap --depth 8
    mem_parser tree custom_prof.4711.1.heap --invert
    """  # fmt: skip
    from mem_parser.reports import text_tree as report

    options = understood(file, options)
    opened, view = open_view(file, options)
    share = options["min_share"]
    biggest, most = options["biggest_allocs"], options["rows"]
    if options["invert"] and most is None:
        biggest, most = None, biggest  # these come first in such a tree
    chosen = report.TreeOptions(
        biggest=biggest or 0,
        share=report.LEAST_SHARE if share is None else share / 100,
        most=report.MOST_NODES if most is None else most,
        depth=options["depth"],
        inverted=options["invert"],
        lines=options["lines"],
    )
    found = report.text_tree(view, chosen)
    deliver(
        opened.sources,
        options,
        report.blocks(found),
        record=lambda: view.record(report.records(found), left_out=found.left_out),
    )
