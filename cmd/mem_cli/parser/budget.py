"""`mem_parser budget`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import click

from mem_cli.budget_report import check_outputs, output_options, present, write_baselines
from mem_cli.commands import PATH
from mem_cli.console import warn
from mem_cli.options import binary_option
from mem_cli.output import changed_by
from mem_cli.parser.rights import also_changes


def _other_outputs(values: Mapping[str, Any]) -> Iterator[str]:
    """The baselines that the budget names, and what the runner of a CI does."""
    from mem_parser.budget import load

    others: Iterable[str] = ()
    if values["update_baseline"]:
        others = load(values["budget"]).baselines()
    if values["github"]:
        others = [*others, os.environ.get("GITHUB_STEP_SUMMARY") or "-"]
    for path in others:
        yield from changed_by(path)


@click.command("budget")
@click.argument("budget", type=PATH, metavar="CHECK.toml")
@click.argument("files", type=PATH, metavar="FILE...", nargs=-1, required=True)
@binary_option
@click.option(
    "--debug-dir", type=PATH, multiple=True, metavar="DIR", help="Look for debug files here too."
)
@output_options
@also_changes(_other_outputs)
def budget_command(budget: str, files: tuple[str, ...], **options: Any) -> None:
    r"""Check captures against a memory budget: pass (0), over budget (6), inconclusive (7).

    Each file is checked alone: peak, rss and all other limits are per process, also of a tree
    (run --children).

    \b
    mem_parser budget CHECK.toml custom_prof.4711.1.heap
    mem_parser budget CHECK.toml custom_prof.4711.1.heap --update-baseline
    mem_parser budget CHECK.toml *.heap --junit budget.xml --github
    """
    from mem_parser.budget import check_subjects, load, open_subject
    from mem_parser.budget.rules import TRIES

    check_outputs(options)
    rules = load(budget)
    subjects = [open_subject(path, options["binary"], options["debug_dir"]) for path in files]
    for subject in subjects:
        for problem in subject.symbols.problems:
            warn(problem.text)
    if options["update_baseline"]:
        write_baselines(rules, subjects, rules.plan.tries or TRIES)
    report = check_subjects(rules, subjects, growth=not options["update_baseline"])
    present(report, subjects, options)
    if report.exit_code:
        raise SystemExit(report.exit_code)
