"""`mem_profiler attach`."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import click

from mem_cli.profiler import attaching
from mem_cli.profiler.options import Bytes, device_option
from mem_cli.profiler.signals import Stop, on_signals
from mem_cli.profiler.target import Target, given, pid_of, target_options
from mem_parser.errors import UsageProblem

if TYPE_CHECKING:
    from mem_profiler.capture.device_choice import Choice

_OF_MEMRAY = {"-o", "--output", "-f", "--force", "--duration", "--aggregate", "--method"}


class _Attach(click.Command):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if error.option_name not in _OF_MEMRAY:
                raise
            raise UsageProblem(
                "attach only loads the sampler, and writes no file",
                hint="mem_profiler -s 60 -o PREFIX -p PID attaches, captures 60 s and writes one",
            ) from None


@click.command(cls=_Attach, no_args_is_help=True)
@target_options
@click.option(
    "-c", "--rate", type=Bytes(), help="Also start a capture, with this many bytes per sample."
)
@device_option
def attach(
    target: Target | None, pid: Target | None, rate: int | None, device: Choice | None
) -> None:
    """Load the sampler into a running process."""
    number = pid_of(given(target, pid))
    stop = Stop()
    on_signals((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), stop)
    attaching.attach_by_hand(number, rate, device, stop.asked)
