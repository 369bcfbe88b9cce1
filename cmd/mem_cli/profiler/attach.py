"""`mem_profiler attach`."""

from __future__ import annotations

import signal

import click

from mem_cli.profiler import attaching
from mem_cli.profiler.options import Bytes
from mem_cli.profiler.signals import Stop, on_signals
from mem_cli.profiler.target import Target, given, pid_of, target_options
from mem_parser.errors import UsageProblem


@click.command(no_args_is_help=True)
@target_options
@click.option(
    "-c", "--rate", type=Bytes(), help="Also start a capture, with this many bytes per sample."
)
@click.option("-o", "--output", hidden=True, metavar="FILE")
@click.option("--duration", hidden=True, metavar="S")
@click.option("--aggregate", hidden=True, is_flag=True)
@click.option("-f", "--force", hidden=True, is_flag=True, expose_value=False)
def attach(
    target: Target | None, pid: Target | None, rate: int | None, **of_memray: str | bool | None
) -> None:
    """Load the sampler into a running process."""
    if any(of_memray.values()):
        raise UsageProblem(
            "attach only loads the sampler, and writes no file",
            hint="mem_profiler -s 60 -o PREFIX -p PID attaches, captures 60 s and writes one",
        )
    number = pid_of(given(target, pid))
    stop = Stop()
    on_signals((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), stop)
    attaching.attach_by_hand(number, rate, stop.asked)
