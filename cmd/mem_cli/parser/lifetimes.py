"""`mem_parser lifetimes`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mem_cli.logs import draws_blocks, log_options, opened_log, refuse_cut_log, views_of
from mem_cli.options import (
    csv_option,
    frame_options,
    json_option,
    narrowing_options,
    output_option,
    symbol_options,
)

if TYPE_CHECKING:
    from mem_parser.memlog.lifetimes import Lifetimes
    from mem_parser.reports.lives import Sums


@click.command("lifetimes")
@log_options
@symbol_options
@click.option("-n", "--rows", type=click.IntRange(min=0), help="Functions (20); 0: all.")
@click.option("--ascii", "ascii_only", is_flag=True, help="Draw with ASCII characters only.")
@narrowing_options
@frame_options
@output_option
@json_option
@csv_option
def lifetimes(
    files: tuple[str, ...], *, rows: int | None, ascii_only: bool, **options: Any
) -> None:
    r"""How long blocks lived: a histogram, how many live after each time, and by function the
    median and how many came a second.

    \b
    mem_parser lifetimes app.4711.1-*.memlog
    mem_parser lifetimes app.4711.1-0.memlog --focus parse --from 10s
    """
    from mem_cli.terminal import show, write_csv, write_json
    from mem_parser.memlog.gaps import unknown_lines
    from mem_parser.memlog.lifetimes import lifetimes as lives_of
    from mem_parser.memlog.profiles import domains_of
    from mem_parser.reports import lives as report

    with opened_log(files, options) as (run, part):
        first, last = part.times_ns(run)
        domain = domains_of(run, part)[0]
        lives = lives_of(run, first if part.from_text else None, last, domain=domain)
        _, [view] = views_of(run, files[0], domain, [lives.allocated()], options)
        found = report.lives(
            _sums(lives),
            report.Weights(view, lives.rate_bytes),
            seconds=max((last - first) / 1e9, 1e-9),
            rows=rows,
            notes=[*unknown_lines(run, first, last), *view.profile.warnings],
        )
        if options["as_json"]:
            write_json(report.record(found), options["output"])
        elif options["as_csv"]:
            write_csv(report.records(found), report.KEYS, options["output"])
        else:
            plain = ascii_only or not draws_blocks(options["output"])
            show(report.blocks(found, bar="#" if plain else "█"), options["output"])
        refuse_cut_log(run, partial=options["partial"])


def _sums(lives: Lifetimes) -> Sums:
    from mem_parser.memlog.livesites import stack_of
    from mem_parser.reports.lives import Sums

    sums = lives.sums
    groups = (sums.exact, sums.about, sums.alive, sums.unended)
    return Sums(*((group, stack_of(group.site)) for group in groups))
