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
    help="Remove unsaved profiles, too.",
)
def clean(everything: bool) -> None:
    """Remove what ended processes left in memory; unsaved profiles stay."""
    count, held, kept = recover.clean(everything=everything)
    say(f"removed {counted(count, 'segment')}, {short_size(held)}")
    if len(kept) == 1:
        pid = kept[0].control.number("pid")
        say(f"kept unsaved profile of pid {pid}; save it with mem_profiler recover {pid}")
    elif kept:
        say(f"kept {len(kept)} unsaved profiles; save them with mem_profiler recover")
