"""`mem_profiler recover`."""

from __future__ import annotations

import os
import sys

import click

from mem_cli import terminal
from mem_cli.commands import PATH
from mem_cli.console import say, waiting
from mem_cli.errors import hint_of, say_error
from mem_cli.forms import form_option
from mem_cli.profiler.options import prefix_option, recovering, symbolize_option
from mem_cli.profiler.outcome import finish
from mem_cli.profiler.ps import process_lines
from mem_cli.profiler.target import PID_MAX
from mem_parser.errors import UsageProblem
from mem_parser.heapfile.form import Form
from mem_parser.memscope.settings import Settings
from mem_parser.units import counted
from mem_profiler.capture import listing, output, recover
from mem_profiler.memscope import recovery


@click.command(name="recover")
@click.argument("what", required=False, type=PATH, metavar="[PID|SEGMENT-FILE|FOLDER]")
@click.option("-p", "--pid", type=click.IntRange(1, PID_MAX), help="The process; the same as PID.")
@prefix_option
@click.option("--all", "every", is_flag=True, help="Save all; without it they are listed.")
@click.option("--empty", is_flag=True, help="Also files of processes without samples.")
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
    every: bool,
    empty: bool,
    symbolize: bool,
) -> None:
    """Save the unsaved profiles of ended processes: of one, of those below FOLDER, or --all.

    FOLDER is the MEM_PROFILER_DIR of a service. Dumps of device memory whose command was killed are
    completed too, with FOLDER those below it.
    """
    if pid is not None:
        if what is not None:
            raise UsageProblem(f"two processes given: {what} and -p {pid}")
        what = str(pid)
    if what is not None and every:
        raise UsageProblem(f"{what} and --all exclude each other")
    of_one = what is not None and not os.path.isdir(what)
    place = output.where(prefix) if of_one else output.check_prefix(prefix)
    if what is not None and os.path.isdir(what):
        ctx.exit(_every([what], prefix, form, what, empty=empty, symbolize=symbolize))
    if what is None:
        outputs = [Settings().output, *recovery.outputs_of_runs()]
        if not every:
            ctx.exit(_list(outputs))
        ctx.exit(_every(outputs, prefix, form, None, empty=empty, symbolize=symbolize))
    if what.isascii() and what.isdigit():
        results = recover.recover_pid(int(what), place, form)
    else:
        results = [recover.recover_file(what, place, form)]
    ctx.exit(finish(results, [], form, symbolize=symbolize))


def _list(outputs: list[str]) -> int:
    """Complete dumps, which stay in their folders, and list the profiles; an exit code."""
    code, count = complete_dumps(outputs)
    found = listing.listing()
    rows = [row for row in found.rows if not row.has_sampler]
    for line in process_lines(rows, terminal.columns(None) or sys.maxsize) if rows else ():
        say(line)
    if rows:
        say(f"unsaved: {len(rows) + found.more}; {recovering(None)} writes all of them here")
    elif not count:
        say("nothing to recover")
    return code


def _every(
    outputs: list[str],
    prefix: str,
    form: Form,
    root: str | None,
    *,
    empty: bool,
    symbolize: bool,
) -> int:
    """Complete dumps and save profiles, those below ``root`` if there is one; an exit code."""
    code, count = complete_dumps(outputs)
    results, errors = recover.recover_all(prefix, form, root, with_empty=empty)
    if not (results or errors or count):
        say("nothing to recover" if root is None else f"nothing to recover below {root}")
    written = [one for one in results if one.path]
    if len(results) > len(written):
        without = counted(len(results) - len(written), "profile")
        say(f"{without} without a sample: no file, which --empty would write")
    return finish(written, errors, form, symbolize=symbolize, as_table=True) or code


def complete_dumps(outputs: list[str], *, err: bool = False) -> tuple[int, int]:
    """Complete the dumps below folders, and say so; an exit code, and how many lines there were."""
    code = count = 0
    for folder in dict.fromkeys(map(os.path.abspath, outputs)):
        with waiting("completing dumps"):
            done = recovery.complete_all(folder)
        for line in done.lines:
            say(line, err=err)
        for error in done.errors:
            say_error(str(error), hint_of(error))
            code = code or error.exit_code
        count += len(done.lines) + len(done.errors)
    return code, count
