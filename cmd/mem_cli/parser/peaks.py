"""`mem_parser peaks`."""

from __future__ import annotations

import math
from typing import Any

import click

from mem_cli.logs import Span, domain_option, log_options, opened_log, refuse_cut_log, views_of
from mem_cli.options import (
    csv_option,
    frame_options,
    json_option,
    output_option,
    symbol_options,
)

_PEAKS = 5
_PARTS = 2000
_LEAST_NS = 1000


@click.command("peaks")
@log_options
@domain_option
@symbol_options
@frame_options
@click.option("-n", "--rows", type=click.IntRange(min=1), default=_PEAKS, help=f"Peaks ({_PEAKS}).")
@click.option("--functions", type=click.IntRange(min=1), default=3, help="Of each (3).")
@click.option(
    "--interval", "interval_ns", type=Span(), metavar="TIME",
    help="At most one peak in each such time (1/2000 of the part).",
)  # fmt: skip
@output_option
@json_option
@csv_option
def peaks(
    files: tuple[str, ...], rows: int, functions: int, interval_ns: int | None, **options: Any
) -> None:
    r"""The moments at which most was live, and who held it: those that stand out from what is
    around them by 1 % of the highest or more.

    \b
    mem_parser peaks app.4711.1-*.memlog -n 3
    """
    from mem_cli.terminal import show, write_csv, write_json
    from mem_parser.memlog.gaps import unknown_lines
    from mem_parser.memlog.moments import count_peaks, live_at
    from mem_parser.memlog.moments import peaks as find
    from mem_parser.memlog.profiles import domains_of, jobs_of
    from mem_parser.memlog.series import series
    from mem_parser.reports import peaks as report

    with opened_log(files, options) as (run, part):
        first, last = part.times_ns(run)
        domain = domains_of(run, part)[0]
        step = interval_ns or max(math.ceil((last - first) / _PARTS), _LEAST_NS)
        every = series(run, step, jobs=jobs_of(run))[domain]
        low = max((first - every.from_ns) // step, 0)
        within = every.between(low, (last - every.from_ns) // step + 1)
        found = find(within, rows)
        groups = [m.sites.of_domain(domain) for m in live_at(run, [p.time_ns for p in found])]
        _, views = views_of(run, files[0], domain, groups, options)
        shown = [
            report.peak_view(peak, view, functions) for peak, view in zip(found, views, strict=True)
        ]
        notes = [
            *report.hidden_notes(len(found), count_peaks(within)),
            *unknown_lines(run, first, last), *(views[0].profile.warnings if views else ()),
        ]  # fmt: skip
        if options["as_json"]:
            write_json({"rows": report.records(shown), "notes": notes}, options["output"])
        elif options["as_csv"]:
            write_csv(report.flat_records(shown), report.KEYS, options["output"])
        else:
            show(report.blocks(shown, notes), options["output"])
        refuse_cut_log(run, partial=options["partial"])
