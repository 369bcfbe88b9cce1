"""`mem_parser stats`."""

from __future__ import annotations

from typing import Any

import click

from mem_cli.memray_words import memray_options, understood
from mem_cli.options import json_option, view_options
from mem_cli.pipeline import deliver, open_view
from mem_parser.errors import UsageProblem


@click.command("stats")
@view_options
@memray_options
@click.option(
    "-n",
    "--num-largest",
    "--rows",
    "rows",
    type=click.IntRange(min=0),
    default=5,
    help="Rows (5); 0: all.",
)
@json_option
def stats(file: str, **options: Any) -> None:
    r"""Totals, sizes, and the largest functions, modules, threads and domains.

    \b
    mem_parser stats custom_prof.4711.1.heap --alloc
    """
    from mem_parser.reports import stats as report

    if options["objects"]:
        raise UsageProblem("stats shows both bytes and blocks", hint="leave --objects out")
    options = understood(file, options)
    opened, view = open_view(file, options, whole=True)
    found = report.stats(view, options["rows"])
    deliver(
        opened.sources,
        options,
        report.blocks(found),
        record=lambda: view.record(None, **report.record(found)),
    )
