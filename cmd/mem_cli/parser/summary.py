"""`mem_parser summary`."""

from __future__ import annotations

from typing import Any

import click

from mem_cli.parser.views import (
    as_object,
    check_one_form,
    csv_option,
    end,
    json_option,
    open_view,
    view_options,
)


@click.command("summary")
@view_options
@click.option(
    "-s",
    "--sort",
    type=click.Choice(["total", "own", "count"]),
    default="total",
    help="What to sort by (total).",
)
@click.option("-n", "--rows", type=click.IntRange(min=0), default=30, help="Rows (30); 0: all.")
@json_option
@csv_option
def summary(file: str, **options: Any) -> None:
    r"""Total memory, own memory and number of blocks by function.

    \b
    mem_parser summary custom_prof.4711.1.heap -s own
    """
    from mem_cli.terminal import show, write_csv, write_json
    from mem_parser.reports import summary as report

    check_one_form(options)
    view = open_view(file, options)
    found = report.summary(view, report.Sort(options["sort"]), options["rows"])
    if options["as_json"]:
        write_json(
            as_object(view, report.records(found), left_out=found.left_out), options["output"]
        )
    elif options["as_csv"]:
        write_csv(report.records(found), report.KEYS, options["output"])
    else:
        show(report.blocks(found), options["output"])
    end(view, file, options)
