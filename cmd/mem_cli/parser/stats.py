"""`mem_parser stats`."""

from __future__ import annotations

from typing import Any

import click

from mem_cli.parser.views import as_object, end, json_option, open_view, view_options
from mem_parser.errors import UsageProblem


@click.command("stats", short_help="Totals, sizes, largest functions, modules and threads.")
@view_options
@click.option("-n", "--rows", type=click.IntRange(min=0), default=5, help="Rows (5); 0: all.")
@json_option
def stats(file: str, **options: Any) -> None:
    r"""Totals, sizes, and the largest functions, modules, threads and domains.

    \b
    mem_parser stats custom_prof.4711.1.heap --alloc
    """
    from mem_cli.terminal import show, write_json
    from mem_parser.reports import stats as report

    if options["objects"]:
        raise UsageProblem("stats shows both bytes and blocks", hint="leave --objects out")
    view = open_view(file, options, all_counts=True)
    found = report.stats(view, options["rows"])
    if options["as_json"]:
        write_json(as_object(view, None, **report.record(found)), options["output"])
    else:
        show(report.blocks(found), options["output"])
    end(view, file, options)
