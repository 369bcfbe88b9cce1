"""`mem_parser summary`."""

from __future__ import annotations

from typing import Any

import click

from mem_cli.memray_words import memray_options, understood
from mem_cli.options import csv_option, json_option, view_options
from mem_cli.pipeline import deliver, open_view

_ROWS = 30
_LETTERS = {"t": "total", "o": "own", "a": "count"}
"""Of memray's live view."""
_COLUMNS = {"1": "total", "2": "total", "3": "own", "4": "own", "5": "count"}
"""Of memray's summary, by number."""
_SORTS = click.Choice(["total", "own", "count", *_LETTERS])
_SORTS_BEFORE = click.Choice([*_SORTS.choices, *_COLUMNS])


@click.command("summary")
@view_options
@memray_options
@click.option("--sort", type=_SORTS, help="Sort rows by this column. [default: own]")
@click.option("-s", "--sort-column", "sort_before", type=_SORTS_BEFORE, hidden=True, help="--sort.")
@click.option(
    "-n",
    "-r",
    "--max-rows",
    "--rows",
    "rows",
    type=click.IntRange(min=0),
    help="Rows (30); 0: all.",
)
@json_option
@csv_option
def summary(file: str, **options: Any) -> None:
    r"""Total memory, own memory and number of blocks by function.

    \b
    mem_parser summary custom_prof.4711.1.heap --sort own
    """
    from mem_cli.terminal import fitted
    from mem_parser.reports import summary as report

    options = understood(file, options)
    opened, view = open_view(file, options)
    given = options["sort"] or options["sort_before"] or "own"
    sort = report.Sort((_LETTERS | _COLUMNS).get(given, given))
    every = report.summary(view, sort)

    def first(rows: int | None) -> report.Summary:
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
