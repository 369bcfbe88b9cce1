"""`mem_parser top`."""

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


@click.command("top", short_help="Who allocated: one row per function.")
@view_options
@click.option("--cum", is_flag=True, help="Sort by cum instead of flat.")
@click.option("--lines", is_flag=True, help="One row per source line instead of per function.")
@click.option("-n", "--rows", type=click.IntRange(min=0), help="Rows; 0: all.")
@json_option
@csv_option
def top(file: str, **options: Any) -> None:
    r"""Who allocated: one row per function, every number with its 95 % margin.

    \b
    mem_parser top custom_prof.4711.1.heap
    mem_parser top custom_prof.4711.1.heap --focus net --alloc --json
    """
    from mem_cli.terminal import show, write_csv, write_json
    from mem_parser.reports import top as report
    from mem_parser.reports.aggregate import GroupBy

    check_one_form(options)
    view = open_view(file, options)
    group = GroupBy.LINE if options["lines"] else GroupBy.FUNCTION
    found = report.top(view, report.TopOptions(options["cum"], options["rows"], group))
    if options["as_json"]:
        rows = report.records(found)
        write_json(as_object(view, rows, left_out=len(found.left_out)), options["output"])
    elif options["as_csv"]:
        write_csv(report.records(found), report.KEYS, options["output"])
    else:
        show(report.blocks(found), options["output"])
    end(view, file, options)
