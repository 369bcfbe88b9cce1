"""Rows of `memscope_dump_*.db` as blocks of bytes: SQLite joins the columns of some thousand rows.

Numbers and texts alone are joined, each of the type that its column has. A block with anything else
comes as values.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Union

import numpy as np

from mem_parser.memscope.csvblocks import ATTR, STACKS, Block
from mem_parser.memscope.csvfile import Chunk
from mem_parser.memscope.database import columns_of, connected, table_of
from mem_parser.memscope.fieldbytes import WORD_MAX_BYTES, FieldBytes, IntArray
from mem_parser.memscope.form import SQL_TYPES

BLOCK_ROWS = 4096
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
        table = table_of(connection, path)
        names = [f'"{(name or "").replace(chr(34), chr(34) * 2)}"' for name in
                 columns_of(connection, table, path)[:STACKS]]  # fmt: skip
        usual = " AND ".join(
            f"typeof({name}) = '{kind}'"
            for name, kind in zip(names, _TYPES)  # noqa: B905
        )
        # What `printf` writes of a text ends at a NUL.
        usual += "".join(
            f" AND instr({name}, char(0)) = 0"
            for name, kind in zip(names, _TYPES)  # noqa: B905 - Python 3.9
            if kind == "text"
        )
        form = chr(_FIELD).join(
            "%d" if kind == "integer" else "%s" for kind in [*_TYPES, "integer"]
        )
        text = f"printf('{form}', {', '.join(names)}, rowid)"
        joined = (
            f"SELECT group_concat(shown, char({_ROW})), min(place), max(place), count(*) FROM ("  # noqa: S608
            f'SELECT CASE WHEN {usual} THEN {text} END AS shown, rowid AS place FROM "{table}"'
            f" WHERE rowid >= ? ORDER BY rowid LIMIT {BLOCK_ROWS})"
        )
        values = (
            f"SELECT rowid,{','.join(names)},'','' FROM \"{table}\""  # noqa: S608
            " WHERE rowid BETWEEN ? AND ? ORDER BY rowid"
        )
        decoded = connection.text_factory
        first = -(1 << 63)
        while True:
            connection.text_factory = bytes
            shown, low, high, count = connection.execute(joined, (first,)).fetchone()
            if not count:
                return
            part = _joined(shown, count)
            if part is None:
                connection.text_factory = decoded
                rows = connection.execute(values, (low, high)).fetchall()
                places, *columns = zip(*rows)  # noqa: B905 - Python 3.9
                yield Chunk(list(columns), places)
            else:
                yield part
            if high == (1 << 63) - 1:
                return
            first = high + 1


def _joined(shown: bytes | None, count: int) -> Joined | None:
    """Return so many rows; None where a text has the marks between fields, or is very long."""
    if shown is None:
        return None
    data = shown + bytes((_ROW,))
    fields = FieldBytes(data)
    raw = fields.data
    marks = np.flatnonzero((raw == _COMMA) | (raw == _FIELD) | (raw == _ROW))
    kind = raw[marks]
    ends = np.flatnonzero(kind != _COMMA)
    width = STACKS + 1
    if len(ends) != count * width:
        return None
    table = ends.reshape(-1, width)
    if (kind[table[:, :-1]] != _FIELD).any() or (kind[table[:, -1]] != _ROW).any():
        return None
    end = marks[table]
    begin = np.empty_like(end)
    begin.reshape(-1)[0] = 0
    begin.reshape(-1)[1:] = end.reshape(-1)[:-1] + 1
    if int((end - begin).max()) > WORD_MAX_BYTES:
        return None
    places, are = fields.decimals(begin[:, -1], end[:, -1])
    if not are.all() or (np.diff(places) <= 0).any():
        return None
    block = Block(0, len(data), fields, begin, end, marks, table[:, ATTR - 1] + 1, table[:, ATTR])
    return Joined(block, places)
