"""`mem_parser waste`."""

from __future__ import annotations

from typing import Any

import click

from mem_cli.options import (
    csv_option,
    file_options,
    frame_options,
    json_option,
    lines_option,
    narrowing_options,
    output_option,
    start_frames_option,
    verbose_option,
)
from mem_cli.pipeline import deliver, open_view


@click.command("waste")
@file_options
@narrowing_options
@frame_options
@start_frames_option
@verbose_option
@lines_option
@click.option("-n", "--rows", type=click.IntRange(min=0), help="Rows; 0: all.")
@output_option
@json_option
@csv_option
def waste(file: str, *, lines: bool, rows: int | None, **options: Any) -> None:
    r"""What blocks in use cost in RAM beyond what was asked for, by function, and what helps.

    \b
    mem_parser waste custom_prof.4711.1.heap
    """
    from mem_parser.reports import waste as report
    from mem_parser.reports.aggregate import GroupBy

    opened, view = open_view(file, options | {"inuse": True})
    found = report.waste(view, rows, GroupBy.LINE if lines else GroupBy.FUNCTION)
    deliver(
        opened.sources,
        options,
        report.blocks(found),
        record=lambda: view.record(report.records(found), **report.record(found)),
        rows=lambda: report.records(found),
        keys=report.KEYS,
    )
