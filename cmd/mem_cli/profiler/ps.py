"""`mem_profiler ps`."""

from __future__ import annotations

import click

from mem_cli.console import say
from mem_cli.profiler import capture_view
from mem_profiler.capture import listing


@click.command()
def ps() -> None:
    """List every process with a sampler, and what dead ones left."""
    found = listing.listing()
    if not found.rows:
        say("no process runs with the sampler; mem_profiler run -- PROG ARGS starts one")
    for line in capture_view.process_lines(found.rows) if found.rows else ():
        say(line)
    if found.more:
        what = "mem_profiler recover writes their captures, mem_profiler clean removes the rest"
        say(f"and {found.more} more: {what}")
    for room in found.rooms:
        say(capture_view.room_line(room))
