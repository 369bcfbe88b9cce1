"""The command `mem_profiler`: capture the heap of running processes into .heap files.

Model: click checks every option before a process is touched; each command is a few calls into the
capture side and prints what came of it. Results go to stdout (for `run`, whose program owns stdout,
to stderr), progress goes to stderr. Exit codes are those of mem_cli.errors.
"""

from __future__ import annotations

import dataclasses
import math
import re
import signal
import sys
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

import click

from mem_cli.embedding import embed_names
from mem_cli.errors import run_command, say_error
from mem_cli.parser.budget import Gate, output_options, refuse_outputs
from mem_cli.profiler import attaching, capture_view
from mem_cli.profiler.doctor import doctor
from mem_cli.say import say
from mem_parser.errors import MemError, UsageProblem
from mem_profiler import __version__
from mem_profiler.capture import launch, listing, output, recover, session, toggle
from mem_profiler.capture.saving import Result
from mem_profiler.capture.session import Rates
from mem_profiler.process import device_choice
from mem_profiler.segment import discovery

RATE_MAX_BYTES = 1 << 30
SECONDS_MAX = 1e8


class Bytes(click.ParamType[int]):
    """A number of bytes, with K, M or G as powers of 1024."""

    name = "BYTES"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        """The number of bytes."""
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"(\d{1,18})([KMG]?)(?:i?B)?", str(value), re.IGNORECASE | re.ASCII)
        if found is None:
            self.fail(f"{value!r} is not a number of bytes such as 1024, 512K or 1M", param, ctx)
        number = int(found[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[found[2].upper()]
        if not 1 <= number <= RATE_MAX_BYTES:
            self.fail(f"{value!r} is not between 1 and 1G bytes", param, ctx)
        return number


class Seconds(click.ParamType[float]):
    """A positive time in seconds; fractions are allowed."""

    name = "SECONDS"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """The number of seconds."""
        try:
            number = float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        if not math.isfinite(number) or not 0 < number <= SECONDS_MAX:
            self.fail(f"{value!r} is not a positive number of seconds", param, ctx)
        return number


PID = click.IntRange(1, (1 << 31) - 1)
DEFAULT_RATE = 1024
rate_option = click.option(
    "-c",
    "rate",
    type=Bytes(),
    default=DEFAULT_RATE,
    show_default=True,
    help="Bytes per sample (512K, 1M).",
)
device_rate_option = click.option(
    "--device-rate",
    type=Bytes(),
    default=1,
    help="Bytes per sample of device memory; by default every block.",
)
device_option = click.option(
    "--device",
    metavar="LIST",
    help="Device memory to follow: auto, none, or of hal,cuda,hip,opencl,vulkan,ze.",
)
prefix_option = click.option(
    "-o", "prefix", default="./custom_prof", show_default=True, help="Path and prefix of files."
)
symbolize_option = click.option(
    "--symbolize", is_flag=True, help="Put names into the file, for machines without the program."
)


class Stop:
    """Turns signals into a wish to end, which the capture loop looks at.

    Who asks once more than `patience` does not want to wait for the file: what is being done is
    broken off, but for putting the target back. Who asks again ends the process at once. What was
    captured is still in the segment.
    """

    def __init__(self, patience: float = 2) -> None:
        self.wanted = False
        self._patience = patience

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        """Handle a signal."""
        self.wanted = True
        self._patience -= 1
        if self._patience < 0:
            signal.signal(number, signal.SIG_DFL)
            raise KeyboardInterrupt

    def be_short(self) -> None:
        """From now on nobody else but us is meant."""
        self._patience = min(self._patience, 2)

    def asked(self) -> bool:
        """Whether somebody asked to end."""
        return self.wanted


def _on_signals(numbers: Iterable[int], handler: Callable[[int, FrameType | None], None]) -> None:
    for number in numbers:
        signal.signal(number, handler)


def _finish(
    results: list[Result],
    errors: list[MemError],
    *,
    symbolize: bool,
    of_run: bool = False,
    quiet: bool = False,
) -> int:
    """Print what became of captures; ``quiet``: only what is no ordinary success."""
    if symbolize:
        embed_names(one for result in results for one in (result, *result.devices))
    for result in results:
        for line in capture_view.result_lines(result, awaited=of_run):
            if quiet and line.startswith(capture_view.SUCCESS):
                break
            say(line, err=of_run)
    for error in errors:
        say_error(str(error), error.hint)
    return errors[0].exit_code if errors else 0


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-s", "seconds", type=Seconds(), help="Seconds to capture (required).")
@rate_option
@device_rate_option
@prefix_option
@click.option("-p", "pid", type=PID, help="Process; default: the only one with a sampler.")
@click.option("--all", "every", is_flag=True, help="Every process with a sampler, a file each.")
@symbolize_option
@click.version_option(__version__, prog_name="mem_profiler")
@click.pass_context
def cli(  # noqa: PLR0917 - click passes options by name
    ctx: click.Context,
    seconds: float | None,
    rate: int,
    device_rate: int,
    prefix: str,
    pid: int | None,
    every: bool,
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
        raise UsageProblem("-p and --all do not go together")
    output.check_prefix(prefix)
    rates = Rates(rate, device_rate)
    ctx.exit(_capture(_choose(pid, every), seconds, rates, prefix, symbolize=symbolize))


def _refuse_group_options(ctx: click.Context) -> None:
    for parameter in ctx.command.params:
        name = parameter.name or ""
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise UsageProblem(
                f"{parameter.opts[0]} stands before the command {ctx.invoked_subcommand}",
                hint=f"mem_profiler {ctx.invoked_subcommand} --help",
            )


def _choose(pid: int | None, every: bool) -> list[int]:
    if pid is not None:
        return [pid]
    if not every:
        return [discovery.the_only_process()]
    pids = []
    for found, segment in discovery.running():
        segment.close()
        pids.append(found)
    if not pids:
        discovery.the_only_process()  # says that there is none
    return pids


def _say_left_out(error: MemError) -> None:
    say_error(f"left out: {error}", error.hint)


def _capture_sessions(
    pids: list[int],
    seconds: float,
    rates: Rates,
    prefix: str,
    *,
    stop: Stop,
    attached: attaching.Attached,
) -> tuple[list[Result], list[MemError]]:
    leave_out = None if len(pids) == 1 else _say_left_out
    sessions = session.open_all(pids, leave_out)
    try:
        for one in sessions:
            say(capture_view.target_line(one, rates.host_bytes), err=True)
        with capture_view.CaptureProgress(sessions, seconds) as progress:

            def on_tick(gone: float) -> None:
                progress.show(gone)
                attached.tick()

            end = session.run(sessions, rates, seconds, stop.asked, on_tick, leave_out=leave_out)
        for one in sessions:
            one.notes += attached.notes(one.pid)
    except BaseException:
        for one in sessions:
            one.abandon()
        raise
    return session.write_all(sessions, prefix, end)


def _capture(pids: list[int], seconds: float, rates: Rates, prefix: str, *, symbolize: bool) -> int:
    stop = Stop()
    _on_signals((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), stop)
    attached = attaching.Attached()
    attached.where_needed(pids, stop.asked)
    try:
        results, errors = _capture_sessions(
            pids, seconds, rates, prefix, stop=stop, attached=attached
        )
    finally:
        attached.detach()
    return _finish(results, errors, symbolize=symbolize)


@cli.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option(
    "-c",
    "rate",
    type=Bytes(),
    help="Bytes per sample (512K, 1M): 1024, or what the budget needs.",
)
@device_option
@device_rate_option
@prefix_option
@click.option("--children", is_flag=True, help="Capture child processes too, a file each.")
@click.option("--keep-pymalloc", is_flag=True, help="Leave PYTHONMALLOC as it is.")
@symbolize_option
@click.option("--budget", metavar="CHECK.toml", help="Hold the capture against a memory budget.")
@click.option(
    "--tries",
    type=click.IntRange(1, 20),
    metavar="N",
    help="With --budget: run at most so often while it is inconclusive (3).",
)
@output_options
@click.argument(
    "arguments", nargs=-1, required=True, type=click.UNPROCESSED, metavar="PROG [ARGS]..."
)
@click.pass_context
def run(  # noqa: PLR0917 - click passes options by name
    ctx: click.Context,
    /,
    rate: int | None,
    device: str | None,
    device_rate: int,
    prefix: str,
    children: bool,
    keep_pymalloc: bool,
    symbolize: bool,
    budget: str | None,
    tries: int | None,
    arguments: tuple[str, ...],
    **outputs: Any,
) -> None:
    """Start a program with the sampler; capture it from start to exit."""
    output.check_prefix(prefix)
    chosen = None if device is None else device_choice.parse(device)
    options = launch.Options(
        rate or DEFAULT_RATE, prefix, children, keep_pymalloc, device_rate,
        exact_peak=budget is not None, device=chosen,
    )  # fmt: skip
    if budget is None:
        refuse_outputs({"tries": tries, **outputs})
        outcome, _ = _run(arguments, options)
        code = _finish(outcome.results, outcome.errors, symbolize=symbolize, of_run=True)
        ctx.exit(outcome.status or code)
    gate = Gate(budget, rate, tries, outputs)
    while True:
        outcome, stopped = _run(arguments, dataclasses.replace(options, rate_bytes=gate.rate))
        results, errors = outcome.results, outcome.errors
        code = _finish(results, errors, symbolize=symbolize, of_run=True, quiet=True)
        # The program's own exit code comes first, then what went wrong with its capture.
        code = outcome.status or code
        last = stopped or bool(code)
        if not gate.take([result.path for result in results], last=last, code=code):
            break
    ctx.exit(code or gate.exit_code)


def _run(arguments: tuple[str, ...], options: launch.Options) -> tuple[launch.Outcome, bool]:
    """Run a program once, to its end. Returns how it went, and whether somebody asked to end."""
    running: list[launch.Run] = []
    early = Stop(math.inf)  # the program may want every one of them for itself

    def forward(number: int, frame: FrameType | None) -> None:
        early(number, frame)
        for one in running:
            one.forward(number)

    # A Ctrl-C reaches the program from the terminal; we live on to write the file.
    _on_signals((signal.SIGINT, signal.SIGQUIT), early)
    _on_signals((signal.SIGTERM, signal.SIGHUP), forward)
    one = launch.Run(arguments, options)
    running.append(one)
    if early.wanted:
        one.forward(signal.SIGTERM)
    status = one.follow(lambda _gone: None)
    early.be_short()
    return one.finish(status), early.wanted


@cli.command()
def ps() -> None:
    """List every process with a sampler, and what dead ones left."""
    found = listing.listing()
    if not found.rows:
        say("no process with a sampler; mem_profiler run -- PROG ARGS starts one")
        return
    for line in capture_view.process_lines(found.rows):
        say(line)
    if found.more:
        say(f"and {found.more} more: recover writes what holds a capture, clean removes the rest")


@cli.command()
@click.argument("pid", type=PID)
@click.option(
    "-c", "rate", type=Bytes(), help="Start a capture too, with so many bytes per sample."
)
def attach(pid: int, rate: int | None) -> None:
    """Put the sampler into a process that runs without it."""
    stop = Stop()
    _on_signals((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), stop)
    attaching.attach_by_hand(pid, rate, stop.asked)


@cli.command()
@click.argument("pid", type=PID)
def detach(pid: int) -> None:
    """Take the sampler's hooks out of a process that was attached to."""
    attaching.detach_by_hand(pid)


@cli.command()
@click.argument("pid", type=PID)
@rate_option
@device_rate_option
def start(pid: int, rate: int, device_rate: int) -> None:
    """Start a capture that goes on until it is stopped."""
    number = toggle.start(pid, rate, device_rate)
    say(f"capture {number} of pid {pid} runs, 1 sample / {rate} B")
    say("next:")
    say(f"  mem_profiler stop {pid}")


@cli.command()
@click.argument("pid", type=PID)
@prefix_option
@symbolize_option
@click.pass_context
def stop(ctx: click.Context, pid: int, prefix: str, *, symbolize: bool) -> None:
    """End a capture and write its file."""
    output.check_prefix(prefix)
    ctx.exit(_finish([toggle.stop(pid, prefix)], [], symbolize=symbolize))


@cli.command()
@click.argument("pid", type=PID)
@prefix_option
@symbolize_option
@click.pass_context
def snapshot(ctx: click.Context, pid: int, prefix: str, *, symbolize: bool) -> None:
    """Write what a capture has so far; the capture goes on."""
    output.check_prefix(prefix)
    ctx.exit(_finish([toggle.snapshot(pid, prefix)], [], symbolize=symbolize))


@cli.command(name="recover")
@click.argument("what", required=False, metavar="[PID|SEGMENT-FILE]")
@prefix_option
@symbolize_option
@click.pass_context
def recover_command(ctx: click.Context, what: str | None, prefix: str, *, symbolize: bool) -> None:
    """Write files from segments whose process is gone."""
    output.check_prefix(prefix)
    if what is None:
        results, errors = recover.recover_all(prefix)
        if not results and not errors:
            say("nothing to recover")
    elif what.isascii() and what.isdigit():
        results, errors = recover.recover_pid(int(what), prefix), []
    else:
        results, errors = [recover.recover_file(what, prefix)], []
    ctx.exit(_finish(results, errors, symbolize=symbolize))


@cli.command()
@click.option("--all", "everything", is_flag=True, help="Also what was never written.")
def clean(everything: bool) -> None:
    """Remove the segments that dead processes left."""
    count, held, kept = recover.clean(everything=everything)
    say(f"removed {count} segments, {capture_view.size(held)}")
    for found in kept:
        pid = found.control.number("pid")
        say(f"kept {found.path}, not written yet: mem_profiler recover {pid}")


cli.add_command(doctor)


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run_command(cli, "mem_profiler"))


if __name__ == "__main__":
    main()
