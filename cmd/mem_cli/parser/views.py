"""What `top`, `summary`, `tree`, `stats`, `peek`, `list` and `graph` have in common.

All of them take the same file options and filters. `--json` prints one object whose first key is
`rows` (`stats`: the tables) and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mem_cli.options import check_whole, file_options, filter_options, filters_from, open_profile
from mem_cli.output import check_output
from mem_parser.errors import UsageProblem

if TYPE_CHECKING:
    from mem_parser.reports.grid import Record
    from mem_parser.reports.view import View

Command = TypeVar("Command", bound=Callable[..., Any])


def view_options(command: Command) -> Command:
    """Add the profile, the filters and `-o`."""
    command = click.option("-o", "--output", metavar="FILE", help="Write here.")(command)
    return file_options(filter_options(command))


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
csv_option = click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")


def open_view(file: str, options: dict[str, Any], *, all_counts: bool = False) -> View:
    """Read, name and filter a profile. Raises `MemError`.

    ``all_counts``: sites are named that have no block of the count that is shown, too.
    """
    from mem_parser.reports.view import make_view

    filters = filters_from(options)
    check_output(options["output"])
    count = None if all_counts else filters.count
    profile, symbols = open_profile(file, options, count)
    return make_view(profile, symbols, filters)


def end(view: View, file: str, options: dict[str, Any]) -> None:
    """Refuse a cut file, after what could be read was reported. Raises `InputFileError`."""
    check_whole(file, view.profile, partial=options["partial"])


def as_object(view: View, rows: list[Record] | None, **more: object) -> Record:
    """Return what `--json` prints: the rows first, then what they are of."""
    from mem_parser.reports.device import record
    from mem_parser.reports.grid import numbers

    about: Record = {
        "count": str(view.filters.count),
        "unit": str(view.filters.unit),
        "filters": view.filters.words,
        "rate_bytes": view.profile.rate_bytes,
        "samples": view.total.samples,
        "samples_missing": view.profile.samples_missing,
        "incomplete": view.profile.incomplete,
    }
    first: Record = {} if rows is None else {"rows": rows}
    of_device = record(view.profile, view.raw, view.filters.count)
    return first | more | numbers("total", view.total) | about | of_device


def check_one_form(options: dict[str, Any]) -> None:
    """Refuse two forms at once. Raises `UsageProblem`."""
    if options["as_json"] and options["as_csv"]:
        raise UsageProblem("--json and --csv exclude each other")


def file_first(file: str, function: str) -> tuple[str, str]:
    """Return (file, function), in whatever order they were given: only one of them is a file."""
    if not os.path.exists(file) and os.path.isfile(function):
        return function, file
    return file, function
