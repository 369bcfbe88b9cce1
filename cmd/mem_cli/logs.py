"""Options and checks of commands that take only a log of events."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from mem_cli.commands import PATH, together
from mem_cli.console import waiting
from mem_cli.options import Options, check_form, filters_from, partial_option, time_options
from mem_cli.pipeline import Opened, Source, check_is_log, named, part_of, say_missing
from mem_parser.errors import InputFileError

if TYPE_CHECKING:
    from mem_parser.memlog.livesites import Sites
    from mem_parser.memlog.part import Part
    from mem_parser.memlog.run import Run
    from mem_parser.reports.view import View

logs_argument = click.argument("files", type=PATH, metavar="LOG...", nargs=-1, required=True)


domain_option = click.option(
    "--domain", multiple=True, metavar="NAME", help="Only this memory domain."
)


log_options = together(logs_argument, time_options, partial_option)
"""The files of a log, a part of it, and `--partial`."""


class Span(click.ParamType[int]):
    """A length of time, `100ms`, in nanoseconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the nanoseconds; fails as click's types do."""
        if isinstance(value, int):
            return value
        from mem_parser.sizes import parse_seconds

        try:
            span = parse_seconds(str(value))
        except ValueError:
            span = 0.0
        if not 1e-9 <= span <= 1e9:
            self.fail(f"{value!r} is no length of time, such as 100ms or 2s", param, ctx)
        return round(span * 1e9)


@contextmanager
def opened_log(files: tuple[str, ...], options: Options) -> Iterator[tuple[Run, Part]]:
    """Open the files of a run, and return the selected part of it. Raises `MemError`."""
    from mem_parser.memlog.run import read_log

    check_form(options)
    for file in files:
        check_is_log(file)
    with waiting(f"reading {files[0]}"):
        run = read_log(files)
    with run:
        yield run, part_of(options)


def refuse_cut_log(run: Run, *, partial: bool) -> None:
    """Refuse a truncated file, after reporting its readable part. Raises InputFileError."""
    for file in run.files:
        if file.is_cut and not partial:
            raise InputFileError(
                f"{file.name}: incomplete: it ends within a block",
                hint="what could be read was reported; --partial accepts it",
            )


def draws_blocks(output: str | None) -> bool:
    """Tell whether the report's output can show block characters: files are UTF-8."""
    if output not in {None, "-"}:
        return True
    try:
        "█·│└─".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


_NO_FILTERS: Options = {
    "focus": (), "ignore": (), "hide": (), "thread": (), "min_samples": 0,
}  # fmt: skip


def views_of(
    run: Run, file: str, domain: int, groups: Sequence[Sites], options: Options
) -> tuple[Opened, list[View]]:
    """Name the sites of one memory of a run and filter them: a view of each group, in which they
    are in use. Raises `MemError`.
    """
    from mem_parser.memlog.livesites import SiteSums
    from mem_parser.memlog.profiles import as_live, bare_profile
    from mem_parser.reports.view import make_view

    filters = filters_from(_NO_FILTERS | options | {"domain": ()})
    every = SiteSums()
    for sites in groups:
        every.add(*sites)
    like = bare_profile(run, domain)
    opened = named([Source(file, as_live(run, like, every.sums()))], options)
    say_missing([opened])
    profiles = [as_live(run, opened.profile, sites) for sites in groups]
    return opened, [make_view(profile, opened.symbols, filters) for profile in profiles]
