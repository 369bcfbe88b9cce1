"""`mem_parser table`."""

from __future__ import annotations

from typing import Any

import click

from mem_cli.memray_words import memray_options, understood
from mem_cli.options import csv_option, json_option, view_options
from mem_cli.pipeline import deliver, open_view

_ROWS = 30


@click.command("table")
@view_options
@memray_options
@click.option("--split-threads", is_flag=True, help="A row for each thread (of blocks in use).")
@click.option(
    "--sort",
    type=click.Choice(["size", "count", "thread", "allocator", "location"]),
    default="size",
    help="Sort rows by (size).",
)
@click.option("-n", "--rows", type=click.IntRange(min=0), help="Rows (30); 0: all.")
@json_option
@csv_option
def table(file: str, **options: Any) -> None:
    r"""Who allocated with what: one row per thread, allocator and line.

    \b
    mem_parser table custom_prof.4711.1.heap --sort count
    mem_parser table custom_prof.4711.1.heap --inuse --split-threads
    """
    from mem_cli.terminal import fitted
    from mem_parser.reports import allocations as report

    options = understood(file, options)
    opened, view = open_view(file, options)
    every = report.allocations(
        view, report.Sort(options["sort"]), split_threads=options["split_threads"]
    )

    def first(rows: int | None) -> report.Allocations:
        return every.first(_ROWS if rows is None else rows)

    found = first(options["rows"])
    deliver(
        opened.sources,
        options,
        fitted(lambda rows: report.blocks(first(rows)), options["rows"], options["output"]),
        record=lambda: view.record(report.records(found), left_out=found.left_out),
        rows=lambda: report.records(found),
        keys=report.KEYS,
    )
