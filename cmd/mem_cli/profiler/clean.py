"""`mem_profiler clean`."""

from __future__ import annotations

import click

from mem_cli.console import say
from mem_parser.sizes import short_size
from mem_parser.units import counted
from mem_profiler.capture import recover


@click.command()
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="Also remove captures that were never written to a file.",
)
def clean(everything: bool) -> None:
    """Remove the segments that dead processes left."""
    count, held, kept = recover.clean(everything=everything)
    say(f"removed {counted(count, 'segment')}, {short_size(held)}")
    for found in kept:
        pid = found.control.number("pid")
        say(f"kept unsaved profile of pid {pid}; save it with mem_profiler recover {pid}")
