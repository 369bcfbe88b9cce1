"""`mem_parser budget`, and what `mem_profiler run --budget` adds to a run.

Both print the same report and write the same files; see `mem_parser.budget` for the test itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from mem_cli.errors import say_error
from mem_cli.output import append_text, check_output, write_result
from mem_cli.say import plain_console, say, say_command, show_line, warn
from mem_parser.errors import InputFileError, MemError, UsageProblem
from mem_parser.escape import json_text

if TYPE_CHECKING:
    from mem_parser.budget import BudgetFile, Report, Subject, Verdict

Command = TypeVar("Command", bound=Callable[..., Any])
FORMATS = ("json", "junit", "sarif", "markdown", "html")
_STYLES = {"fail": "red", "pass": "green", "inconclusive": "yellow"}


def output_options(command: Command) -> Command:
    """Add the files that a report can be written to."""
    options = [
        click.option("--json", metavar="FILE", help="Write JSON (`-`: standard output)."),
        click.option("--junit", metavar="FILE", help="Write JUnit XML."),
        click.option("--sarif", metavar="FILE", help="Write SARIF 2.1.0."),
        click.option("--markdown", metavar="FILE", help="Write a pull-request comment."),
        click.option("--html", metavar="FILE", help="Write the report page of the first capture."),
        click.option(
            "--github", is_flag=True, help="Annotate source lines, write GitHub's step summary."
        ),
        click.option(
            "--update-baseline", is_flag=True,
            help="Write the baseline of these captures; growth is not checked.",
        ),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def check_outputs(options: dict[str, Any]) -> None:
    """Refuse outputs that cannot be written, before any work. Raises `UsageProblem`."""
    for name in FORMATS:
        check_output(options[name])
    to_stdout = [f"--{name}" for name in FORMATS if options[name] == "-"]
    if len(to_stdout) > 1:
        raise UsageProblem(f"{' and '.join(to_stdout)} cannot both go to standard output")


def refuse_outputs(options: dict[str, Any]) -> None:
    """Refuse the options of a budget where none is given. Raises `UsageProblem`."""
    for name, value in options.items():
        if value:
            raise UsageProblem(f"--{name.replace('_', '-')} needs --budget CHECK.toml")


@click.command("budget", short_help="Hold captures against a memory budget.")
@click.argument("budget", metavar="CHECK.toml")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("-p", "--binary", metavar="BINARY", help="The program that was profiled.")
@click.option("--debug-dir", multiple=True, metavar="DIR", help="Look for debug files here too.")
@output_options
def budget_command(budget: str, files: tuple[str, ...], **options: Any) -> None:
    r"""Hold captures against a memory budget: pass (0), over budget (6), inconclusive (7).

    \b
    mem_parser budget CHECK.toml custom_prof.4711.1.heap
    mem_parser budget CHECK.toml custom_prof.4711.1.heap --update-baseline
    mem_parser budget CHECK.toml *.heap --junit budget.xml --github
    """
    from mem_parser.budget import check_subjects, load, open_subject

    check_outputs(options)
    rules = load(budget)
    subjects = [open_subject(path, options["binary"], options["debug_dir"]) for path in files]
    for subject in subjects:
        for problem in subject.symbols.problems:
            warn(problem.text)
    if options["update_baseline"]:
        write_baselines(rules, subjects, rules.plan.tries)
    report = check_subjects(rules, subjects, growth=not options["update_baseline"])
    present(report, subjects, options)
    if report.exit_code:
        raise SystemExit(report.exit_code)


def write_baselines(rules: BudgetFile, subjects: Sequence[Subject], tries: int) -> None:
    """Write the baselines of captures, all or none of them changed, and warn where checks of
    ``tries`` tries would find them too coarse. Raises `MemError`.
    """
    from mem_parser.budget import baseline_rate, update_baseline

    for subject in subjects:
        if subject.profile.incomplete:
            raise InputFileError(f"{subject.path}: incomplete: {subject.profile.incomplete}")
    texts = update_baseline(rules, subjects)
    for path in texts:
        check_output(path)
    for path, text in texts.items():
        write_result(text, path)
        say(f"wrote {path}", err=True)
    needed = baseline_rate(rules, subjects, tries)
    if needed < min(subject.profile.rate_bytes for subject in subjects):
        warn(f"too coarse for its limit on growth: take -c {needed:.0f}")


def present(
    report: Report,
    subjects: Sequence[Subject],
    options: dict[str, Any],
    *,
    err: bool = False,
    exit_code: int = 0,
) -> None:
    """Print a report and write the files that were asked for. Raises `MemError`.

    ``exit_code`` is what the command ends with where that is not the verdict's. ``err``: print to
    standard error, because standard output is the program's. The text is left out where a format
    goes to standard output.
    """
    if not any(options[name] == "-" for name in FORMATS):
        _print(report, exit_code, err=err)
    for name in FORMATS:
        if options[name]:
            write_result(_rendered(name, report, subjects), options[name])
    if options["github"]:
        _github(report, err=err)


def _print(report: Report, exit_code: int, *, err: bool) -> None:
    from mem_parser.budget.outputs.text import lines

    stream: IO[str] = sys.stderr if err else sys.stdout
    if not stream.isatty():
        for line, _ in lines(report, exit_code):
            say(line, err=err)
        return
    from rich.text import Text

    console = plain_console(err=err)
    for line, verdict in lines(report, exit_code):
        show_line(console, _styled(Text(line), verdict))


def _styled(text: Any, verdict: Verdict | None) -> Any:
    if verdict is not None:
        text.stylize(f"bold {_STYLES[str(verdict)]}", 0, 5)
    return text


def _rendered(name: str, report: Report, subjects: Sequence[Subject]) -> str:
    if name == "json":
        return json_text(report.as_json(), indent=1) + "\n"
    if name == "html":
        return _page(report, subjects)
    if name == "junit":
        from mem_parser.budget.outputs import junit

        return junit.render(report)
    if name == "sarif":
        from mem_parser.budget.outputs import sarif

        return sarif.render(report)
    from mem_parser.budget.outputs import markdown

    return markdown.render(report)


def _page(report: Report, subjects: Sequence[Subject]) -> str:
    from mem_parser.leaks.verdicts import find_leaks
    from mem_parser.web.report import render

    subject = subjects[0]
    leaks = None
    if subject.profile.sites.live_births is not None:
        leaks = find_leaks(subject.profile, subject.symbols).as_json()
    return render(
        subject.profile,
        subject.symbols,
        name=os.path.basename(subject.path),
        leaks=leaks,
        budget=report.captures[0].as_json(),
    )


def _github(report: Report, *, err: bool) -> None:
    """Print annotations, and append the summary to the file that the runner names."""
    from mem_parser.budget.outputs import github, markdown

    for line in github.commands(report):
        say_command(line, err=err)
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if not path:
        return
    append_text(markdown.render(report), path)


class Gate:
    """What `mem_profiler run --budget` decides: the rate of each try, and when to stop.

    `take` gets the captures of a try and returns whether to run again.
    """

    def __init__(self, path: str, rate: int | None, tries: int | None, options: dict[str, Any]):
        """Read the budget before anything is run. Raises `MemError`."""
        from mem_parser.budget import load
        from mem_parser.budget.rules import first_rate

        check_outputs(options)
        if any(options[name] == "-" for name in FORMATS):
            raise UsageProblem("standard output is the program's", hint="name a file instead of -")
        self.rules: BudgetFile = load(path)
        self.options = options
        self.tries = tries or self.rules.plan.tries
        first = self.rules.plan.rate_bytes or first_rate(self.rules.every_budget)
        # Every later growth carries the error of its baseline.
        self.rate = rate or (max(first // 4, 1) if options["update_baseline"] else first)
        self.next_rate = float(self.rate)
        self.why = ""
        self.attempt = 0
        self.report: Report | None = None
        self.subjects: list[Subject] = []
        if not options["update_baseline"]:
            self._check_baselines()

    def _check_baselines(self) -> None:
        from mem_parser.budget.baseline import read

        for budget in self.rules.every_budget:
            if budget.needs_baseline and budget.baseline:
                read(budget.baseline)

    def take(self, files: Sequence[str], *, last: bool, code: int) -> bool:
        """Check the captures of one try; returns whether to run again.

        ``last``: there shall be no other. ``code`` is what the command already ends with; then what
        goes wrong here is only printed. Raises `MemError`. The report of the last try is printed to
        standard error, and written to what was asked for.
        """
        try:
            again = self._check(files) and not last
            if again:
                self._announce()
            else:
                self._finish(code)
        except MemError as error:
            if not code:
                raise
            say_error(str(error), error.hint)
            return False
        return again

    def _check(self, files: Sequence[str]) -> bool:
        from mem_parser.budget import (
            baseline_rate,
            check_subjects,
            combine,
            needed_rate,
            open_subject,
        )

        self.attempt += 1
        self.subjects = [open_subject(path) for path in files]
        report = check_subjects(
            self.rules,
            self.subjects,
            tries=self.tries,
            attempt=self.attempt,
            growth=not self.options["update_baseline"],
        )
        self.report = report if self.report is None else combine(self.report, report)
        self.next_rate = float(self.rate)
        if self.report.may_be_decided:
            self.next_rate = needed_rate(self.report, self.rate)
            self.why = "inconclusive"
        elif self.options["update_baseline"]:
            self.next_rate = baseline_rate(self.rules, self.subjects, self.tries)
            self.why = "too coarse for the limit on growth"
        return self.next_rate < self.rate and self.attempt < self.tries

    def _announce(self) -> None:
        self.rate = max(round(self.next_rate), 1)
        say(
            f"{self.why} at try {self.attempt} of {self.tries}: "
            f"running again at 1 sample / {self.rate} B",
            err=True,
        )

    def _finish(self, code: int) -> None:
        if self.options["update_baseline"]:
            write_baselines(self.rules, self.subjects, self.tries)
        if self.report is not None and self.subjects:
            present(self.report, self.subjects, self.options, err=True, exit_code=code)

    @property
    def exit_code(self) -> int:
        """Return the exit code of the verdict."""
        return self.report.exit_code if self.report else 0


commands = (budget_command,)
"""What the group `mem_parser` takes in."""
