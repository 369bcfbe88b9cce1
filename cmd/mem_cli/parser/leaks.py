"""`mem_parser leaks`."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from mem_cli.commands import PATH
from mem_cli.options import (
    Options,
    filters_from,
    finding_options,
    frame_options,
    named_rule,
    names_from,
    narrowing_options,
    symbol_options,
    time_options,
    verbose_option,
)
from mem_cli.output import check_output
from mem_cli.parser.service import added_up, members_of
from mem_cli.pipeline import Opened, Source, deliver, named, read, say_missing
from mem_parser.errors import UsageProblem
from mem_parser.escape import shell_path, shell_paths
from mem_parser.sizes import parse_seconds

if TYPE_CHECKING:
    from mem_parser.filters import Filters
    from mem_parser.leaks.findings import LeakReport

LEAK_FOUND = 6
"""Exit code of `--fail-on leak`."""
UNSEEN = 7
"""And where there may be one: among samples without a stack, after too short a time, unseen, or
where blocks may replace older ones."""


class _Window(click.ParamType[tuple[float, float]]):
    """`A:B`, times since the start of the capture."""

    name = "A:B"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float]:
        if isinstance(value, tuple):
            return value
        low, colon, high = str(value).partition(":")
        try:
            window = parse_seconds(low), parse_seconds(high)
        except ValueError:
            window = math.nan, math.nan
        if not colon or not 0 <= window[0] < window[1]:
            self.fail(f"{value!r} is not A:B with 0 <= A < B, such as 20:40 or 1m:5m", param, ctx)
        return window


@click.command("leaks")
@click.argument("files", type=PATH, metavar="FILE...", nargs=-1, required=True)
@symbol_options
@time_options
@click.option(
    "--born", type=_Window(), help="Only blocks allocated from A to B (seconds, or 1m:5m)."
)
@click.option(
    "--at-end", is_flag=True, help="What is left of a program that freed its memory as it ended."
)
@click.option(
    "--suppressions", type=PATH, metavar="FILE", help="Stacks to pass over (leak:PATTERN lines)."
)
@narrowing_options
@frame_options
@click.option(
    "--fail-on",
    type=click.Choice(["leak"]),
    help="Exit with 6 if there is a leak, 7 if there may be one (too short, lost stacks).",
)
@click.option(
    "-n",
    "--rows",
    type=click.IntRange(min=0),
    help="Rows of each verdict (all leaks, 10 of others); 0: all.",
)
@verbose_option
@finding_options
def leaks(
    files: tuple[str, ...],
    born: tuple[float, float] | None,
    at_end: bool,
    suppressions: str | None,
    fail_on: str | None,
    **options: Any,
) -> None:
    r"""Find leaks and tell them from caches.

    \b
    mem_parser leaks custom_prof.4711.1.heap
    mem_parser leaks first.heap second.heap last.heap     snapshots of one capture
    mem_parser leaks FOLDER                               processes of one time, added up
    mem_parser leaks --born 20:40 custom_prof.4711.1.heap
    mem_parser leaks --ignore libcrypto custom_prof.4711.1.heap
    """
    from mem_cli.terminal import room
    from mem_parser.leaks.judged import judged, narrow
    from mem_parser.leaks.suppressions import read_suppressions
    from mem_parser.reports.leaks import leak_lines
    from mem_parser.reports.table import folded_lines, nameless_lines
    from mem_parser.unseen import missing

    filters = filters_from(options)
    check_output(options["output"])
    given = read_suppressions(suppressions) if suppressions else []
    sources, processes = _in_order(files, options)
    last = sources[-1:]
    opened = named(last, options)
    say_missing([opened])
    narrowed = narrow(opened.profile, opened.symbols, filters)
    profile = narrowed.profile
    judge = functools.partial(
        judged,
        binary=options["binary"],
        patterns=given,
        earlier=[source.profile for source in sources[:-1]],
        window=born,
        at_end=at_end,
    )
    excess = judge(opened.profile, opened.symbols).excess if filters.narrows else None
    report = judge(profile, narrowed.symbols, rule=named_rule(filters), excess=excess)
    example = members_of(processes, options, report)[0].file if processes else last[0].file
    report.notes = [
        *missing(profile.capture),
        *opened.shown.notes,
        *narrowed.notes,
        *(folded_lines(narrowed.symbols, filters.rule) if _in_question(report) else ()),
        *(_wrapper(opened, filters) if report.leaks and not filters.narrows else ()),
        *(nameless_lines(narrowed.symbols, at_length=True) if options["verbose"] else ()),
        *report.notes,
    ]
    if profile.capture.suppressions and not suppressions:
        theirs = shell_path(profile.capture.suppressions)
        report.notes.append(
            f"the program's LSAN_OPTIONS name a list: --suppressions {theirs} applies it"
        )
    code, width = _exit_code(report) if fail_on else None, room(options["output"])
    lines = leak_lines(
        report, profile,
        file=example, width=width, exit_code=code, names_from=names_from(options),
        rows=options["rows"],
    )  # fmt: skip
    deliver(last, options, lines, record=report.as_json, fold=False)
    if code:
        raise SystemExit(code)


def _wrapper(opened: Opened, filters: Filters) -> Iterator[str]:
    """Yield how to see the callers of what nearly all is charged to."""
    from mem_parser.reports.view import View

    shown = View(*filters.apply(opened.profile, opened.symbols), opened.symbols, filters)
    yield from filter(None, [shown.wrapper])


def _in_question(report: LeakReport) -> bool:
    """Tell whether a row may be for the user to look into, and its function not the expected."""
    return bool(report.leaks) or any(finding.is_open for finding in report.findings)


def _exit_code(report: LeakReport) -> int:
    """Return the exit code of `--fail-on leak`."""
    if report.leaks:
        return LEAK_FOUND
    return UNSEEN if report.is_partial or report.too_short or report.blind else 0


def _in_order(files: tuple[str, ...], options: Options) -> tuple[list[Source], list[Source]]:
    """Read snapshots, the oldest first, and of different processes these and their sum. Raises
    `UsageProblem` for files of several captures of one process, or of several times.
    """
    from mem_parser.frames import same_capture

    if not any(map(os.path.isdir, files)):
        sources = read(files, options)
        if len(sources) < 2 or same_capture([s.profile for s in sources]):
            by_time = sorted(sources, key=lambda one: one.profile.capture.duration_s or 0.0)
            return by_time, []
        captures = [one.profile.capture for one in sources]
        if len({(one.host, one.pid) for one in captures if one.pid}) < len(sources):
            raise UsageProblem(
                "these files are not snapshots of one capture, nor of one process each",
                hint="mem_profiler snapshot makes snapshots; name one file of each process",
            )
    found = added_up(files, options)
    if found.others or not found.is_dated:
        names = [one.file for one in found.sources]
        words = shell_paths(names if found.is_dated else names[:1], but_some=True)
        raise UsageProblem(
            "these processes were not captured at one time: their leaks cannot be added up",
            hint=f"mem_parser leaks {words} shows those of {'some' if ' ' in words else 'one'}",
        )
    return [found.whole], found.sources if len(found.sources) > 1 else []
