"""`mem_parser flamegraph`."""

from __future__ import annotations

from typing import Any

import click

from mem_cli.memray_words import memray_options, understood
from mem_cli.options import with_option
from mem_cli.parser.pages import finish_page, open_page, page_options


@click.command("flamegraph")
@page_options
@memray_options
@click.option("--invert", "--inverted", is_flag=True, help="Open with callers below callees.")
@click.option("--split-threads", is_flag=True, help="Changes nothing: the page has every thread.")
@click.option(
    "--no-web", is_flag=True, hidden=True, help="Changes nothing: no page loads anything."
)
@click.option("--max-memory-records", type=int, hidden=True, help="Changes nothing.")
@with_option
def flamegraph(file: str, **options: Any) -> None:
    r"""Draw a flame graph: one HTML file that works anywhere, without a network.

    \b
    mem_parser flamegraph custom_prof.4711.1.heap -o redis.html
    mem_parser flamegraph new.heap --base old.heap -o change.html
    """
    from mem_parser.web.flamegraph import render

    options = understood(file, options)
    given = open_page(file, "flamegraph", options)
    finish_page(given.drawn(render), given, partial=options["partial"])
