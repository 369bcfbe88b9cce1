"""`mem_profiler snapshot`."""

from __future__ import annotations

import click

from mem_cli.forms import form_option
from mem_cli.profiler.options import prefix_option, resident_option, symbolize_option
from mem_cli.profiler.outcome import finish, of_each
from mem_cli.profiler.target import WRITE, Target, chosen, several_options
from mem_parser.heapfile.form import Form
from mem_profiler.capture import output, toggle


@click.command(no_args_is_help=True)
@several_options
@prefix_option
@resident_option
@form_option
@symbolize_option
@click.pass_context
def snapshot(
    ctx: click.Context,
    target: Target | None,
    pid: Target | None,
    prefix: str,
    form: Form,
    *,
    every: bool,
    children: bool,
    resident: bool,
    symbolize: bool,
) -> None:
    """Write the profile so far; the capture goes on."""
    output.check_prefix(prefix)
    pids = chosen(target, pid, WRITE, every=every, children=children)
    results, errors = of_each(
        pids, lambda one: toggle.snapshot(one, prefix, form, resident=resident)
    )
    ctx.exit(finish(results, errors, form, symbolize=symbolize, family=children))
