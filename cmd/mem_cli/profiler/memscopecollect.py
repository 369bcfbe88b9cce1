"""The collection of `mem_profiler memscope`: options, run, closing report."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from mem_cli.commands import together
from mem_cli.console import say, waiting, warn
from mem_cli.errors import hint_of, say_error
from mem_cli.profiler.recover import complete_dumps
from mem_cli.profiler.run import run_to_end
from mem_parser.errors import DiskFull, MemError, UsageProblem
from mem_parser.memscope.settings import LOG_LEVELS, Settings, changed

if TYPE_CHECKING:
    from mem_profiler.memscope.follower import Collected

_HOST = " (the host has PyTorch's tensors and pinned memory; all blocks: run --events -c 1)"
collection_options = together(
    click.option("--steps", metavar="N,...", help="Only these steps, at most 5; no analyses."),
    click.option(
        "--device", metavar="LIST", help="npu (all), npu:0 to npu:31, cpu; by default npu."
    ),
    click.option("--level", metavar="LIST", help="op (operators), kernel, or both; by default op."),
    click.option(
        "--events",
        metavar="LIST",
        help="alloc, free, launch, access, traceback; none. By default alloc,free,launch.",
    ),
    click.option(
        "--call-stack",
        metavar="c[:N],python[:N]",
        help="Stacks, with a depth (50, at most 1000). python-all: frames inside PyTorch, too.",
    ),
    click.option(
        "--collect-mode",
        metavar="immediate|deferred",
        help="deferred: from start() in the program on.",
    ),
    click.option(
        "--analysis",
        metavar="LIST",
        help="leaks, decompose, inefficient, oom[:K]; none. By default leaks.",
    ),
    click.option("--format", "--data-format", "form", metavar="csv|db", help="By default csv."),
    click.option(
        "--watch", metavar="[START[:OUT],]END[,full-content]", help="Watch outputs of operators."
    ),
    click.option(
        "-o",
        "--output-path",
        "--output",
        "output",
        metavar="DIR",
        help="Folder of all files; by default ./memscopeDumpResults.",
    ),
    click.option(
        "--log-level",
        metavar="|".join(LOG_LEVELS),
        help="What is said and logged; by default warning.",
    ),
    click.option("-v", "--verbose", is_flag=True, help="As --log-level debug; alone: the version."),
    click.option("-q", "--quiet", is_flag=True, help="As --log-level error."),
    click.option("--debug", is_flag=True, help="As --log-level debug."),
    click.option("-V", "--version", "version", is_flag=True, help="Show the version."),
)
"""The options; `Choice.take` finds them among the others."""


@dataclass(frozen=True)
class Choice:
    """What the options say."""

    settings: Settings
    given: frozenset[str]
    log_level: str
    version: bool
    verbose: bool

    @classmethod
    def take(cls, options: dict[str, Any]) -> Choice:
        """Read the options. Raises UsageProblem that names the first one that is wrong."""
        flags = {name: options.pop(name) for name in ("verbose", "quiet", "debug", "version")}
        level = _log_level(options.pop("log_level"), flags)
        given = {name: value for name, value in options.items() if value is not None}
        told = {("format" if name == "form" else name): value for name, value in given.items()}
        settings = changed(Settings(), told, _spelled)
        return cls(settings, frozenset(told), level, flags["version"], flags["verbose"])

    def wants_version(self, arguments: tuple[str, ...]) -> bool:
        """Whether the version is all that is asked for: `-v` alone says so, too."""
        return self.version or (self.verbose and not arguments and not self.given)

    def says(self, level: str) -> bool:
        """Whether lines of a level are said."""
        return LOG_LEVELS.index(level) >= LOG_LEVELS.index(self.log_level)


def _spelled(name: str) -> str:
    """Return an option as a user types it: in each way, for that is all that click tells."""
    wanted = "form" if name == "format" else name
    found = (one for one in click.get_current_context().command.params if one.name == wanted)
    return " / ".join(next(found).opts)


def _log_level(value: str | None, flags: dict[str, bool]) -> str:
    if value is not None:
        found = {"warn": "warning"}.get(value, value)
        if found not in LOG_LEVELS:
            raise UsageProblem(f"--log-level: {value!r}: one of {', '.join(LOG_LEVELS)}")
        return found
    if flags["quiet"]:
        return "error"
    return "debug" if flags["verbose"] or flags["debug"] else "warning"


def collect(arguments: tuple[str, ...], choice: Choice) -> int:
    """Run a program, and write its dumps; returns the exit code."""
    from mem_profiler.memscope.run import MemscopeRun, options_of
    from mem_profiler.memscope.uncollected import lines_of

    settings = choice.settings
    if choice.says("warning"):
        for line in lines_of(settings, choice.given):
            say(f"note: {line}", err=True)
    complete_dumps([settings.output], err=True)
    runs: list[MemscopeRun] = []

    def begin() -> MemscopeRun:
        runs.append(MemscopeRun(arguments, settings, options_of(settings)))
        return runs[0]

    outcome, _ = run_to_end(arguments, begin)
    code = 0
    for error in outcome.errors:
        say_error(str(error), hint_of(error))
        code = code or error.exit_code
    run = runs[0]
    for done in run.collected:
        code = _say(done, choice) or code
    if not any(done.paths for done in run.collected) and choice.says("warning"):
        say(
            "note: the program took no memory of these devices: there is no dump"
            + (_HOST if settings.host else " (--device cpu: tensors of the host)"),
            err=True,
        )
    _write_log(run.collected, choice, run.stamp)
    return outcome.status or code


def _say(done: Collected, choice: Choice) -> int:
    """Say what became of a process; returns an exit code."""
    from mem_parser.memscope.report import lines

    for warning in done.warnings if choice.says("warning") else ():
        warn(f"pid {done.pid}: {warning}")
    if done.problem:
        cure = f"make room, then: mem_profiler recover {shlex.quote(choice.settings.output)}"
        say_error(f"pid {done.pid}: {done.problem}", cure if done.is_full else None)
        return DiskFull.exit_code if done.is_full else MemError.exit_code
    if choice.says("warning"):
        for path in done.paths.values():
            say(f"  {os.path.relpath(path)}", err=True)
    try:
        with waiting("analysing"):
            shown = lines(done.paths, choice.settings)
    except MemError as error:
        say_error(str(error), hint_of(error))
        return error.exit_code
    for line in shown:
        say(line, err=True)
    return 0


def _write_log(collected: list[Collected], choice: Choice, stamp: str) -> None:
    """Write the tool's own log, where it has a line."""
    from mem_parser.memscope.form import folders
    from mem_parser.memscope.report import log_lines
    from mem_parser.output_path import make_own_folder

    found: list[str] = []
    for done in collected:
        if choice.says("info"):
            found += [f"[INFO] [client {done.pid}] {path}" for path in done.paths.values()]
        if choice.says("warning"):
            found += [f"[WARN] [client {done.pid}] {line}" for line in done.warnings]
            found += [f"[WARN] {line}" for line in log_lines(done.paths, choice.settings)]
        if done.problem:
            found.append(f"[ERROR] [client {done.pid}] {done.problem}")
    if not found:
        return
    places = folders(choice.settings.output, 0, stamp)
    try:
        make_own_folder(places.logs)
        with open(places.log(), "x", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in found)
    except OSError as error:
        warn(f"{places.log()}: {error.strerror}")
