"""`mem_parser diff`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import click

from mem_cli.commands import PATH
from mem_cli.options import (
    filter_options,
    filters_from,
    finding_options,
    named_rule,
    settled,
    symbol_options,
)
from mem_cli.output import check_output
from mem_cli.pipeline import check_has, deliver, named, read, say_missing

_ROWS = 20


@click.command("diff", short_help="Say what changed between two profiles, and what is noise.")
@click.argument("base", type=PATH, metavar="BASE")
@click.argument("new", type=PATH, metavar="NEW")
@symbol_options
@click.option(
    "--by", type=click.Choice(["function", "line", "stack"]), default="function",
    show_default=True, help="What a row stands for.",
)  # fmt: skip
@filter_options
@click.option("-n", "--rows", type=click.IntRange(min=0), help="Rows (20); 0: all.")
@finding_options
def diff(base: str, new: str, *, by: str, rows: int | None, **options: Any) -> None:
    r"""Say what changed from one profile to another, and what of it is more than noise.

    \b
    mem_parser diff monday.heap tuesday.heap
    mem_parser diff --by line first.heap second.heap
    mem_parser diff --focus net --alloc first.heap second.heap
    """
    from mem_cli.terminal import fitted, room
    from mem_parser.diff import Level, diff_profiles
    from mem_parser.filters import apply_to_both
    from mem_parser.names import FrameRule
    from mem_parser.reports.diff import diff_lines
    from mem_parser.reports.table import folded_lines

    filters_from(options)  # refuses before large files are read
    check_output(options["output"])
    sources = read((base, new))
    filters = filters_from(settled(options, [source.profile for source in sources]))
    check_has(sources, filters.count)
    recent = named(sources[1:], options)
    old = named(sources[:1], options | {"binary": None}, like=recent)
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
        base_name=base,
        rule=named_rule(filters),
    )
    result.notes += dict.fromkeys((*recent.shown.notes, *old.shown.notes))
    result.notes += folded_lines(recent.symbols, filters.rule)
    if filters.words:
        result.notes.insert(0, f"only {' '.join(filters.words)}")
    width = room(options["output"])

    def lines(most: int | None) -> Iterator[str]:
        return diff_lines(result, rows=_ROWS if most is None else most, width=width)

    shown = fitted(lines, rows, options["output"])
    deliver(sources, options, shown, record=result.as_json, fold=False)
