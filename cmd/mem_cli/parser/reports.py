"""`mem_parser top`, `summary`, `tree`, `stats`, `peek`, `list` and `graph`.

All of them take the same file options and filters. `--json` prints one object whose first key is
`rows` (`stats`: the tables) and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mem_cli.options import check_whole, file_options, filter_options, filters_from, open_profile
from mem_cli.output import check_output, write_result
from mem_parser.errors import UsageProblem

if TYPE_CHECKING:
    from mem_parser.reports.grid import Record
    from mem_parser.reports.view import View

Command = TypeVar("Command", bound=Callable[..., Any])


def _shared(command: Command) -> Command:
    command = click.option("-o", "--output", metavar="FILE", help="Write here.")(command)
    return file_options(filter_options(command))


_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_csv_option = click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")


def _view(file: str, options: dict[str, Any], *, all_counts: bool = False) -> View:
    from mem_parser.reports.view import make_view

    filters = filters_from(options)
    check_output(options["output"])
    count = None if all_counts else filters.count
    profile, symbols = open_profile(file, options, count)
    return make_view(profile, symbols, filters)


def _end(view: View, file: str, options: dict[str, Any]) -> None:
    check_whole(file, view.profile, partial=options["partial"])


def _object(view: View, rows: list[Record] | None, **more: object) -> Record:
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


def _one_form(options: dict[str, Any]) -> None:
    if options["as_json"] and options["as_csv"]:
        raise UsageProblem("--json and --csv exclude each other")


def _file_first(file: str, function: str) -> tuple[str, str]:
    """Return (file, function), in whatever order they were given: only one of them is a file."""
    if not os.path.exists(file) and os.path.isfile(function):
        return function, file
    return file, function


@click.command("top", short_help="Who allocated: one row per function.")
@_shared
@click.option("--cum", is_flag=True, help="Sort by cum instead of flat.")
@click.option("--lines", is_flag=True, help="One row per source line instead of per function.")
@click.option("-n", "--rows", type=click.IntRange(min=0), help="Rows; 0: all.")
@_json_option
@_csv_option
def top(file: str, **options: Any) -> None:
    r"""Who allocated: one row per function, every number with its 95 % margin.

    \b
    mem_parser top custom_prof.4711.1.heap
    mem_parser top custom_prof.4711.1.heap --focus net --alloc --json
    """
    from mem_cli.terminal import show, write_csv, write_json
    from mem_parser.reports import top as report
    from mem_parser.reports.aggregate import GroupBy

    _one_form(options)
    view = _view(file, options)
    group = GroupBy.LINE if options["lines"] else GroupBy.FUNCTION
    found = report.top(view, report.TopOptions(options["cum"], options["rows"], group))
    if options["as_json"]:
        rows = report.records(found)
        write_json(_object(view, rows, left_out=len(found.left_out)), options["output"])
    elif options["as_csv"]:
        write_csv(report.records(found), report.KEYS, options["output"])
    else:
        show(report.blocks(found), options["output"])
    _end(view, file, options)


@click.command("summary")
@_shared
@click.option(
    "-s",
    "--sort",
    type=click.Choice(["total", "own", "count"]),
    default="total",
    help="What to sort by (total).",
)
@click.option("-n", "--rows", type=click.IntRange(min=0), default=30, help="Rows (30); 0: all.")
@_json_option
@_csv_option
def summary(file: str, **options: Any) -> None:
    r"""Total memory, own memory and number of blocks by function.

    \b
    mem_parser summary custom_prof.4711.1.heap -s own
    """
    from mem_cli.terminal import show, write_csv, write_json
    from mem_parser.reports import summary as report

    _one_form(options)
    view = _view(file, options)
    found = report.summary(view, report.Sort(options["sort"]), options["rows"])
    if options["as_json"]:
        write_json(_object(view, report.records(found), left_out=found.left_out), options["output"])
    elif options["as_csv"]:
        write_csv(report.records(found), report.KEYS, options["output"])
    else:
        show(report.blocks(found), options["output"])
    _end(view, file, options)


@click.command("tree")
@_shared
@click.option("-n", "--rows", type=click.IntRange(min=0), help="The heaviest N (200); 0: all.")
@click.option(
    "--min-share",
    type=click.FloatRange(0, 100),
    metavar="PERCENT",
    help="Leave out smaller branches (0.5).",
)
@click.option("--depth", type=click.IntRange(min=0), default=0, help="Levels; 0: all.")
@click.option("--invert", is_flag=True, help="From the allocating functions to their callers.")
@_json_option
def tree(file: str, **options: Any) -> None:
    r"""Who called whom, as indented text.

    \b
    mem_parser tree custom_prof.4711.1.heap --depth 8
    mem_parser tree custom_prof.4711.1.heap --invert
    """  # fmt: skip
    from mem_cli.terminal import show, write_json
    from mem_parser.reports import text_tree as report

    view = _view(file, options)
    share, most = options["min_share"], options["rows"]
    chosen = report.TreeOptions(
        share=report.LEAST_SHARE if share is None else share / 100,
        most=report.MOST_NODES if most is None else most,
        depth=options["depth"],
        inverted=options["invert"],
    )
    found = report.text_tree(view, chosen)
    if options["as_json"]:
        rows = report.records(found)
        write_json(_object(view, rows, left_out=found.left_out), options["output"])
    else:
        show(report.blocks(found), options["output"])
    _end(view, file, options)


@click.command("stats", short_help="Totals, sizes, largest functions, modules and threads.")
@_shared
@click.option("-n", "--rows", type=click.IntRange(min=0), default=5, help="Rows (5); 0: all.")
@_json_option
def stats(file: str, **options: Any) -> None:
    r"""Totals, sizes, and the largest functions, modules, threads and domains.

    \b
    mem_parser stats custom_prof.4711.1.heap --alloc
    """
    from mem_cli.terminal import show, write_json
    from mem_parser.reports import stats as report

    if options["objects"]:
        raise UsageProblem("stats shows both bytes and blocks", hint="leave --objects out")
    view = _view(file, options, all_counts=True)
    found = report.stats(view, options["rows"])
    if options["as_json"]:
        write_json(_object(view, None, **report.record(found)), options["output"])
    else:
        show(report.blocks(found), options["output"])
    _end(view, file, options)


@click.command("peek", short_help="Show the callers and callees of FUNCTION.")
@_shared
@click.argument("function", metavar="FUNCTION")
@_json_option
def peek(file: str, function: str, **options: Any) -> None:
    r"""Show the callers and callees of FUNCTION (a name, or a regular expression).

    \b
    mem_parser peek custom_prof.4711.1.heap sdsnewlen
    """
    from mem_cli.terminal import show, write_json
    from mem_parser.reports import peek as report

    file, function = _file_first(file, function)
    view = _view(file, options)
    found = report.peek(view, function)
    if options["as_json"]:
        write_json(_object(view, report.records(found)), options["output"])
    else:
        show(report.blocks(view, found), options["output"])
    _end(view, file, options)


@click.command("list")
@_shared
@click.argument("function", metavar="FUNCTION")
@click.option("--source-dir", multiple=True, metavar="DIR", help="Look for sources here too.")
@click.option(
    "--trust-sources", is_flag=True, help="Show the files that the profile names, whosever it is."
)
@_json_option
def list_lines(file: str, function: str, **options: Any) -> None:
    r"""Show the source lines of FUNCTION with what they allocated.

    \b
    mem_parser list custom_prof.4711.1.heap sdsnewlen --source-dir ~/redis/src
    """
    from mem_cli.terminal import show, write_json
    from mem_parser.reports import listing as report

    file, function = _file_first(file, function)
    view = _view(file, options)
    distrusted = "" if options["trust_sources"] else report.distrust(view.profile)
    found = report.listing(view, function, report.Sources(options["source_dir"], distrusted))
    if options["as_json"]:
        write_json(_object(view, report.records(found)), options["output"])
    else:
        show(report.blocks(view, found), options["output"])
    _end(view, file, options)


@click.command("graph")
@_shared
@click.option("--base", metavar="FILE", help="Colour what changed since this older profile.")
def graph(file: str, **options: Any) -> None:
    r"""Draw the call graph as SVG.

    \b
    mem_parser graph custom_prof.4711.1.heap -o redis.svg --focus net
    mem_parser graph new.heap --base old.heap -o change.svg
    """
    from mem_parser.diff import variance_between
    from mem_parser.model import Count
    from mem_parser.reports.graph import build_graph
    from mem_parser.reports.graph_diff import build_diff_graph
    from mem_parser.reports.svg import draw_svg

    older = options["base"]
    # What was freed since the base tells how sure its changes are.
    view = _view(file, options, all_counts=older is not None)
    filters = view.filters
    name = os.path.basename(options["binary"] or view.profile.capture.exe or file)
    if older is None:
        drawn = build_graph(view.profile, view.sums(), filters.count, filters.unit, name)
        write_result(draw_svg(drawn), options["output"])
        _end(view, file, options)
        return
    base = _view(older, options | {"binary": None}, all_counts=True)
    paired = filters.count is Count.INUSE
    drawn = build_diff_graph(
        view.profile,
        view.sums(),
        base.sums(),
        count=filters.count,
        unit=filters.unit,
        title=name,
        between=variance_between(base.profile, view.profile, filters.unit) if paired else None,
    )
    write_result(draw_svg(drawn), options["output"])
    _end(view, file, options)
    _end(base, older, options)


commands = (top, summary, tree, stats, peek, list_lines, graph)
"""What the group `mem_parser` takes in."""
