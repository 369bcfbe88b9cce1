"""`mem_parser top`."""

from __future__ import annotations

from typing import Any

import click

from mem_cli.options import (
    Options,
    csv_option,
    json_option,
    lines_option,
    sort_options,
    sorted_by_cum,
    view_options,
)
from mem_cli.pipeline import deliver, open_view


@click.command("top")
@view_options
@sort_options
@lines_option
@click.option("-n", "--rows", type=click.IntRange(min=0), help="Rows; 0: all.")
@json_option
@csv_option
def top(file: str, **options: Any) -> None:
    r"""Who allocated: one row per function, every number with its 95 % margin.

    \b
    mem_parser top custom_prof.4711.1.heap
    mem_parser top custom_prof.4711.1.heap --focus net --alloc --json
    """
    show_top(file, options)


def show_top(file: str, options: Options) -> None:
    """Write the report. Raises `MemError`."""
    from mem_cli.terminal import fitted
    from mem_parser.reports import top as report
    from mem_parser.reports.aggregate import GroupBy

    by_cum = sorted_by_cum(options)
    opened, view = open_view(file, options)
    group = GroupBy.LINE if options["lines"] else GroupBy.FUNCTION
    sums = view.sums(group)

    for_programs = options["as_csv"] or options["as_json"]

    def first(rows: int | None) -> report.Top:
        return report.top(view, report.TopOptions(by_cum, rows, group, for_programs), sums)

    found = first(options["rows"])
    deliver(
        opened.sources,
        options,
        fitted(lambda rows: report.blocks(first(rows)), options["rows"], options["output"]),
        record=lambda: view.record(report.records(found), left_out=len(found.left_out)),
        rows=lambda: report.records(found),
        keys=report.KEYS,
    )
