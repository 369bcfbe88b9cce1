"""`mem_profiler detach`."""

from __future__ import annotations

import click

from mem_cli.profiler import attaching
from mem_cli.profiler.target import SAMPLED, Target, given, pid_of, target_options


@click.command(no_args_is_help=True)
@target_options
def detach(target: Target | None, pid: Target | None) -> None:
    """Remove the sampler's hooks from a process that was attached to."""
    attaching.detach_by_hand(pid_of(given(target, pid), SAMPLED))
