"""`mem_profiler recover`."""

from __future__ import annotations

import click

from mem_cli.forms import form_option
from mem_cli.profiler.options import prefix_option, symbolize_option
from mem_cli.profiler.outcome import finish
from mem_cli.say import say
from mem_parser.heapfile.form import Form
from mem_profiler.capture import output, recover


@click.command(name="recover")
@click.argument("what", required=False, metavar="[PID|SEGMENT-FILE]")
@prefix_option
@form_option
@symbolize_option
@click.pass_context
def recover_command(
    ctx: click.Context, what: str | None, prefix: str, form: Form, *, symbolize: bool
) -> None:
    """Write files from segments whose process is gone."""
    output.check_prefix(prefix)
    if what is None:
        results, errors = recover.recover_all(prefix, form)
        if not results and not errors:
            say("nothing to recover")
    elif what.isascii() and what.isdigit():
        results, errors = recover.recover_pid(int(what), prefix, form), []
    else:
        results, errors = [recover.recover_file(what, prefix, form)], []
    ctx.exit(finish(results, errors, form, symbolize=symbolize))
