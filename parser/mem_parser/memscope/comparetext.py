"""A comparison of two runs as lines of text, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from mem_parser.errors import one_line
from mem_parser.memscope.compare import Comparison, DeviceComparison, Pair
from mem_parser.memscope.csvfile import row_text
from mem_parser.memscope.decompose import table_lines
from mem_parser.memscope.form import COMPARE_LINES, NOTHING
from mem_parser.sizes import short_size

_NAME_CHARS = 60


def lines(found: Comparison, rows: int) -> Iterator[str]:
    """Yield the lines: per device the peaks, the modules and the operators, at most ``rows`` of
    each (0: all), the largest change first.
    """
    base, compare = found.sides
    yield f"base:    {one_line(base)}"
    yield f"compare: {one_line(compare)}"
    for device in found.devices:
        yield ""
        yield from _device(device, rows, found.level)


def record(found: Comparison) -> dict[str, Any]:
    """Return all of it with plain numbers of bytes. A side without such a thing is None, and counts
    as 0 in the difference.
    """
    return {
        "base": found.base,
        "compare": found.compare,
        "level": found.level,
        "steps": None if found.steps is None else list(found.steps),
        "devices": [_device_record(device) for device in found.devices],
    }


def _device_record(device: DeviceComparison) -> dict[str, Any]:
    return {
        "device": device.device,
        "peaks": [{"type": one.kind, **_pair("bytes", one.bytes)} for one in device.peaks],
        "modules": [
            {
                "type": one.kind,
                "owner": one.owner,
                "at_peak": _pair("bytes", one.at_peak_bytes),
                "allocated": _pair("bytes", one.allocated_bytes),
            }
            for one in device.modules
        ],
        "names": [
            {"name": one.name, **_pair("calls", one.counts), **_pair("bytes", one.bytes)}
            for one in device.by_name()
        ],
        "operators": [
            {"event": one.event, "name": one.name, **_pair("bytes", one.bytes)}
            for one in device.operators
        ],
    }


def _pair(what: str, pair: Pair) -> dict[str, int | None]:
    return {
        f"base_{what}": pair.base,
        f"compare_{what}": pair.compare,
        f"diff_{what}": pair.change,
    }


def _device(device: DeviceComparison, rows: int, level: str) -> Iterator[str]:
    matched = sum(None not in one.bytes for one in device.operators)
    alone = [sum(one.bytes[1 - side] is None for one in device.operators) for side in (0, 1)]
    what = "operators" if level == "op" else "kernels"
    yield (
        f"Device {one_line(device.device)}: {matched} {what} in both, {alone[0]} only in base,"
        f" {alone[1]} only in compare"
    )
    if device.peaks:
        yield ""
        yield from _table(
            ("peak of", "base", "compare", "change"),
            [(one.kind, *_sizes(one.bytes)) for one in device.peaks],
            0,
        )
    if device.modules:
        yield ""
        yield from _table(
            ("module", "base at peak", "compare at peak", "change", "base in all",
             "compare in all", "change"),
            [
                (_owner(one.kind, one.owner), *_sizes(one.at_peak_bytes),
                 *_sizes(one.allocated_bytes))
                for one in device.modules
            ],
            rows,
        )  # fmt: skip
    names = device.by_name()
    if names:
        yield ""
        yield from _table(
            (what[:-1], "base calls", "compare calls", "base", "compare", "change"),
            [
                (one.name, str(one.counts.base), str(one.counts.compare), *_sizes(one.bytes))
                for one in names
            ],
            rows,
        )


def _owner(kind: str, owner: str) -> str:
    return owner if owner == kind else f"{kind} {owner}"


def _sizes(pair: Pair) -> tuple[str, str, str]:
    base, compare = (NOTHING if value is None else short_size(value) for value in pair)
    sign = "+" if pair.change >= 0 else "-"
    return base, compare, sign + short_size(abs(pair.change))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], most: int) -> Iterator[str]:
    """Yield a table of at most so many rows (0: all), and how many more there are."""
    every = [[one_line(cell)[:_NAME_CHARS] for cell in row] for row in rows]
    shown = every[:most] if most else every
    yield from table_lines(head, shown)
    if len(every) > len(shown):
        yield f"{len(every) - len(shown)} more"


def compare_lines(rows: Iterable[Sequence[object]]) -> Iterable[str]:
    """Yield the lines of a `memory_compare_*.csv`: event, name, device, base, compare, difference.

    The first header line ends behind its last word, as the tool writes it.
    """
    for header in COMPARE_LINES:
        yield ",".join(header) + "\n"
    for row in rows:
        yield row_text([str(field) for field in row]) + "\n"
