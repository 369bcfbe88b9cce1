"""`mem_profiler start`."""

from __future__ import annotations

import click

from mem_cli.invoked import next_command
from mem_cli.profiler.options import PID, depth_option, device_rate_option, rate_option
from mem_cli.say import say
from mem_profiler.capture import toggle


@click.command()
@click.argument("pid", type=PID)
@rate_option
@device_rate_option
@depth_option
def start(pid: int, rate: int, device_rate: int, depth_limit: int | None) -> None:
    """Start a capture that goes on until it is stopped."""
    number = toggle.start(pid, rate, device_rate, depth_limit)
    say(f"capture {number} of pid {pid} is running, 1 sample / {rate} B")
    say("next:")
    say(f"  {next_command('mem_profiler')} stop {pid}")
