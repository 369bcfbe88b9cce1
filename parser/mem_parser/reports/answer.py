"""Print the result of an SQL query, for people and for programs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

from mem_parser.errors import one_line
from mem_parser.escape import visible
from mem_parser.reports.grid import Block, Column, Grid, Record
from mem_parser.tables.sql import Answer
from mem_parser.units import counted

_LEAST_WIDTH = 8
_CUT = "…"
_LONG = 1e15


def keys(answer: Answer) -> list[str]:
    """Return a name for each column: a repeated name gets its number appended."""
    found: list[str] = []
    for name in answer.columns:
        number, key = 1, name
        while key in found:
            number += 1
            key = f"{name}_{number}"
        found.append(key)
    return found


def records(answer: Answer) -> list[Record]:
    """Return a row for each row of the answer."""
    names = keys(answer)
    return [dict(zip(names, map(_plain, row), strict=True)) for row in answer.rows]


def record(answer: Answer) -> Record:
    """Return the answer for programs."""
    return {"columns": keys(answer), "rows": records(answer), "more": answer.more}


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: null, a number, a truth, a list, an object, else its text."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return str(value)


def blocks(answer: Answer, width: int | None) -> Iterator[Block]:
    """Yield the answer for people; ``width``: of the terminal, None: no limit."""
    titles = [one_line(name) for name in answer.columns]
    cells = [[_cell(value) for value in row] for row in answer.rows]
    if width is not None:
        room = _room(titles, cells, answer.is_number, width)
        cells = [[_cut(cell, most) for cell, most in zip(row, room, strict=True)] for row in cells]
        titles = [_cut(title, most) for title, most in zip(titles, room, strict=True)]
    heads = [Column(t, right=r) for t, r in zip(titles, answer.is_number, strict=True)]
    yield Grid(heads, [tuple(row) for row in cells])
    if answer.more:
        yield f"only the first {counted(len(answer.rows), 'row')} shown. Use -n 0 to show all."
    elif not answer.rows:
        yield "0 rows"


def _cell(value: Any) -> str:
    plain = _plain(value)
    if plain is None:
        return ""
    if isinstance(plain, bool):
        return "true" if plain else "false"
    if isinstance(plain, float):
        if 1 <= abs(plain) < _LONG:
            return f"{plain:.3f}".rstrip("0").rstrip(".")
        return f"{plain:.4g}"
    return one_line(str(visible(plain) if isinstance(plain, dict | list) else plain))


def _room(
    titles: Sequence[str], rows: Sequence[Sequence[str]], is_number: Sequence[bool], width: int
) -> list[int]:
    """Return how wide each column may be: the widest texts shrink first, numbers never."""
    need = [max([len(title), *(len(row[k]) for row in rows)]) for k, title in enumerate(titles)]
    while sum(need) + len(need) - 1 > width:
        texts = [k for k, number in enumerate(is_number) if not number and need[k] > _LEAST_WIDTH]
        if not texts:
            break
        widest = max(texts, key=lambda k: need[k])
        over = sum(need) + len(need) - 1 - width
        second = max((need[k] for k in texts if k != widest), default=_LEAST_WIDTH)
        need[widest] = max(need[widest] - over, min(second, need[widest] - 1), _LEAST_WIDTH)
    return need


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + _CUT
