"""Columns as Arrow's record batches, with `pyarrow`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from mem_parser.tables.columns import Column, Columns, Maybe, Texts, Words
from mem_parser.tables.extras import pyarrow
from mem_parser.tables.schema import Kind, Table

_NUMBERS = {
    Kind.BOOL: np.bool_, Kind.INT8: np.int8, Kind.INT64: np.int64, Kind.UINT32: np.uint32,
    Kind.UINT64: np.uint64, Kind.FLOAT64: np.float64,
}  # fmt: skip


def schema(table: Table) -> Any:
    """Return the schema of a table: a `pyarrow.Schema`, with the meaning of each column."""
    pa = pyarrow()
    types = {
        Kind.WORD: pa.dictionary(pa.int32(), pa.string()), Kind.TEXT: pa.string(),
        Kind.BOOL: pa.bool_(), Kind.INT8: pa.int8(), Kind.INT64: pa.int64(),
        Kind.UINT32: pa.uint32(), Kind.UINT64: pa.uint64(), Kind.FLOAT64: pa.float64(),
    }  # fmt: skip
    return pa.schema(
        [pa.field(f.name, types[f.kind], metadata={"meaning": f.meaning}) for f in table.fields]
    )


def batches(table: Table, parts: Iterable[Columns]) -> Iterator[Any]:
    """Yield the parts of a table as `pyarrow.RecordBatch`es; none is empty."""
    pa = pyarrow()
    whole = schema(table)
    for columns in parts:
        arrays = [_array(columns[f.name], f.kind) for f in table.fields]
        if len(arrays[0]):
            yield pa.record_batch(arrays, schema=whole)


def _array(column: Column, kind: Kind) -> Any:
    pa = pyarrow()
    if isinstance(column, Texts):
        return pa.array([_utf8(text) for text in column.texts], type=pa.string())
    if isinstance(column, Words):
        texts = pa.array([_utf8(text) for text in column.texts], type=pa.string())
        missing = column.codes < 0
        codes = pa.array(column.codes, type=pa.int32(), mask=missing if missing.any() else None)
        return pa.DictionaryArray.from_arrays(codes, texts)
    if isinstance(column, Maybe):
        mask = None if column.known.all() else ~column.known
        return pa.array(column.values.astype(_NUMBERS[kind], copy=False), mask=mask)
    return pa.array(column.astype(_NUMBERS[kind], copy=False))


def _utf8(text: str) -> str:
    """Return the text without what UTF-8 cannot hold: names of files may be any bytes."""
    return text.encode("utf-8", "replace").decode()
