"""`mem_profiler live`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from mem_cli.commands import PATH, together
from mem_cli.forms import form_option
from mem_cli.options import all_frames_option, only_one, python_options, start_frames_option
from mem_cli.profiler.options import (
    DEFAULT_RATE,
    Bytes,
    Time,
    depth_option,
    device_option,
    device_rate_option,
    prefix_option,
)
from mem_cli.profiler.target import Target, given, pid_of, target_options
from mem_parser.heapfile.form import Form
from mem_profiler.capture import output
from mem_profiler.capture.session import Rates

if TYPE_CHECKING:
    from mem_profiler.capture.device_choice import Choice


naming_options = together(
    python_options,
    click.option(
        "--binary", type=PATH, metavar="BINARY", multiple=True, callback=only_one,
        help="The program, if it moved.",
    ),
    click.option(
        "--debug-dir", type=PATH, multiple=True, metavar="DIR",
        help="Look for debug files here too.",
    ),
    click.option(
        "--library", multiple=True, metavar="REGEX",
        help="Charge blocks of matching frames to their callers.",
    ),
    all_frames_option,
    start_frames_option,
)  # fmt: skip
"""The options that say how functions are named."""


@click.command()
@target_options
@click.option(
    "-c", "--rate", type=Bytes(),
    help=f"Bytes per sample of the capture that the view begins ({DEFAULT_RATE}).",
)  # fmt: skip
@device_option
@device_rate_option
@depth_option
@click.option("--interval", type=Time(), default=1.0, help="Seconds between two refreshes (1).")
@click.option("--ssh", "host", metavar="HOST", help="Do it there, by ssh -t HOST.")
@prefix_option
@form_option
@naming_options
def live(  # noqa: PLR0917 - click passes options by name
    target: Target | None,
    pid: Target | None,
    rate: int | None,
    device: Choice | None,
    device_rate: int,
    depth_limit: int | None,
    interval: float,
    host: str | None,
    prefix: str,
    form: Form,
    **naming: Any,
) -> None:
    r"""Watch a process in the terminal: who holds its memory, and what changes.

    Without a process there is a list to choose from. Where no capture runs, the view begins one,
    and attaches first if need be; both end with it. ? shows the keys.

    \b
    mem_profiler live redis-server
    mem_profiler live 4711 -c 64K
    """
    from mem_cli.live import needs
    from mem_cli.live.choices import filters_of, naming_of

    if host is not None:
        from mem_cli.live.ssh import become

        become(host, sys.argv[1:])
    source = click.get_current_context().get_parameter_source("prefix")
    if source is ParameterSource.COMMANDLINE:  # else nobody may want a file
        output.check_prefix(prefix)
    needs.check()
    from mem_cli.live.viewing import Choice, watch

    rates = Rates(rate or DEFAULT_RATE, device_rate, depth_limit)
    choice = Choice(
        rates, prefix, interval, form, naming_of(naming), filters_of(naming), rate is not None,
        device,
    )  # fmt: skip
    if target is None and pid is None:
        from mem_cli.live.choosing import choose

        needs.agree_on_colour()
        number = choose()
        if number is None:
            return
    else:
        number = pid_of(given(target, pid))
    watch(number, choice)
