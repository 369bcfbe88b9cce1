"""One table of functions with a column for each domain: host and device bytes side by side.

Domains are different memories, so no number here is a sum over them. A row is as large as its
largest share of any domain's total.
"""

from __future__ import annotations

from collections.abc import Iterator

from mem_parser.model import Count, Profile, Unit
from mem_parser.reports.aggregate import GroupBy, Row, rows_of, sum_stacks
from mem_parser.reports.device import refusal_lines, remainder
from mem_parser.reports.header import header_lines
from mem_parser.reports.table import SMALL_SHARE, TableOptions, nameless_lines
from mem_parser.symbols.table import Symbols
from mem_parser.units import counted, format_value

_NOTHING = "-"


def format_domains(
    joined: Profile, symbols: Symbols, options: TableOptions, group: GroupBy
) -> Iterator[str]:
    """Yield the lines of the table of a profile that was joined from several."""
    rows: dict[str, dict[str, Row]] = {}
    totals = {}
    for number, name in enumerate(joined.domains):
        part = joined.where(joined.sites.domain == number)
        totals[name] = part.total(options.count, options.unit)
        sums = sum_stacks(
            part, symbols, count=options.count, unit=options.unit, rule=options.rule, group=group,
            folds=options.folds,
        )  # fmt: skip
        for row in rows_of(sums):
            rows.setdefault(row.name, {})[name] = row
    for name, total in totals.items():
        plain = options.plain_bytes
        facts = header_lines(joined.parts[name], total, options.count, options.unit, plain=plain)
        yield f"{name}: {facts[0]}"
        yield from (f"  {line}" for line in facts[1:])

    def value(found: dict[str, Row], name: str) -> float:
        row = found.get(name)
        if row is None:
            return 0.0
        return row.cum.value if options.by_cum else row.flat.value

    def share(found: dict[str, Row], *, either: bool = False) -> float:
        shares = [0.0]
        for name, row in found.items():
            most = max(row.flat.value, row.cum.value) if either else value(found, name)
            shares.append(most / totals[name].value if totals[name].value else 0.0)
        return max(shares)

    order = sorted(
        rows, key=lambda name: (-share(rows[name]), -share(rows[name], either=True), name)
    )
    shown = [n for n in order if share(rows[n], either=True) >= SMALL_SHARE]
    if options.rows is not None:
        shown = order[: options.rows] if options.rows else order
    yield from _grid(joined, [(n, [value(rows[n], d) for d in totals]) for n in shown], options)
    yield from refusal_lines(joined, symbols, options.rule)
    yield from nameless_lines(symbols, at_length=options.at_length)
    if len(shown) < len(order):
        yield f"{counted(len(order) - len(shown), 'smaller row')} hidden. Use -n 0 to show all."


def _grid(
    joined: Profile, rows: list[tuple[str, list[float]]], options: TableOptions
) -> Iterator[str]:
    def text(value: float) -> str:
        if not value:
            return _NOTHING
        return f"{value:.0f}" if options.plain_bytes else format_value(value, options.unit)

    widths = [max(10, len(name)) for name in joined.domains]
    heads = (name.rjust(width) for name, width in zip(joined.domains, widths, strict=True))
    yield "  ".join([*heads, "name (cum)" if options.by_cum else "name (flat)"])
    for name, values in [*rows, *_remainders(joined, options)]:
        cells = (text(value).rjust(width) for value, width in zip(values, widths, strict=True))
        yield options.cut("  ".join([*cells, name]))


def _remainders(joined: Profile, options: TableOptions) -> Iterator[tuple[str, list[float]]]:
    """Yield a row for each kind of remainder."""
    if options.count is not Count.INUSE or options.unit is not Unit.SPACE:
        return
    found = [remainder(joined.parts[name]) for name in joined.domains]
    for name in dict.fromkeys(rest.name for rest in found if rest is not None):
        yield name, [r.bytes if r is not None and r.name == name else 0.0 for r in found]
