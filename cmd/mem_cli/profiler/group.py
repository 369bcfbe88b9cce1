"""The command `mem_profiler`: capture the heap of running processes into .heap files.

    mem_profiler -s 60 -c 1024 -p PID
    mem_profiler PID

Model: click checks every option before a process is touched; each command is a few calls into the
capture side and prints what came of it. Results go to stdout (for `run`, whose program owns stdout,
to stderr), progress goes to stderr. Exit codes are those of mem_cli.errors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from mem_cli.commands import refuse_group_options
from mem_cli.console import say
from mem_cli.direct import DirectGroup
from mem_cli.errors import end, run_command
from mem_cli.forms import form_option
from mem_cli.profiler.eventoptions import EventChoice, event_options
from mem_cli.profiler.options import (
    Time,
    children_option,
    depth_option,
    device_option,
    device_rate_option,
    every_option,
    prefix_option,
    rate_option,
    resident_option,
    symbolize_option,
)
from mem_cli.profiler.target import CAPTURE, PROCESS, Target, chosen, scope
from mem_parser.errors import TargetBusy
from mem_parser.heapfile.form import Form
from mem_profiler import __version__

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from mem_profiler.capture.device_choice import Choice

DEFAULT_S = 60.0


SUMMARIES = {
    "attach": "Load the sampler into a running process.",
    "clean": "Remove what ended processes left; unsaved profiles stay.",
    "detach": "Remove the sampler's hooks from a running process.",
    "doctor": "Say whether a process or a program can be captured.",
    "driver-stats": "Show the bytes in use by line of source, of every block.",
    "live": "Watch in the terminal who holds the memory of a process.",
    "memscope": "Collect the events of device memory, or compare two runs.",
    "ps": "List the processes with the sampler, and unsaved profiles.",
    "recover": "Save the unsaved profiles of ended processes.",
    "report-bug": "Collect what an issue needs, and nothing private.",
    "run": "Run a program and capture it from start to exit.",
    "serve": "Show captured processes in a browser and to other tools.",
    "snapshot": "Write the profile so far; the capture goes on.",
    "start": "Start a capture that goes on until it is stopped.",
    "stop": "End a capture and write its file.",
}


class ProcessGroup(DirectGroup):
    """`mem_profiler`: a process may take the place of a command and its arguments."""

    unknown = "No command or running process is named"
    sibling = ("mem_parser", "mem_cli.parser.group")

    def direct(self, words: Sequence[str], _given: Mapping[str, Any]) -> click.Command | None:
        """Return the capture; None where no process has such a name."""
        from mem_profiler.process import byname

        word = words[0]
        if not word.isdecimal() and not byname.find(word):
            return None
        target = click.Argument(["target"], required=True, type=PROCESS, metavar="PID|NAME")
        options = [p for p in self.params if isinstance(p, click.Option) and not p.is_eager]
        return click.Command("", params=[target, *options], callback=_capture, help=self.help)

    def other_words(self) -> Iterable[str]:
        """Return the names of running programs."""
        from mem_profiler.process import byname

        return byname.names()

    def advice(self, word: str) -> str | None:
        """Return how to start a program that does not run."""
        import shutil

        from mem_parser.escape import shell_word

        found = shutil.which(word) is not None
        return f"mem_profiler run -- {shell_word(word)} starts it;" if found else None

    def first_words(self, incomplete: str) -> Iterable[CompletionItem]:
        """Yield the processes."""
        return PROCESS.shell_complete(None, None, incomplete)


def _say_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    """Say the version and which build of the sampler it has, by which a process tells it apart."""
    if value and not ctx.resilient_parsing:
        from mem_profiler.samplerbuild import build_name, own_build_id

        say(f"mem_profiler, version {__version__}, build {build_name(own_build_id())}")
        ctx.exit()


@click.group(
    cls=ProcessGroup,
    package="mem_cli.profiler",
    summaries=SUMMARIES,
    invoke_without_command=True,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=(
        "\b\n"
        "mem_profiler -s 60 -c 1024 -p PID    capture for 60 s\n"
        "mem_profiler redis-server            the same by name, with the defaults\n"
        "mem_profiler run -- PROG ARGS        from a program's start to its end"
    ),
)
@click.option(
    "-s", "--duration", "seconds", type=Time(), default=DEFAULT_S,
    help="Capture length, e.g. 90, 90s, 5m, 1h. [default: 60]",
)  # fmt: skip
@rate_option
@device_option
@device_rate_option
@depth_option
@prefix_option
@event_options
@click.option("-p", "--pid", type=PROCESS, help="Process; default: the only one with a sampler.")
@every_option
@children_option
@resident_option
@form_option
@symbolize_option
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_say_version,
    help="Show the version and exit.",
)
@click.pass_context
def cli(ctx: click.Context, /, **options: Any) -> None:
    """Capture the heap of a running process into a file, which mem_parser reads."""
    if ctx.invoked_subcommand is None:
        _capture(None, **options)
    elif ctx.invoked_subcommand:
        refuse_group_options(ctx)


def _capture(
    target: Target | None,
    *,
    seconds: float,
    rate: int,
    device: Choice | None,
    device_rate: int,
    depth_limit: int | None,
    prefix: str,
    pid: Target | None,
    every: bool,
    children: bool,
    resident: bool,
    form: Form,
    symbolize: bool,
    **events: Any,
) -> None:
    from mem_cli.profiler.capture import capture
    from mem_profiler.capture import output
    from mem_profiler.capture.session import Rates
    from mem_profiler.segment import usable

    output.check_prefix(prefix)
    logging = EventChoice.take(events).logging(prefix)
    rates = Rates(rate, device_rate, depth_limit, logging, resident)
    pids = chosen(target, pid, CAPTURE, every=every, children=children, only=True)
    try:
        code = capture(
            pids, seconds, rates, prefix, form,
            children=children, symbolize=symbolize, devices=device,
        )  # fmt: skip
    except TargetBusy as error:
        if len(pids) == 1 or error.hint != usable.captured_hint(pids[0]):
            raise
        hint = usable.captured_hint(scope(pids, every=every))
        raise TargetBusy(str(error), hint=hint) from None
    click.get_current_context().exit(code)


def main() -> None:
    """Entry point of the console script."""
    end(run_command(cli, "mem_profiler"))


if __name__ == "__main__":
    main()
