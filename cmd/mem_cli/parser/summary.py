"""`mem_parser summary`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from mem_cli.memray_words import memray_options, understood
from mem_cli.options import csv_option, json_option, view_options
from mem_cli.pipeline import deliver, open_view
from mem_parser.escape import shell_path

if TYPE_CHECKING:
    from mem_cli.options import Options
    from mem_cli.pipeline import Opened
    from mem_parser.leaks.findings import LeakReport
    from mem_parser.reports.grid import Block
    from mem_parser.reports.opening import Sentence
    from mem_parser.reports.service import Member
    from mem_parser.reports.view import View

_ROWS, _WIDTH = 30, 80
_LETTERS = {"t": "total", "o": "own", "a": "count"}
"""Of memray's live view."""
_COLUMNS = {"1": "total", "2": "total", "3": "own", "4": "own", "5": "count"}
"""Of memray's summary, by number."""
_SORTS = click.Choice(["total", "own", "count", *_LETTERS])
_SORTS_BEFORE = click.Choice([*_SORTS.choices, *_COLUMNS])


@click.command("summary")
@view_options
@memray_options
@click.option("--sort", type=_SORTS, help="Sort rows by this column. [default: own]")
@click.option("-s", "--sort-column", "sort_before", type=_SORTS_BEFORE, hidden=True, help="--sort.")
@click.option(
    "-n",
    "-r",
    "--max-rows",
    "--rows",
    "rows",
    type=click.IntRange(min=0),
    help="Rows (30); 0: all.",
)
@json_option
@csv_option
def summary(file: str, **options: Any) -> None:
    r"""Total memory, own memory and number of blocks by function.

    \b
    mem_parser summary custom_prof.4711.1.heap --sort total
    """
    from mem_parser.leaks.judged import judged_if_dated

    options = understood(file, options)
    opened, view = open_view(file, options, whole=not options["as_csv"])
    sentences: list[Sentence] = []
    if not options["as_csv"]:
        leaks = judged_if_dated(view.profile, view.raw, options["binary"])
        sentences = opened_with(opened, view, leaks)
    _deliver(opened, view, options, sentences=sentences, path=shell_path(file))


def summary_of_service(paths: Sequence[str], **options: Any) -> None:
    """Show the sum of processes and each of them: a folder, or several files."""
    from mem_cli.parser.service import open_service
    from mem_parser.reports import service

    options = understood(paths[0], options)
    found = open_service(paths, options)
    whole = [
        one if one.command == "leaks" else replace(one, command="")
        for one in opened_with(found.opened, found.view, found.report)
    ]
    at = 1 + next((k for k, one in enumerate(whole) if one.kind in ("leak", "no leak")), -1)
    whole[at:at] = service.sentences(found.members, found.report)
    _deliver(
        found.opened,
        found.view,
        options,
        sentences=whole,
        members=found.members,
        path=found.words,
    )


def _deliver(
    opened: Opened,
    view: View,
    options: Options,
    *,
    sentences: list[Sentence],
    path: str = "",
    members: Sequence[Member] = (),
) -> None:
    from mem_cli.terminal import fitted
    from mem_parser.reports import service
    from mem_parser.reports import summary as report
    from mem_parser.reports.opening import opening_lines, opening_records

    given = options["sort"] or options["sort_before"] or "own"
    sort = report.Sort((_LETTERS | _COLUMNS).get(given, given))
    every = report.summary(view, sort)

    for_programs = options["as_csv"] or options["as_json"]

    def first(rows: int | None) -> report.Summary:
        return every.first(_ROWS if rows is None else rows, callers=for_programs)

    found = first(options["rows"])
    program = f" -p {shell_path(options['binary'])}" if options["binary"] else ""
    heads = list(opening_lines(sentences, f"mem_parser {{}} {path}{program}", _WIDTH))

    def blocks(rows: int | None) -> Iterator[Block]:
        yield from [*heads, ""] if heads else []
        if members:
            yield from service.blocks(members, _ROWS if rows is None else rows)
            yield ""
        yield from report.blocks(first(rows))

    more: dict[str, Any] = {"processes": service.records(members)} if members else {}
    deliver(
        opened.sources,
        options,
        fitted(blocks, options["rows"], options["output"]),
        record=lambda: view.record(
            report.records(found),
            left_out=found.left_out,
            verdicts=opening_records(sentences),
            **more,
        ),
        rows=lambda: report.records(found),
        keys=report.KEYS,
    )


def opened_with(opened: Opened, view: View, report: LeakReport | None) -> list[Sentence]:
    """Return what the report opens with: nothing for a part of a profile."""
    from mem_parser.reports.opening import opening

    if view.filters.narrows:
        return []
    return opening(view.profile, view.raw, report, opened.sources[0].profile)
