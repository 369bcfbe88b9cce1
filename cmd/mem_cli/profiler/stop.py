"""`mem_profiler stop`."""

from __future__ import annotations

import click

from mem_cli.forms import form_option
from mem_cli.profiler.options import PID, prefix_option, symbolize_option
from mem_cli.profiler.outcome import finish
from mem_parser.heapfile.form import Form
from mem_profiler.capture import output, toggle


@click.command()
@click.argument("pid", type=PID)
@prefix_option
@form_option
@symbolize_option
@click.pass_context
def stop(ctx: click.Context, pid: int, prefix: str, form: Form, *, symbolize: bool) -> None:
    """End a capture and write its file."""
    output.check_prefix(prefix)
    ctx.exit(finish([toggle.stop(pid, prefix, form)], [], form, symbolize=symbolize))
