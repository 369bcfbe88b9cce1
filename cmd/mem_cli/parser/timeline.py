"""`mem_parser timeline`."""

from __future__ import annotations

import math
import shutil
from typing import TYPE_CHECKING, Any

import click

from mem_cli.logs import Span, domain_option, draws_blocks, log_options, opened_log, refuse_cut_log
from mem_cli.options import csv_option, json_option, output_option

if TYPE_CHECKING:
    from mem_parser.memlog.run import Run

_WIDTH = 80
_LEAST_WIDTH = 40
_STEPS_NS = [step * 10**k for k in range(3, 12) for step in (1, 2, 5)]


@click.command("timeline")
@log_options
@domain_option
@click.option(
    "--interval", "interval_ns", type=Span(), metavar="TIME",
    help="A value for each such time (rows: 100ms; the picture: a column).",
)  # fmt: skip
@click.option("--ascii", "ascii_only", is_flag=True, help="Draw with ASCII characters only.")
@output_option
@json_option
@csv_option
def timeline(
    files: tuple[str, ...], interval_ns: int | None, *, ascii_only: bool, **options: Any
) -> None:
    r"""Memory in use over time: the highest moment of each interval, RSS, marks, what is missing.

    \b
    mem_parser timeline app.4711.1-*.memlog
    mem_parser timeline app.4711.1-0.memlog --interval 10ms --csv -o app.csv
    """
    from mem_cli.terminal import show, write_csv, write_json
    from mem_parser.memlog.profiles import domains_of, jobs_of
    from mem_parser.memlog.series import series
    from mem_parser.reports import timeline as report
    from mem_parser.reports.chart import LABEL

    with opened_log(files, options) as (run, part):
        first, last = part.times_ns(run)
        chosen = domains_of(run, part._replace(every_domain=True))
        width = _width(options["output"])
        rows = options["as_json"] or options["as_csv"]
        if interval_ns is None:
            room = width - LABEL - 2
            interval_ns = _rows_interval(run) if rows else _interval(first, last, room)
        every = series(run, interval_ns, jobs=jobs_of(run))
        found = report.timeline(run, [every[k] for k in chosen], first, last)
        if options["as_json"]:
            write_json(report.record(found), options["output"])
        elif options["as_csv"]:
            write_csv(report.records(found), report.KEYS, options["output"])
        else:
            plain = ascii_only or not draws_blocks(options["output"])
            shown = report.blocks(found, width=width, ascii_only=plain)
            show(shown, options["output"], fold=False)
        refuse_cut_log(run, partial=options["partial"])


def _width(output: str | None) -> int:
    from mem_cli.terminal import on_screen

    if on_screen(output):
        return max(shutil.get_terminal_size().columns - 1, _LEAST_WIDTH)
    return _WIDTH


def _interval(first_ns: int, last_ns: int, room: int) -> int:
    """Return the time of a column, so that the part has about as many as there is room for."""
    return max(math.ceil((last_ns - first_ns + 1) / (room - 1)), 1)


def _rows_interval(run: Run) -> int:
    """Return 100 ms, or more where that makes too many rows."""
    from mem_parser.memlog.series import MOST_INTERVALS, USUAL_INTERVAL_NS

    least = (run.end_ns - run.begin_ns) // (MOST_INTERVALS // 2) + 1
    return next((s for s in _STEPS_NS if s >= max(least, USUAL_INTERVAL_NS)), least)
