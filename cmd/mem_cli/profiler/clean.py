"""`mem_profiler clean`."""

from __future__ import annotations

import click

from mem_cli.console import say
from mem_cli.profiler.options import folder_argument, recovering
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
@folder_argument
def clean(folder: str | None, *, everything: bool) -> None:
    """Remove what ended processes left; unsaved profiles stay.

    FOLDER is the MEM_PROFILER_DIR of a service.
    """
    count, held, kept = recover.clean(everything=everything, root=folder)
    say(f"removed {counted(count, 'segment')}, {short_size(held)}")
    if len(kept) == 1:
        pid = kept[0].control.number("pid")
        say(f"kept unsaved profile of pid {pid}; save it with {recovering(folder, pid)}")
    elif kept:
        say(f"kept {len(kept)} unsaved profiles; save them with {recovering(folder)}")
