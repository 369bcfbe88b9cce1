"""`mem_parser rss`."""

from __future__ import annotations

from typing import Any

import click

from mem_cli.options import file_argument, finding_options, time_options
from mem_cli.output import check_output
from mem_cli.pipeline import deliver, read


@click.command("rss")
@file_argument
@time_options
@finding_options
def rss(file: str, **options: Any) -> None:
    r"""Say where the resident memory is: heap, slack, stacks, files, the sampler's own.

    \b
    mem_parser rss custom_prof.4711.1.heap
    """
    from mem_parser.reports.rss import account_lines
    from mem_parser.rss import account

    check_output(options["output"])
    sources = read([file], options)
    result = account(sources[0].profile)
    deliver(sources, options, account_lines(result), record=result.as_json)
