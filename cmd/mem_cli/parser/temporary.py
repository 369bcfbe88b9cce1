"""`mem_parser temporary`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from mem_cli.logs import Span, log_options, opened_log, refuse_cut_log, views_of
from mem_cli.options import (
    csv_option,
    frame_options,
    json_option,
    lines_option,
    narrowing_options,
    output_option,
    symbol_options,
)
from mem_parser.errors import UsageProblem

if TYPE_CHECKING:
    from mem_parser.memlog.lifetimes import Lifetimes
    from mem_parser.memlog.livesites import Sites


@click.command("temporary")
@log_options
@symbol_options
@click.option(
    "--threshold",
    type=click.IntRange(0, 64),
    metavar="N",
    help="At most N other allocations of the thread in between (1).",
)
@click.option("--following", is_flag=True, help="The last allocation had the same stack and size.")
@click.option(
    "--within", "within_ns", type=Span(), metavar="TIME", help="Freed within a time, such as 1ms."
)
@lines_option
@click.option("-n", "--rows", type=click.IntRange(min=0), help="Rows (20); 0: all.")
@narrowing_options
@frame_options
@output_option
@json_option
@csv_option
def temporary(
    files: tuple[str, ...],
    *,
    threshold: int | None,
    following: bool,
    within_ns: int | None,
    lines: bool,
    rows: int | None,
    **options: Any,
) -> None:
    r"""Blocks that were freed soon after they were allocated, and what they cost.

    Temporary is what one thread freed with at most N other allocations in between
    (--threshold, as memray has it), what was freed when the last allocation of all had the
    same stack and size (--following, as heaptrack has it), or what lived no longer than a time
    (--within).

    \b
    mem_parser temporary app.4711.1-*.memlog
    mem_parser temporary app.4711.1-0.memlog --within 100us --lines
    """  # fmt: skip
    from mem_cli.terminal import show, write_csv, write_json
    from mem_parser.memlog.gaps import unknown_lines
    from mem_parser.memlog.lifetimes import lifetimes
    from mem_parser.memlog.profiles import domains_of
    from mem_parser.reports import temporary as report
    from mem_parser.reports.aggregate import GroupBy

    if (threshold is not None) + following + (within_ns is not None) > 1:
        raise UsageProblem("--threshold, --following and --within exclude each other")
    with opened_log(files, options) as (run, part):
        first, last = part.times_ns(run)
        domain = domains_of(run, part)[0]
        lives = lifetimes(run, first if part.from_text else None, last, domain=domain)
        chosen, rule = _chosen(lives, threshold, within_ns, following=following)
        groups = [chosen, lives.allocated()]
        _, views = views_of(run, files[0], domain, groups, options)
        found = report.temporary(
            *views,
            rule=rule,
            at_most=lives.temporary_is_bound and within_ns is None,
            seconds=max((last - first) / 1e9, 1e-9),
            rows=rows,
            group=GroupBy.LINE if lines else GroupBy.FUNCTION,
            notes=[*unknown_lines(run, first, last), *views[0].profile.warnings],
        )
        if options["as_json"]:
            write_json(report.record(found), options["output"])
        elif options["as_csv"]:
            write_csv(report.records(found), report.KEYS, options["output"])
        else:
            show(report.blocks(found), options["output"])
        refuse_cut_log(run, partial=options["partial"])


def _chosen(
    lives: Lifetimes, threshold: int | None, within_ns: int | None, *, following: bool
) -> tuple[Sites, str]:
    """Return the temporary blocks, and the rule in words."""
    from mem_parser.reports.lives import format_time

    if following:
        return lives.following(), "freed when the last allocation had the same stack and size"
    if within_ns is not None:
        sites, really_ns = lives.within(within_ns)
        about = math.isclose(really_ns, within_ns)
        asked = "" if about else f" (the next shorter step to {format_time(within_ns)})"
        return sites, f"freed within {format_time(really_ns)}{asked}"
    most = 1 if threshold is None else threshold
    others = "1 other allocation" if most == 1 else f"{most} other allocations"
    return lives.temporary(most), f"freed within {others} of the same thread"
