"""`mem_profiler detach`."""

from __future__ import annotations

import click

from mem_cli.errors import hint_of, say_error
from mem_cli.profiler import attaching
from mem_cli.profiler.options import children_option
from mem_cli.profiler.outcome import of_each
from mem_cli.profiler.target import SAMPLED, Target, chosen, target_options
from mem_parser.errors import MemError


@click.command(no_args_is_help=True)
@target_options
@children_option
@click.pass_context
def detach(
    ctx: click.Context, target: Target | None, pid: Target | None, *, children: bool
) -> None:
    """Remove the sampler's hooks from a process that was attached to."""
    pids = chosen(target, pid, SAMPLED, every=False, children=children)
    _, errors = of_each(list(filter(_may_have_hooks, pids)) or pids[:1], attaching.detach_by_hand)
    for error in errors:
        say_error(str(error), hint_of(error))
    ctx.exit(errors[0].exit_code if errors else 0)


def _may_have_hooks(pid: int) -> bool:
    from mem_profiler.attach import is_attached

    try:
        return is_attached(pid)
    except MemError:
        return True
