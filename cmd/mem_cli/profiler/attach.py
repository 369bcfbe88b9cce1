"""`mem_profiler attach`."""

from __future__ import annotations

import signal

import click

from mem_cli.profiler import attaching
from mem_cli.profiler.options import PID, Bytes
from mem_cli.profiler.signals import Stop, on_signals


@click.command()
@click.argument("pid", type=PID)
@click.option(
    "-c", "rate", type=Bytes(), help="Also start a capture, with this many bytes per sample."
)
def attach(pid: int, rate: int | None) -> None:
    """Put the sampler into a process that runs without it."""
    stop = Stop()
    on_signals((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), stop)
    attaching.attach_by_hand(pid, rate, stop.asked)
