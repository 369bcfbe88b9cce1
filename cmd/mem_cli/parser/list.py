"""`mem_parser list`."""

from __future__ import annotations

from typing import Any

import click

from mem_cli.parser.views import as_object, end, file_first, json_option, open_view, view_options


@click.command("list")
@view_options
@click.argument("function", metavar="FUNCTION")
@click.option("--source-dir", multiple=True, metavar="DIR", help="Look for sources here too.")
@click.option(
    "--trust-sources", is_flag=True, help="Show the files that the profile names, whosever it is."
)
@json_option
def list_lines(file: str, function: str, **options: Any) -> None:
    r"""Show the source lines of FUNCTION with what they allocated.

    \b
    mem_parser list custom_prof.4711.1.heap sdsnewlen --source-dir ~/redis/src
    """
    from mem_cli.terminal import show, write_json
    from mem_parser.reports import listing as report

    file, function = file_first(file, function)
    view = open_view(file, options)
    distrusted = "" if options["trust_sources"] else report.distrust(view.profile)
    found = report.listing(view, function, report.Sources(options["source_dir"], distrusted))
    if options["as_json"]:
        write_json(as_object(view, report.records(found)), options["output"])
    else:
        show(report.blocks(view, found), options["output"])
    end(view, file, options)
