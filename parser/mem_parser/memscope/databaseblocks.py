"""Rows of `memscope_dump_*.db` as lines of text: SQLite joins the columns of some thousand rows.

Short rows of numbers and texts alone are joined, each of the type that its column has. A block with
anything else comes as values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from mem_parser.memscope.database import FIRST_ROWID, LAST_ROWID, Table, connected, values
from mem_parser.memscope.form import COLUMNS, REQUIRED, SQL_TYPES

BLOCK_ROWS = 16384
FIRST_ROWS = 256
"""So few after a block of values: SQLite looks through every byte of them in vain."""
BLOCK_MAX_BYTES = 8 << 20
FIELD_MAX_BYTES = 1024
"""Far more than usual fields have. SQL cuts a longer one, so that no block takes much memory."""
_BETWEEN = "\x1f"
"""What is between two fields of a row."""
_TYPES = [kind.lower() for kind in SQL_TYPES[:REQUIRED]]


def blocks(path: str) -> Iterator[Any]:
    """Yield all rows of a database in the order of their rowids: as a batch of Arrow's, whose last
    column has the rowids, or as a `Chunk` of values. Raises `DumpError`.
    """
    with connected(path) as connection:
        table = Table(connection, path)
        names = table.columns[:REQUIRED]
        joining = _joining(table.name, names)
        decoded = connection.text_factory
        first, most = FIRST_ROWID, FIRST_ROWS
        while True:
            connection.text_factory = bytes
            lines, high, count, usual = connection.execute(joining, (first, most)).fetchone()
            if not count:
                return
            batch = _batch(lines, count) if usual == count else None
            if batch is not None:
                table.take(count, len(lines))
                most = min(4 * most, BLOCK_ROWS)
                yield batch
            else:
                connection.text_factory = decoded
                yield from values(table, names, first, high)
                most = FIRST_ROWS
            if high == LAST_ROWID:
                return
            first = high + 1


def _joining(table: str, names: Sequence[str]) -> str:
    """Return the statement that joins these columns of the next rows, and the rowid."""
    typed = list(zip(names, _TYPES))  # noqa: B905 - Python 3.9
    usual = [f"typeof({name}) = '{kind}'" for name, kind in typed]
    # What `printf` writes of a text ends at a NUL.
    usual += [f"instr({name}, char(0)) = 0" for name, kind in typed if kind == "text"]
    forms = ["%d" if kind == "integer" else f"%.{FIELD_MAX_BYTES + 1}s" for kind in _TYPES]
    text = f"printf('{_BETWEEN.join([*forms, '%d'])}', {', '.join(names)}, rowid)"
    return (
        f"SELECT group_concat(shown, char(10)), max(place), count(*), "  # noqa: S608
        f"count(shown) FROM (SELECT CASE WHEN {' AND '.join(usual)} THEN {text} END AS shown, "
        f'rowid AS place FROM "{table}" WHERE rowid >= ? ORDER BY rowid LIMIT ?)'
    )


def _batch(lines: bytes, count: int) -> Any:
    """Return so many rows; None where a text has what is between fields or rows, or is long."""
    if (
        len(lines) > BLOCK_MAX_BYTES
        or lines.count(b"\n") != count - 1
        or lines.count(_BETWEEN.encode()) != count * REQUIRED
        or b"\r" in lines
    ):
        return None
    names = [*COLUMNS[:REQUIRED], "place"]
    kinds = {**dict.fromkeys(names, pa.binary()), "place": pa.int64()}
    try:
        found = csv.read_csv(
            pa.BufferReader(lines),
            csv.ReadOptions(use_threads=False, block_size=len(lines) + 1, column_names=names),
            csv.ParseOptions(delimiter=_BETWEEN, quote_char=False),
            csv.ConvertOptions(column_types=kinds, null_values=[], check_utf8=False),
        )
    except pa.ArrowException:
        return None  # no thread may start
    batch = found.to_batches()[0]
    longest = max(pc.max(pc.binary_length(column)).as_py() for column in batch.columns[:-1])
    rowids = batch.column(REQUIRED).to_numpy()
    is_odd = longest > FIELD_MAX_BYTES or len(batch) != count or (np.diff(rowids) <= 0).any()
    return None if is_odd else batch
