"""`mem_profiler start`."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import click

from mem_cli.commands import PATH
from mem_cli.console import note, say
from mem_cli.profiler import attaching
from mem_cli.profiler.eventoptions import EventChoice, event_options
from mem_cli.profiler.options import (
    depth_option,
    device_option,
    device_rate_option,
    rate_option,
)
from mem_cli.profiler.signals import Stop, on_signals
from mem_cli.profiler.target import Target, given, pid_of, target_options
from mem_cli.rerun_hint import next_command, next_lines
from mem_parser.errors import UsageProblem
from mem_parser.escape import one_line
from mem_profiler.capture import logkeeper, output, toggle
from mem_profiler.capture.session import Rates

if TYPE_CHECKING:
    from mem_profiler.capture.device_choice import Choice

DEFAULT_PREFIX = "./custom_prof"


@click.command(no_args_is_help=True)
@target_options
@rate_option
@device_option
@device_rate_option
@depth_option
@click.option(
    "-o", "--output", "prefix", type=PATH, metavar="PREFIX",
    help="With --events: path and prefix of the log.  [default: ./custom_prof]",
)  # fmt: skip
@event_options
def start(
    target: Target | None,
    pid: Target | None,
    *,
    rate: int,
    device: Choice | None,
    device_rate: int,
    depth_limit: int | None,
    prefix: str | None,
    **events: Any,
) -> None:
    """Start a capture that goes on until it is stopped.

    It loads the sampler if need be, as -s does.
    """
    where = prefix or DEFAULT_PREFIX
    logging = EventChoice.take(events).logging(where)
    if logging is not None:
        output.check_prefix(where)
    elif prefix is not None:
        raise UsageProblem(
            "-o is for --events; the file of the capture gets its name at the end",
            hint=f"mem_profiler stop PID -o {prefix}",
        )
    process = pid_of(given(target, pid))
    stop = Stop()
    on_signals((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), stop)
    attached = attaching.Attached(device)
    attached.where_needed([process], stop.asked)
    try:
        if logging is not None:
            rates = Rates(rate, device_rate, depth_limit, logging)
            number = logkeeper.start(process, rates)
        else:
            number = toggle.start(process, rate, device_rate, depth_limit)
    except BaseException:
        attached.detach()
        raise
    say(f"capture {number} of pid {process} is running, 1 sample / {rate} B")
    if logging is not None:
        say(f"its events go to {one_line(where)}.{process}.*.memlog")
    if toggle.ends_with_container(process):
        note(
            f"note: the capture of pid {process} ends with its container: use -s from the host,"
            " or a volume at MEM_PROFILER_DIR"
        )
    profiler = next_command("mem_profiler")
    steps = [f"stop {process}", *([f"detach {process}"] if attached.attachments else [])]
    for line in next_lines([[profiler, step] for step in steps]):
        note(line)
