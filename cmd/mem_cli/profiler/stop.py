"""`mem_profiler stop`."""

from __future__ import annotations

import click

from mem_cli.console import note
from mem_cli.forms import form_option
from mem_cli.profiler.options import prefix_option, resident_option, symbolize_option
from mem_cli.profiler.outcome import finish, of_each
from mem_cli.profiler.target import WRITE, Target, chosen, given, several_options
from mem_cli.rerun_hint import next_command
from mem_parser.heapfile.form import Form
from mem_profiler.attach import is_attached
from mem_profiler.capture import output, toggle


@click.command(no_args_is_help=True)
@several_options
@prefix_option
@resident_option
@form_option
@symbolize_option
@click.pass_context
def stop(
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
    """End a capture and write its file."""
    output.check_prefix(prefix)
    pids = chosen(target, pid, WRITE, every=every, children=children)
    results, errors = of_each(pids, lambda one: toggle.stop(one, prefix, form, resident=resident))
    code = finish(results, errors, form, symbolize=symbolize, family=children)
    hooked = [one.pid for one in results if is_attached(one.pid)]
    left = {f"pid {one}": str(one) for one in hooked}
    if children and len(hooked) > 1:
        left = {f"{len(hooked)} processes": f"{given(target, pid)} --children"}
    for where, words in left.items():
        detach = f"{next_command('mem_profiler')} detach {words}"
        note(f"note: the sampler's hooks are still in {where}; {detach} removes them")
    ctx.exit(code)
