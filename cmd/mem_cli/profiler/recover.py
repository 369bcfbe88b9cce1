"""`mem_profiler recover`."""

from __future__ import annotations

import click

from mem_cli.commands import PATH
from mem_cli.forms import form_option
from mem_cli.profiler.options import prefix_option, symbolize_option
from mem_cli.profiler.outcome import finish
from mem_cli.profiler.target import PID_MAX
from mem_cli.say import say
from mem_parser.errors import UsageProblem
from mem_parser.heapfile.form import Form
from mem_profiler.capture import output, recover


@click.command(name="recover")
@click.argument("what", required=False, type=PATH, metavar="[PID|SEGMENT-FILE]")
@click.option("-p", "--pid", type=click.IntRange(1, PID_MAX), help="The process; the same as PID.")
@prefix_option
@form_option
@symbolize_option
@click.pass_context
def recover_command(
    ctx: click.Context,
    what: str | None,
    pid: int | None,
    prefix: str,
    form: Form,
    *,
    symbolize: bool,
) -> None:
    """Write files from segments whose process is gone."""
    output.check_prefix(prefix)
    if pid is not None:
        if what is not None:
            raise UsageProblem(f"two processes given: {what} and -p {pid}")
        what = str(pid)
    if what is None:
        results, errors = recover.recover_all(prefix, form)
        if not results and not errors:
            say("nothing to recover")
    elif what.isascii() and what.isdigit():
        results, errors = recover.recover_pid(int(what), prefix, form), []
    else:
        results, errors = [recover.recover_file(what, prefix, form)], []
    ctx.exit(finish(results, errors, form, symbolize=symbolize))
