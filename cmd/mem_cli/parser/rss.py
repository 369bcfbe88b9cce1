"""`mem_parser rss`."""

from __future__ import annotations

import click

from mem_cli.output import check_output
from mem_cli.parser.findings import check_complete, finding_options, print_finding, read


@click.command("rss", short_help="Say what the resident memory is made of.")
@click.argument("file", metavar="FILE")
@finding_options
def rss(file: str, output: str | None, *, as_json: bool, partial: bool) -> None:
    r"""Say where the resident memory is: heap, slack, stacks, files, the sampler's own.

    \b
    mem_parser rss custom_prof.4711.1.heap
    """
    from mem_parser.rss import account, format_account

    check_output(output)
    profile = read(file)
    result = account(profile)
    print_finding(result.as_json(), format_account(result), output, as_json=as_json)
    check_complete(file, profile, partial=partial)
