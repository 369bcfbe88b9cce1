"""Memory by class of owner as lines of text, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mem_parser.errors import one_line
from mem_parser.memscope.classsums import Moment
from mem_parser.memscope.decompose import PoolClasses
from mem_parser.sizes import short_size


def lines(path: str, pools: Sequence[PoolClasses], rows: int) -> Iterator[str]:
    """Yield a table for each pool: a row for each step's end and peak, at most ``rows`` steps (0:
    all), the last ones; the peak of all comes last.
    """
    yield one_line(path)
    if not pools:
        yield "no allocations"
    for pool in pools:
        yield ""
        yield f"Device {one_line(pool.device)}, {one_line(pool.pool)}: bytes in use by owner"
        sums = pool.sums
        shown = sums.steps[-rows:] if rows else sums.steps
        table: list[Sequence[str]] = []
        for step in shown:
            table.append((f"step {one_line(step.name)} peak", *_cells(step.peak)))
            table.append((f"step {one_line(step.name)} end", *_cells(step.end)))
        table.append(("peak", *_cells(sums.peak)))
        if sums.peak.total:
            shares = [f"{100 * int(b) / sums.peak.total:.1f}%" for b in sums.peak.bytes]
            table.append(("", *shares, "100.0%"))
        yield from _table(("", *map(one_line, sums.names), "total"), table)
        if len(shown) < len(sums.steps):
            yield f"{len(sums.steps) - len(shown)} earlier steps: -n 0"


def _cells(moment: Moment) -> list[str]:
    return [*(short_size(int(b)) for b in moment.bytes), short_size(moment.total)]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[k]) for row in [head, *rows]) for k in range(len(head))]
    for row in [head, *rows]:
        pairs = zip(row[1:], widths[1:])  # noqa: B905 - Python 3.9
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in pairs)]
        yield "  ".join(cells).rstrip()


def record(path: str, pools: Sequence[PoolClasses]) -> dict[str, Any]:
    """Return the same with plain numbers of bytes; ``row`` is the ID of the row at a moment."""
    return {
        "file": path,
        "pools": [
            {
                "device": pool.device,
                "pool": pool.pool,
                "steps": [
                    {
                        "step": step.name,
                        "end": _moment(pool, step.end),
                        "peak": _moment(pool, step.peak),
                    }
                    for step in pool.sums.steps
                ],
                "peak": _moment(pool, pool.sums.peak),
            }
            for pool in pools
        ],
    }


def _moment(pool: PoolClasses, moment: Moment) -> dict[str, Any]:
    by_class = {name: int(moment.bytes[k]) for k, name in enumerate(pool.sums.names)}
    return {"row": moment.at, "bytes": by_class, "total_bytes": moment.total}
