"""The command `mem_profiler`: capture the heap of running processes into .heap files.

Model: click checks every option before a process is touched; each command is a few calls into the
capture side and prints what came of it. Results go to stdout (for `run`, whose program owns stdout,
to stderr), progress goes to stderr. Exit codes are those of mem_cli.errors.
"""

from __future__ import annotations

import sys

import click

from mem_cli.errors import run_command
from mem_cli.forms import form_option
from mem_cli.profiler.attach import attach
from mem_cli.profiler.capture import capture, choose
from mem_cli.profiler.clean import clean
from mem_cli.profiler.detach import detach
from mem_cli.profiler.doctor import doctor
from mem_cli.profiler.options import (
    PID,
    Seconds,
    depth_option,
    device_rate_option,
    prefix_option,
    rate_option,
    symbolize_option,
)
from mem_cli.profiler.ps import ps
from mem_cli.profiler.recover import recover_command
from mem_cli.profiler.run import run
from mem_cli.profiler.snapshot import snapshot
from mem_cli.profiler.start import start
from mem_cli.profiler.stop import stop
from mem_parser.errors import UsageProblem
from mem_parser.heapfile.form import Form
from mem_profiler import __version__
from mem_profiler.capture import output
from mem_profiler.capture.session import Rates


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-s", "seconds", type=Seconds(), help="Seconds to capture (required).")
@rate_option
@device_rate_option
@depth_option
@prefix_option
@click.option("-p", "pid", type=PID, help="Process; default: the only one with a sampler.")
@click.option("--all", "every", is_flag=True, help="Every process with a sampler, a file each.")
@form_option
@symbolize_option
@click.version_option(__version__, prog_name="mem_profiler")
@click.pass_context
def cli(  # noqa: PLR0917 - click passes options by name
    ctx: click.Context,
    seconds: float | None,
    rate: int,
    device_rate: int,
    depth_limit: int | None,
    prefix: str,
    pid: int | None,
    every: bool,
    form: Form,
    symbolize: bool,
) -> None:
    """Capture the heap of a running process: mem_profiler -s 60 -c 1024 -p PID."""
    if ctx.invoked_subcommand is not None:
        _refuse_group_options(ctx)
        return
    if seconds is None:
        raise UsageProblem(
            "-s SECONDS is missing", hint="mem_profiler -s 60 -p PID; mem_profiler --help"
        )
    if pid is not None and every:
        raise UsageProblem("-p and --all exclude each other")
    output.check_prefix(prefix)
    rates = Rates(rate, device_rate, depth_limit)
    ctx.exit(capture(choose(pid, every), seconds, rates, prefix, form, symbolize=symbolize))


def _refuse_group_options(ctx: click.Context) -> None:
    for parameter in ctx.command.params:
        name = parameter.name or ""
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise UsageProblem(
                f"{parameter.opts[0]} was given before the command {ctx.invoked_subcommand}",
                hint=f"mem_profiler {ctx.invoked_subcommand} --help",
            )


for command in (attach, clean, detach, doctor, ps, recover_command, run, snapshot, start, stop):
    cli.add_command(command)


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run_command(cli, "mem_profiler"))


if __name__ == "__main__":
    main()
