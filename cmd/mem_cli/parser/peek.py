"""`mem_parser peek`."""

from __future__ import annotations

from typing import Any

import click

from mem_cli.parser.views import as_object, end, file_first, json_option, open_view, view_options


@click.command("peek", short_help="Show the callers and callees of FUNCTION.")
@view_options
@click.argument("function", metavar="FUNCTION")
@json_option
def peek(file: str, function: str, **options: Any) -> None:
    r"""Show the callers and callees of FUNCTION (a name, or a regular expression).

    \b
    mem_parser peek custom_prof.4711.1.heap sdsnewlen
    """
    from mem_cli.terminal import show, write_json
    from mem_parser.reports import peek as report

    file, function = file_first(file, function)
    view = open_view(file, options)
    found = report.peek(view, function)
    if options["as_json"]:
        write_json(as_object(view, report.records(found)), options["output"])
    else:
        show(report.blocks(view, found), options["output"])
    end(view, file, options)
