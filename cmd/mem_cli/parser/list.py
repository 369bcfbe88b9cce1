"""`mem_parser list`."""

from __future__ import annotations

from typing import Any

import click

from mem_cli.options import file_first, json_option, source_options, view_options
from mem_cli.pipeline import deliver, open_view


@click.command("list")
@view_options
@click.argument("function", metavar="FUNCTION")
@source_options[0]
@source_options[1]
@json_option
def list_lines(file: str, function: str, **options: Any) -> None:
    r"""Show the source lines of FUNCTION with what they allocated.

    \b
    mem_parser list custom_prof.4711.1.heap processCommand --source-dir ~/redis/src
    """
    from mem_parser.reports import listing as report

    file, function = file_first(file, function)
    opened, view = open_view(file, options)
    distrusted = "" if options["trust_sources"] else report.distrust(view.profile)
    found = report.listing(view, function, report.Sources(options["source_dir"], distrusted))
    deliver(
        opened.sources,
        options,
        report.blocks(view, found),
        record=lambda: view.record(report.records(found)),
    )
