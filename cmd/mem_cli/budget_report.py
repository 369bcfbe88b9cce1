"""Text and files of `mem_parser budget` and `mem_profiler run --budget`.

See `mem_parser.budget` for the test itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from mem_cli.colour import is_coloured
from mem_cli.commands import OUTPUT
from mem_cli.console import is_quiet, plain_console, say, say_command, show_line, warn
from mem_cli.output import append_text, check_output, write_result
from mem_cli.pipeline import Source, refuse_cut
from mem_parser.errors import UsageProblem
from mem_parser.escape import json_text

if TYPE_CHECKING:
    from mem_parser.budget import BudgetFile, Report, Subject, Verdict
    from mem_parser.budget.verdict import CaptureReport
    from mem_parser.model import Count, Profile

Command = TypeVar("Command", bound=Callable[..., Any])
FORMATS = ("json", "junit", "sarif", "markdown", "html")
_STYLES = {"fail": "red", "pass": "green", "inconclusive": "yellow"}


def output_options(command: Command) -> Command:
    """Add the options for a report's output files."""
    options = [
        click.option(
            "--json", type=OUTPUT, metavar="FILE", help="Write JSON (`-`: standard output)."
        ),
        click.option("--junit", type=OUTPUT, metavar="FILE", help="Write JUnit XML."),
        click.option("--sarif", type=OUTPUT, metavar="FILE", help="Write SARIF 2.1.0."),
        click.option(
            "--markdown", type=OUTPUT, metavar="FILE", help="Write a pull-request comment."
        ),
        click.option(
            "--html",
            type=OUTPUT,
            metavar="FILE",
            help="Write the report page of the worst capture.",
        ),
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
    """Refuse options of a budget without a budget. Raises `UsageProblem`."""
    for name, value in options.items():
        if value:
            raise UsageProblem(f"--{name.replace('_', '-')} needs --budget CHECK.toml")


def write_baselines(rules: BudgetFile, subjects: Sequence[Subject], tries: int) -> None:
    """Write the baselines of captures, all or none of them changed, and warn where checks of
    ``tries`` tries would find them too coarse. Raises `MemError`.
    """
    from mem_parser.budget import baseline_rate, update_baseline

    refuse_cut((Source(s.path, s.profile) for s in subjects), done=None)
    texts = update_baseline(rules, subjects)
    for path in texts:
        check_output(path)
    for path, text in texts.items():
        write_result(text, path)
    needed = baseline_rate(rules, subjects, tries)
    rates = [subject.profile.rate_bytes for subject in subjects if subject.is_of_host]
    if needed < min(rates, default=0.0):
        warn(f"these captures are too coarse for the limit on growth: capture with -c {needed:.0f}")


def present(
    report: Report,
    subjects: Sequence[Subject],
    options: dict[str, Any],
    *,
    err: bool = False,
) -> None:
    """Print a report and write the files that were asked for. Raises `MemError`.

    ``err``: print to standard error, because standard output belongs to the program. The text is
    omitted if a format goes to standard output.
    """
    if not any(options[name] == "-" for name in FORMATS):
        _print(report, err=err)
    for name in FORMATS:
        if options[name]:
            write_result(_rendered(name, report, subjects), options[name])
    if options["github"]:
        _github(report, err=err)


def _print(report: Report, *, err: bool) -> None:
    from mem_parser.budget.outputs.text import lines

    stream: IO[str] = sys.stderr if err else sys.stdout
    if not stream.isatty() and not is_coloured(stream):
        for line, _ in lines(report, notes=not is_quiet()):
            say(line, err=err)
        return
    from rich.text import Text

    console = plain_console(err=err)
    for line, verdict in lines(report, notes=not is_quiet()):
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
    from mem_parser.budget.outputs.words import page_block
    from mem_parser.leaks.verdicts import find_leaks
    from mem_parser.web.facts import Opening
    from mem_parser.web.report import render

    worst = report.worst
    subject = next(one for one in subjects if one.path == worst.path)
    leaks = None
    if subject.profile.sites.live_births is not None:
        leaks = find_leaks(subject.profile, subject.symbols, at_end=True).as_json()
    return render(
        subject.profile,
        subject.symbols,
        name=os.path.basename(subject.path),
        leaks=leaks,
        budget=page_block(worst, report),
        start=Opening(count=_judged(worst, subject.profile)),
    )


def _judged(report: CaptureReport, profile: Profile) -> Count:
    """Return what the first limit with the worst verdict counts: the page begins with it."""
    from mem_parser.budget.verdict import count_of
    from mem_parser.model import Count

    worst = (r.limit.measure for r in report.results if r.verdict is report.verdict)
    counts = [count_of(measure) for measure in worst]
    return counts[0] if counts and profile.has(counts[0]) else Count.INUSE


def _github(report: Report, *, err: bool) -> None:
    """Print annotations, and append the summary to the file that the runner names."""
    from mem_parser.budget.outputs import github, markdown

    for line in github.commands(report):
        say_command(line, err=err)
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if not path:
        return
    append_text(markdown.render(report), path)
