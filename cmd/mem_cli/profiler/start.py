"""`mem_profiler start`."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING, Any

import click

from mem_cli.commands import PATH
from mem_cli.console import note, say
from mem_cli.profiler import attaching
from mem_cli.profiler.capture import LeftOut
from mem_cli.profiler.eventoptions import EventChoice, event_options
from mem_cli.profiler.options import (
    DEFAULT_RATE,
    depth_option,
    device_option,
    device_rate_option,
    start_rate_option,
)
from mem_cli.profiler.signals import Stop, on_signals
from mem_cli.profiler.target import CAPTURE, Target, chosen, scope, several_options
from mem_cli.rerun_hint import next_command, next_lines
from mem_parser import sizes
from mem_parser.errors import MemError, UsageProblem
from mem_parser.escape import one_line
from mem_profiler.capture import logkeeper, output, toggle
from mem_profiler.capture.session import Rates
from mem_profiler.process import procfs
from mem_profiler.segment import layout

if TYPE_CHECKING:
    from mem_profiler.capture.device_choice import Choice

DEFAULT_PREFIX = "./custom_prof"


@click.command(no_args_is_help=True)
@several_options
@start_rate_option
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
    every: bool,
    children: bool,
    rate: int | None,
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
    pids = chosen(target, pid, CAPTURE, every=every, children=children)
    stop = Stop()
    on_signals((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), stop)
    attached = attaching.Attached(device)
    left_out = LeftOut()
    leave_out = left_out.among(pids)
    there = attached.where_needed(pids, stop.asked, leave_out)
    begun: list[int] = []
    try:
        for process in there:
            each_rate = rate or _usual_rate(process)
            try:
                number = _begin(process, Rates(each_rate, device_rate, depth_limit, logging))
            except MemError as error:
                if leave_out is None or (process == there[-1] and not begun):
                    raise
                leave_out(error)
                continue
            begun.append(process)
            say(f"capture {number} of pid {process} is running, 1 sample / {each_rate} B")
    finally:
        attached.detach(but=begun)
    for process in begun:
        if logging is not None:
            say(f"its events go to {one_line(where)}.{process}.*.memlog")
        if toggle.ends_with_container(process):
            note(
                f"note: the capture of pid {process} ends with its container: use -s from the host,"
                " or a volume at MEM_PROFILER_DIR"
            )
    profiler = next_command("mem_profiler")
    steps = [f"stop {scope(pids, every=every)}"]
    if attached.attachments and children:
        steps.append(f"detach {scope(pids, every=every)}")
    else:
        steps += [f"detach {one.pid}" for one in attached.attachments]
    for line in next_lines([[profiler, step] for step in steps]):
        note(line)
    click.get_current_context().exit(left_out.code)


def _usual_rate(pid: int) -> int:
    """Return the rate at which the environment of a process has it captured, or the default."""
    with contextlib.suppress(ValueError):
        rate = sizes.parse_whole((procfs.environment(pid) or {}).get("MEM_PROFILER_START", ""))
        if 0 < rate <= layout.RATE_MAX_BYTES:
            return rate
    return DEFAULT_RATE


def _begin(pid: int, rates: Rates) -> int:
    """Return the number of the capture. Raises MemError."""
    if rates.logging is not None:
        return logkeeper.start(pid, rates)
    return toggle.start(pid, rates.host_bytes, rates.device_bytes, rates.depth_limit)
