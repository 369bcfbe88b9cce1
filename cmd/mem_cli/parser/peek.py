"""`mem_parser peek`."""

from __future__ import annotations

from typing import Any

import click

from mem_cli.options import file_first, json_option, lines_option, view_options
from mem_cli.pipeline import deliver, open_view


@click.command("peek")
@view_options
@click.argument("function", metavar="FUNCTION")
@lines_option
@json_option
def peek(file: str, function: str, **options: Any) -> None:
    r"""Show the callers and callees of FUNCTION (a name, or a regular expression).

    \b
    mem_parser peek custom_prof.4711.1.heap processCommand
    """
    from mem_parser.reports import peek as report

    file, function = file_first(file, function)
    opened, view = open_view(file, options)
    found = report.peek(view, function, lines=options["lines"])
    deliver(
        opened.sources,
        options,
        report.blocks(view, found),
        record=lambda: view.record(report.records(found)),
    )
