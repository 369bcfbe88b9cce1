"""`mem_profiler start`."""

from __future__ import annotations

import signal

import click

from mem_cli.invoked import next_command, next_lines
from mem_cli.profiler import attaching
from mem_cli.profiler.options import depth_option, device_rate_option, rate_option
from mem_cli.profiler.signals import Stop, on_signals
from mem_cli.profiler.target import Target, given, pid_of, sampled, target_options
from mem_cli.say import say
from mem_profiler.capture import toggle


@click.command(no_args_is_help=True)
@target_options
@rate_option
@device_rate_option
@depth_option
def start(
    target: Target | None,
    pid: Target | None,
    rate: int,
    device_rate: int,
    depth_limit: int | None,
) -> None:
    """Start a capture that goes on until it is stopped."""
    process = pid_of(given(target, pid), sampled)
    stop = Stop()
    on_signals((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), stop)
    led = attaching.lead_to_sampler(process, stop.asked)
    number = toggle.start(process, rate, device_rate, depth_limit)
    say(f"capture {number} of pid {process} is running, 1 sample / {rate} B")
    profiler = next_command("mem_profiler")
    steps = [f"stop {process}", *([f"detach {process}"] if led else [])]
    for line in next_lines([[profiler, step] for step in steps]):
        say(line)
