"""`mem_parser diff`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from mem_cli.options import finding_options, symbol_options
from mem_cli.output import check_output
from mem_cli.pipeline import check_has, deliver, named, read, say_missing
from mem_parser.escape import one_line

if TYPE_CHECKING:
    from mem_parser.diff import Diff, DiffRow
    from mem_parser.estimate import Estimate
    from mem_parser.model import Unit


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
    lines = _diff_lines(result, rows, room(options["output"]))
    deliver(sources, options, lines, record=result.as_json, fold=False)


def _rows(number: int) -> str:
    return f"{number} row" if number == 1 else f"{number} rows"


def _diff_lines(result: Diff, rows: int, width: int) -> Iterator[str]:
    from mem_parser.diff import Change

    real = [r for r in result.rows if r.change is not Change.NOISE]
    noise = [r for r in result.rows if r.change is Change.NOISE]
    yield f"Change: {_signed(result.total, result.unit)} (95 %)   {_rows(len(real))} beyond noise"
    if real:
        yield f"{'change':>11} {'±':>9} {'now':>10}  {'':<6}  name"
    shown = real[:rows] if rows else real
    for row in shown:
        yield _diff_row(row, result.unit, width)
    if len(real) > len(shown):
        yield f"{len(real) - len(shown)} more rows: -n 0 shows all"
    if noise:
        net = sum(r.delta.value for r in noise)
        yield f"{_rows(len(noise))} within the noise ({_plain(net, result.unit)} together)"
    for note in result.notes:
        yield f"note: {one_line(note)}"


def _diff_row(row: DiffRow, unit: Unit, width: int) -> str:
    from mem_parser.units import format_value

    margin = row.delta.margin95
    error = format_value(margin, unit) if math.isfinite(margin) and margin else ""
    spot = row.frames[0].spot if row.frames else ""
    head = (
        f"{_plain(row.delta.value, unit):>11} {error:>9} {format_value(row.new.value, unit):>10}  "
        f"{row.change!s:<6}  "
    )
    names = " ← ".join(one_line(f.function) for f in row.frames) or "[no stack]"
    text = f"{names}  {one_line(spot)}".rstrip()
    room = width - len(head)
    return head + (text if len(text) <= room else text[: room - 1] + "…")


def _plain(value: float, unit: Unit) -> str:
    from mem_parser.units import format_value

    return ("+" if value >= 0 else "-") + format_value(abs(value), unit)


def _signed(value: Estimate, unit: Unit) -> str:
    from mem_parser.units import format_value

    margin = f" ± {format_value(value.margin95, unit)}" if math.isfinite(value.std_error) else ""
    return _plain(value.value, unit) + margin
