"""`mem_profiler start`."""

from __future__ import annotations

import click

from mem_cli.invoked import next_command, next_lines
from mem_cli.profiler.options import depth_option, device_rate_option, rate_option
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
    number = toggle.start(process, rate, device_rate, depth_limit)
    say(f"capture {number} of pid {process} is running, 1 sample / {rate} B")
    for line in next_lines([[next_command("mem_profiler"), f"stop {process}"]]):
        say(line)
