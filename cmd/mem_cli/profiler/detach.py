"""`mem_profiler detach`."""

from __future__ import annotations

import click

from mem_cli.profiler import attaching
from mem_cli.profiler.options import PID


@click.command()
@click.argument("pid", type=PID)
def detach(pid: int) -> None:
    """Take the sampler's hooks out of a process that was attached to."""
    attaching.detach_by_hand(pid)
