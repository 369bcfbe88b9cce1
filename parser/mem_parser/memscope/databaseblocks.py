"""Rows of `memscope_dump_*.db` as blocks of bytes: SQLite joins the columns of some thousand rows.

Short rows of numbers and texts alone are joined, each of the type that its column has. A block with
anything else comes as values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Union

import numpy as np

from mem_parser.memscope.csvblocks import ATTR, BLOCK_MAX_BYTES, STACKS, Block
from mem_parser.memscope.csvfile import Chunk
from mem_parser.memscope.database import FIRST_ROWID, LAST_ROWID, Table, connected, values
from mem_parser.memscope.fieldbytes import FieldBytes, IntArray
from mem_parser.memscope.form import SQL_TYPES

BLOCK_ROWS = 8192
FIRST_ROWS = 256
"""So few after a block of values: SQLite looks through every byte of them in vain."""
FIELD_MAX_BYTES = 1024
"""Far more than usual fields have. SQL cuts a longer one, so that no block takes much memory."""
_FIELD, _ROW = 31, 30
_COMMA = ord(",")
_TYPES = [kind.lower() for kind in SQL_TYPES[:STACKS]]


class Joined(NamedTuple):
    """Rows as bytes, and the rowid of each."""

    block: Block
    places: IntArray


Part = Union[Joined, Chunk]  # noqa: UP007 - Python 3.9 evaluates it


def blocks(path: str) -> Iterator[Part]:
    """Yield all rows of a database in the order of their rowids. Raises `DumpError`."""
    with connected(path) as connection:
        table = Table(connection, path)
        names = table.columns[:STACKS]
        texts = _joining(table.name, names)
        texts_and_rowids = _joining(table.name, [*names, "rowid"])
        decoded = connection.text_factory
        first, most = FIRST_ROWID, FIRST_ROWS
        while True:
            connection.text_factory = bytes
            shown, low, high, count, usual = connection.execute(texts, (first, most)).fetchone()
            if not count:
                return
            if high - low == count - 1:
                part = _joined(shown, count, low + np.arange(count))
            else:
                found = connection.execute(texts_and_rowids, (first, most)).fetchone()
                shown, low, high, count, usual = found
                part = _joined(shown, count)
            if part is None or usual < count:
                connection.text_factory = decoded
                yield from values(table, names, first, high)
                most = FIRST_ROWS
            else:
                table.take(count, len(shown))
                most = min(4 * most, BLOCK_ROWS)
                yield part
            if high == LAST_ROWID:
                return
            first = high + 1


def _joining(table: str, names: Sequence[str]) -> str:
    """Return the statement that joins these columns of the next rows; a rowid may be the last.

    Where no rowid is missing between the first and the last, they need not be joined.
    """
    typed = list(zip(names, _TYPES))  # noqa: B905 - Python 3.9
    usual = [f"typeof({name}) = '{kind}'" for name, kind in typed]
    # What `printf` writes of a text ends at a NUL.
    usual += [f"instr({name}, char(0)) = 0" for name, kind in typed if kind == "text"]
    text_form = f"%.{FIELD_MAX_BYTES + 1}s"
    forms = ["%d" if kind == "integer" else text_form for kind in [*_TYPES, "integer"]]
    text = f"printf('{chr(_FIELD).join(forms[: len(names)])}', {', '.join(names)})"
    return (
        f"SELECT group_concat(shown, char({_ROW})), min(place), max(place), count(*), "  # noqa: S608
        f"count(shown) FROM (SELECT CASE WHEN {' AND '.join(usual)} THEN {text} END AS shown, "
        f'rowid AS place FROM "{table}" WHERE rowid >= ? ORDER BY rowid LIMIT ?)'
    )


def _joined(shown: bytes | None, count: int, places: IntArray | None = None) -> Joined | None:
    """Return so many rows; None where a text has the marks between fields, or is very long.

    Without ``places``, the rowid is the last field of each row.
    """
    if shown is None or len(shown) > BLOCK_MAX_BYTES:
        return None
    data = shown + bytes((_ROW,))
    fields = FieldBytes(data)
    raw = fields.data
    marks = np.flatnonzero((raw == _COMMA) | (raw == _FIELD) | (raw == _ROW))
    kind = raw[marks]
    ends = np.flatnonzero(kind != _COMMA)
    width = STACKS + (places is None)
    if len(ends) != count * width:
        return None
    table = ends.reshape(-1, width)
    if (kind[table[:, :-1]] != _FIELD).any() or (kind[table[:, -1]] != _ROW).any():
        return None
    end = marks[table]
    begin = np.empty_like(end)
    begin.reshape(-1)[0] = 0
    begin.reshape(-1)[1:] = end.reshape(-1)[:-1] + 1
    if int((end - begin).max()) > FIELD_MAX_BYTES:
        return None
    if places is None:
        places, are = fields.decimals(begin[:, -1], end[:, -1])
        if not are.all() or (np.diff(places) <= 0).any():
            return None
    block = Block(0, len(data), fields, begin, end, marks, table[:, ATTR - 1] + 1, table[:, ATTR])
    return Joined(block, places)
