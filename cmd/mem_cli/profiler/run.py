"""`mem_profiler run`."""

from __future__ import annotations

import dataclasses
import math
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from mem_cli.budget_report import output_options, refuse_outputs
from mem_cli.commands import PATH
from mem_cli.console import is_quiet, note, quiet_option, say, waiting
from mem_cli.errors import shell_code
from mem_cli.forms import form_option
from mem_cli.profiler import capture_view
from mem_cli.profiler.eventoptions import EventChoice, event_options
from mem_cli.profiler.gate import Gate
from mem_cli.profiler.options import (
    DEFAULT_RATE,
    Bytes,
    depth_option,
    device_option,
    device_rate_option,
    max_total_option,
    symbolize_option,
)
from mem_cli.profiler.outcome import finish
from mem_cli.profiler.signals import Stop, on_signals
from mem_cli.profiler.started import ProgramCommand, command_line, note_on_python
from mem_parser.errors import MemError, NoSampler, UsageProblem, one_line
from mem_parser.heapfile.form import Form

if TYPE_CHECKING:
    from mem_profiler.capture import launch
    from mem_profiler.capture.device_choice import Choice
    from mem_profiler.capture.unloaded import Behind, Unloaded
    from mem_profiler.doctor import Finding

_SOON_S = 30.0
"""A Python that did not find a module has ended by then."""


@click.command(
    cls=ProgramCommand,
    context_settings={"allow_interspersed_args": False},
    params=[quiet_option("Say nothing of a capture that went well.")],
)
@click.option(
    "-c",
    "--rate",
    type=Bytes(),
    help="Bytes per sample (512K, 1M): 1024, or what the budget needs.",
)
@device_option
@device_rate_option
@depth_option
@click.option(
    "-o",
    "--output",
    type=PATH,
    default="./custom_prof",
    show_default=True,
    metavar="PREFIX",
    help="Path and prefix of files; NAME.heap (or NAME.bin): the file itself.",
)
@click.option("-f", "--force", is_flag=True, help="Replace the file of -o NAME.heap.")
@click.option(
    "--children", "--follow-fork", is_flag=True, help="Capture child processes too, a file each."
)
@max_total_option
@event_options
@click.option(
    "--no-pymalloc",
    is_flag=True,
    help="See small Python objects by PYTHONMALLOC=malloc, not by hooks: slower.",
)
@click.option("--keep-pymalloc", is_flag=True, help="Do not see small Python objects.")
@click.option(
    "--trace-python-allocators",
    is_flag=True,
    help="See small objects of Python (the default, but see --keep-pymalloc).",
)
@click.option("--native", is_flag=True, help="Native frames are always kept; changes nothing.")
@click.option("--aggregate", is_flag=True, help="Files are always aggregated; changes nothing.")
@click.option("--live", is_flag=True, help="Watch it in the terminal; its output goes to a file.")
@click.option("--live-remote", is_flag=True, hidden=True)
@form_option
@symbolize_option
@click.option(
    "--budget", type=PATH, metavar="CHECK.toml", help="Check the capture against a memory budget."
)
@click.option(
    "--tries",
    type=click.IntRange(1, 20),
    metavar="N",
    help="With --budget: run at most N times while the verdict is inconclusive (3).",
)
@output_options
@click.argument(
    "arguments", nargs=-1, required=True, type=click.UNPROCESSED,
    metavar="(PROG | SCRIPT.py | -m MODULE | -c CODE) [ARGS]...",
)  # fmt: skip
@click.pass_context
def run(  # noqa: PLR0917 - click passes options by name
    ctx: click.Context,
    /,
    rate: int | None,
    device: Choice | None,
    device_rate: int,
    depth_limit: int | None,
    children: bool,
    max_total: int | None,
    no_pymalloc: bool,
    keep_pymalloc: bool,
    form: Form,
    symbolize: bool,
    budget: str | None,
    tries: int | None,
    arguments: tuple[str, ...],
    **outputs: Any,
) -> None:
    r"""Run a program and capture it from start to exit.

    The command ends as the program does, of the same signal too; with --budget, 128 + its number.

    Of a shell, timeout, make or another launcher the files are of what it starts.

    \b
    mem_profiler run PROG ARGS
    mem_profiler run script.py ARGS
    mem_profiler run -m module ARGS
    """
    from mem_profiler.capture import launch, launched, output
    from mem_profiler.process import program

    given = _Given(**{field.name: outputs.pop(field.name) for field in dataclasses.fields(_Given)})
    given.check(keep_pymalloc=keep_pymalloc)
    if no_pymalloc and keep_pymalloc:
        raise UsageProblem("--no-pymalloc and --keep-pymalloc exclude each other")
    place = output.where(given.output, replace=given.force)
    events = EventChoice.take(outputs)
    if budget is not None and isinstance(place, output.ExactFile):
        raise UsageProblem(
            f"-o {given.output} names one file, and --budget may write several",
            hint=f"-o {os.path.splitext(given.output)[0]}",
        )
    words, arguments = arguments, tuple(command_line(arguments))
    options = launch.Options(
        rate or DEFAULT_RATE, place, children, no_pymalloc, keep_pymalloc, device_rate,
        device=device, form=form, depth_limit=depth_limit, max_total_bytes=max_total,
        logging=events.logging(place),
    )  # fmt: skip
    if given.live and budget is not None:
        raise UsageProblem("--live and --budget exclude each other")
    if budget is None:
        refuse_outputs({"tries": tries, **outputs})
        if given.live:
            outcome = _run_live(arguments, options)
        else:
            outcome, _ = run_to_end(arguments, lambda: launch.Run(arguments, options))
        _note_python(words, outcome)
        code = finish(
            outcome.results, outcome.errors, form,
            symbolize=symbolize, of_run=True, brief=is_quiet(), program_pid=outcome.pid,
        )  # fmt: skip
        ctx.exit(outcome.status or code)
    gate = Gate(budget, rate, tries, outputs)
    if not children and launched.of_command(program.check(arguments[0]), arguments) is None:
        gate.warn_of_targets(arguments)
    while True:
        wanted = dataclasses.replace(options, rate_bytes=gate.rate, look_for_clients=True)
        outcome, stopped = run_to_end(arguments, lambda: launch.Run(arguments, wanted))  # noqa: B023 - called at once
        _note_python(words, outcome)
        results, errors = outcome.results, outcome.errors
        code = finish(
            results, errors, form, symbolize=symbolize or gate.needs_names, of_run=True, brief=True
        )
        # The program's own exit code comes first, then what went wrong with its capture.
        code = shell_code(outcome.status) or code
        last = stopped or bool(code)
        if not gate.take(
            results,
            last=last,
            code=code,
            driven_from_outside=outcome.driven_from_outside,
        ):
            break
    ctx.exit(code or gate.exit_code)


@dataclasses.dataclass
class _Given:
    """Options that only `run` has, most of them under the names that memray has for them."""

    output: str
    force: bool
    trace_python_allocators: bool
    native: bool
    aggregate: bool
    live: bool
    live_remote: bool

    def check(self, *, keep_pymalloc: bool) -> None:
        """Raise MemError for what cannot be done."""
        if self.live_remote:
            raise UsageProblem(
                "--live-remote: any program that runs can be watched, from another terminal too",
                hint="mem_profiler run PROG ARGS, and beside it: mem_profiler live PID",
            )
        if self.live:
            from mem_cli.live import needs

            needs.check()
        if self.trace_python_allocators and keep_pymalloc:
            raise UsageProblem("--trace-python-allocators and --keep-pymalloc exclude each other")


def _run_live(arguments: tuple[str, ...], options: launch.Options) -> launch.Outcome:
    """Run a program once, to its end, and show it."""
    from mem_cli.live import starting
    from mem_profiler.capture import launch

    output = starting.output_file(options)
    try:
        wanted = dataclasses.replace(options, output_fd=output.fd)
        outcome, _ = run_to_end(
            arguments,
            lambda: launch.Run(arguments, wanted),
            lambda one: starting.view(one, wanted, output),
        )
        return outcome
    finally:
        output.close()


def run_to_end(
    arguments: tuple[str, ...],
    begin: Callable[[], launch.Run],
    view: Callable[[launch.Run], None] = lambda _one: None,
) -> tuple[launch.Outcome, bool]:
    """Run a program once, to its end; ``begin`` starts it, and ``view`` may show it meanwhile.
    Returns how it went, and whether somebody asked to end.
    """
    from mem_profiler.doctor import LEFT_OUT
    from mem_profiler.doctor.examine import refuse_checker

    running: list[launch.Run] = []
    early = Stop(math.inf)  # the program may want every one of them for itself

    def forward(number: int, frame: FrameType | None) -> None:
        early(number, frame)
        for one in running:
            one.forward(number)

    # A Ctrl-C reaches the program from the terminal; we live on to write the file.
    on_signals((signal.SIGINT, signal.SIGQUIT), early)
    on_signals((signal.SIGTERM, signal.SIGHUP), forward)
    with waiting(f"examining {arguments[0]}"):
        refuse_checker(arguments[0])
        one = begin()
    one.strays.why = why_stray
    running.append(one)
    if early.wanted:
        one.forward(signal.SIGTERM)
    view(one)
    status = one.follow(lambda _gone: None)
    early.be_short()
    outcome = one.finish(status)
    if outcome.unloaded is not None:
        found = _why_unloaded(outcome.unloaded, outcome.status)
        # Whoever names the program to sample with MEM_PROFILER_ONLY means to leave out its starter.
        if not (found.check == LEFT_OUT and outcome.results):
            outcome.errors.insert(0, _unloaded_error(outcome.unloaded, found))
    outcome.errors += map(_why_behind, outcome.behind)
    for line in _uncaptured_lines(outcome):
        note(line, err=True)
    for room in outcome.rooms:
        say(capture_view.room_line(room), err=True)
    return outcome, early.wanted


def _note_python(words: tuple[str, ...], outcome: launch.Outcome) -> None:
    """Say which Python was meant, where one may not have found a module."""
    took_s = max((result.duration_s for result in outcome.results), default=0.0)
    if outcome.status == 1 and took_s < _SOON_S and (text := note_on_python(words)):
        note(f"note: {text}", err=True)


def _uncaptured_lines(outcome: launch.Outcome) -> Iterator[str]:
    """The notes on which processes have a file; those of one reason are one note."""
    from mem_profiler.capture.unloaded import Behind

    reasons = Counter(map(str, outcome.uncaptured))
    for program, count in Counter(one.path for one in outcome.children_behind).items():
        words = next(one.words for one in outcome.children_behind if one.path == program)
        reasons[str(_why_behind(Behind(program, words)))] += count
    for text in outcome.notes:
        yield f"note: {one_line(text)}"
    for text, count in reasons.most_common():
        yield f"note: {text}{f' ({count} processes)' if count > 1 else ''}"


def _why_behind(program: Behind) -> MemError:
    """The error for a program whose own malloc was before the sampler, with the way to see it."""
    from mem_profiler.doctor import reason_behind

    found = reason_behind(program.path, program.words)
    name = os.path.basename(program.path)
    return NoSampler(f"{name} ended without a capture: {found.text}", hint=found.cure or None)


def _why_unloaded(program: Unloaded, status: int | None = None) -> Finding:
    """The doctor's reason why a program ended without the sampler."""
    from mem_profiler.capture import preload
    from mem_profiler.doctor import reason

    return reason(program.path, program.environment, program.uids, preload.library(), status)


def why_stray(program: Unloaded) -> str:
    """The same of a child process, with the cure, for the file of the program."""
    found = _why_unloaded(program)
    return "; ".join(filter(None, (found.text, found.cure)))


def _unloaded_error(program: Unloaded, found: Finding) -> MemError:
    """The error for a program that ended without the sampler."""
    from mem_profiler.capture import launch

    name = os.path.basename(program.path)
    text = f"{name} ended without loading the sampler: {found.text}"
    return NoSampler(text, hint=launch.room_hint() or found.cure or None)
