"""`mem_parser diff`."""

from __future__ import annotations

from typing import Any

import click

from mem_cli.options import finding_options, symbol_options
from mem_cli.output import check_output
from mem_cli.pipeline import check_has, deliver, named, read, say_missing


@click.command("diff", short_help="Say what changed between two profiles, and what is noise.")
@click.argument("base", metavar="BASE")
@click.argument("new", metavar="NEW")
@symbol_options
@click.option(
    "--by", type=click.Choice(["function", "line", "stack"]), default="function",
    show_default=True, help="What a row stands for.",
)  # fmt: skip
@click.option("--alloc", is_flag=True, help="All blocks allocated, freed or not.")
@click.option("--objects", is_flag=True, help="Count blocks instead of bytes.")
@click.option("-n", "--rows", type=click.IntRange(min=0), default=20, help="Rows; 0: all.")
@finding_options
def diff(
    base: str, new: str, *, by: str, alloc: bool, objects: bool, rows: int, **options: Any
) -> None:
    r"""Say what changed from one profile to another, and what of it is more than noise.

    \b
    mem_parser diff monday.heap tuesday.heap
    mem_parser diff --by line first.heap second.heap
    """
    from mem_cli.terminal import room
    from mem_parser.diff import Level, diff_profiles
    from mem_parser.model import Count, Unit
    from mem_parser.reports.diff import diff_lines

    check_output(options["output"])
    sources = read((base, new))
    count = Count.ALLOC if alloc else Count.INUSE
    check_has(sources, count)
    old = named(sources[:1], options | {"binary": None})
    recent = named(sources[1:], options)
    say_missing((old, recent))
    result = diff_profiles(
        (old.profile, old.symbols),
        (recent.profile, recent.symbols),
        level=Level(by),
        count=count,
        unit=Unit.OBJECTS if objects else Unit.SPACE,
        base_name=base,
    )
    lines = diff_lines(result, rows=rows, width=room(options["output"]))
    deliver(sources, options, lines, record=result.as_json, fold=False)
