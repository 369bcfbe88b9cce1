"""`mem_parser at`."""

from __future__ import annotations

from typing import Any

import click

from mem_cli.options import (
    COUNTS,
    csv_option,
    file_argument,
    filter_options,
    json_option,
    lines_option,
    output_option,
    partial_option,
    sort_options,
    symbol_options,
)
from mem_cli.parser.top import show_top
from mem_cli.pipeline import check_is_log
from mem_parser.errors import UsageProblem


@click.command("at")
@click.argument("moment", metavar="TIME")
@file_argument
@symbol_options
@partial_option
@filter_options
@output_option
@sort_options
@lines_option
@click.option("-n", "--rows", type=click.IntRange(min=0), help="Rows; 0: all.")
@json_option
@csv_option
def at(moment: str, file: str, **options: Any) -> None:
    r"""What was live at a moment of a log of events: one row per function.

    TIME is 12.3s, 500ms, 1m30s, 50%, or a mark of the program.

    \b
    mem_parser at 12.3s app.4711.1-0.memlog
    mem_parser at 'cache warm' app.4711.1-*.memlog --lines
    """
    chosen = [f"--{name}" for name in COUNTS if options[name] and name != "inuse"]
    if chosen:
        raise UsageProblem(
            f"{chosen[0]}: at a moment there are blocks in use only",
            hint="mem_parser top --to TIME has every count",
        )
    check_is_log(file)
    show_top(file, options | {"from_text": None, "to_text": moment, "inuse": True})
