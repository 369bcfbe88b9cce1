"""`mem_parser diff`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from mem_cli.commands import PATH
from mem_cli.options import (
    Options,
    check_form,
    csv_option,
    debug_file_options,
    filter_options,
    filters_from,
    finding_options,
    markdown_option,
    named_rule,
    settled,
    time_options,
)
from mem_cli.pipeline import (
    Opened,
    Source,
    check_has,
    check_is_log,
    deliver,
    named,
    read,
    say_missing,
)
from mem_parser.errors import UsageProblem
from mem_parser.words import phrase

if TYPE_CHECKING:
    from mem_parser.diff import Diff

_ROWS = 20


@click.command("diff")
@click.argument("base", type=PATH, metavar="BASE")
@click.argument("new", type=PATH, metavar="NEW", required=False)
@click.argument("parts", type=PATH, metavar="[MORE...]", nargs=-1)
@click.option(
    "--at",
    "moments",
    nargs=2,
    metavar="A B",
    help="Of a .memlog: what was in use at A and at B (or LOG@A LOG@B).",
)
@time_options
@click.option(
    "-p",
    "--binary",
    type=PATH,
    metavar="BINARY",
    multiple=True,
    help="The program that was profiled; twice: that of BASE, that of NEW.",
)
@debug_file_options
@click.option(
    "--by", type=click.Choice(["function", "line", "stack"]), default="function",
    show_default=True, help="What a row stands for.",
)  # fmt: skip
@click.option("--lines", is_flag=True, help="The same as --by line.")
@filter_options
@click.option("-n", "--rows", type=click.IntRange(min=0), help="Rows (20); 0: all.")
@finding_options
@csv_option
@markdown_option
def diff(base: str, new: str | None, *, by: str, rows: int | None, **options: Any) -> None:
    r"""Say what changed from one profile to another, and what of it is more than noise.

    \b
    mem_parser diff monday.heap tuesday.heap
    mem_parser diff --by line first.heap second.heap
    mem_parser diff --focus net --alloc first.heap second.heap
    mem_parser diff app.1-0.memlog@12s app.1-0.memlog@1m30s
    mem_parser diff --at 12s 1m30s app.1-*.memlog
    """
    from mem_cli.terminal import fitted, room
    from mem_parser.diff import Level, diff_profiles
    from mem_parser.filters import apply_to_both
    from mem_parser.model import Count
    from mem_parser.names import FrameRule
    from mem_parser.reports import diff as report
    from mem_parser.reports.table import folded_lines, nameless_lines
    from mem_parser.words import joined

    if options.pop("lines"):
        if by == "stack":
            raise UsageProblem("--lines and --by stack exclude each other")
        by = "line"
    filters_from(options)  # refuses before large files are read
    check_form(options)
    sources = _sources(base, new, options)
    filters = filters_from(settled(options, [source.profile for source in sources]))
    check_has(sources, filters.count)
    of_base, of_new = _programs(options["binary"], sources)
    recent = named(sources[1:], options | {"binary": of_new})
    old = named(sources[:1], options | {"binary": of_base}, like=recent)
    say_missing((old, recent))
    before, after = apply_to_both(
        dataclasses.replace(filters, rule=FrameRule.NONE),
        (old.profile, old.symbols),
        (recent.profile, recent.symbols),
    )
    result = diff_profiles(
        before,
        after,
        level=Level(by),
        count=filters.count,
        unit=filters.unit,
        base_name=sources[0].file,
        rule=named_rule(filters),
    )
    if result.paired and filters.count is Count.INUSE:
        _mark_turnover(result, recent, of_new)
    result.notes += dict.fromkeys((*recent.shown.notes, *old.shown.notes))
    result.notes += folded_lines(recent.symbols, filters.rule)
    nameless = [list(nameless_lines(one.symbols)) for one in (old, recent)]
    for one, found in zip((old, recent), nameless, strict=True):
        if found and nameless[0] != nameless[1]:
            found[0] = joined(": ", [one.sources[0].file, found[0]])
        result.notes += (line for line in found if line not in result.notes)
    if filters.words:
        result.notes.insert(0, f"only {' '.join(filters.words)}")
    width = room(options["output"])

    few = _ROWS if rows is None else rows

    def lines(most: int | None) -> Iterator[str]:
        return report.diff_lines(result, rows=_ROWS if most is None else most, width=width)

    shown = fitted(lines, rows, options["output"])
    deliver(
        sources,
        options,
        shown,
        record=result.as_json,
        rows=lambda: report.records(result, rows or 0),
        keys=report.KEYS,
        markdown=lambda: report.markdown_lines(result, rows=few),
        fold=False,
    )


def _mark_turnover(result: Diff, recent: Opened, binary: str | None) -> None:
    """Mark what grew and, by the ages of its blocks, only replaces older ones; and note it."""
    from mem_parser.diff import Change
    from mem_parser.leaks.judged import judged_if_dated, turned_over

    capture = recent.profile.capture
    if recent.profile.since_start or capture.from_start:
        return
    report = judged_if_dated(recent.profile, recent.symbols, binary)
    if report is None:
        return
    result.turnover = turned_over(report)
    few = result.rows[: min(_ROWS, result.rows.beyond_noise)]
    if any(result.verdict(row) is Change.TURNOVER for row in few):
        result.notes.append(
            phrase("turnover: new blocks replace older ones, as in a cache; see mem_parser leaks")
        )


def _programs(given: Sequence[str], sources: Sequence[Source]) -> Sequence[str | None]:
    """Return the program of each of the two profiles. Raises `UsageProblem`."""
    from mem_parser.symbols.files import fits

    if len(given) > 2:
        raise UsageProblem(f"-p is given {len(given)} times: once for BASE, once for NEW")
    if len(given) != 1:
        return given or (None, None)
    found = [given[0] if fits(source.profile, given[0]) else None for source in sources]
    return found if any(found) else (None, given[0])  # refused, with the reason


def _sources(base: str, new: str | None, options: Options) -> list[Source]:
    """Read the two profiles, which may be moments of one log. Raises `MemError`."""
    more, moments = options.pop("parts"), options.pop("moments")
    files = [*filter(None, (base, new)), *more]
    if moments is not None:
        if options["from_text"] or options["to_text"]:
            raise UsageProblem("--at and --from or --to exclude each other")
        check_is_log(base)
        return [_at(files, moment, options) for moment in moments]
    if len(files) != 2:
        hint = "mem_parser diff OLD NEW; mem_parser diff --at 12s 1m30s LOG..."
        if more and not any(".memlog" in file for file in files):
            hint = "add up those of each side first: mem_parser merge OLD... -o old.heap"
        raise UsageProblem(
            "a difference is of two profiles, or of two moments of one log", hint=hint
        )
    return [_one(file, options) for file in files]


def _one(file: str, options: Options) -> Source:
    """Read a file, or a moment of one: `LOG@12s`. Raises `MemError`."""
    log, at, moment = file.rpartition("@")
    if at and log and moment and not os.path.exists(file):
        check_is_log(log)
        return _at([log], moment, options)
    [source] = read([file], options)
    return source


def _at(files: list[str], moment: str, options: Options) -> Source:
    [source] = read(files, options | {"from_text": None, "to_text": moment})
    return source._replace(file=f"{source.file}@{moment}")
