"""The columns that give addresses their names, in our own files (docs/heap-format.md).

As everywhere in a file, we use only values that fit together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from mem_parser.allowance import MemoryAllowance
from mem_parser.symbols.demangle import printable
from mem_parser.symbols.embedded import NO_MODULE, EmbeddedFrame, EmbeddedNames

Column = npt.NDArray[Any]
MOST_FRAMES = 20_000_000
"""More names than any program has are forged."""
SYMBOL_COLUMNS = {
    "symbol_address", "symbol_module", "symbol_depth", "symbol_line", "symbol_name",
    "symbol_full_name", "symbol_file", "symbol_text",
}  # fmt: skip
_ADDRESS_BYTES, _FRAME_BYTES, _TEXT_BYTES = 400, 240, 64
_INDEX_COLUMNS = ("symbol_name", "symbol_full_name", "symbol_file")
_NO_INDEX = (1 << 32) - 1


def read_symbols(
    columns: Mapping[str, Column], fail: Callable[[str], NoReturn], allowance: MemoryAllowance
) -> EmbeddedNames | None:
    """Return the names in ``columns``; None without any. ``fail`` raises."""
    if "symbol_address" not in columns:
        return None
    address = _whole(columns, "symbol_address", None, fail)
    count = len(address)
    module = _whole(columns, "symbol_module", count, fail)
    depth = _whole(columns, "symbol_depth", count, fail)
    line = _whole(columns, "symbol_line", None, fail)
    total = len(line)
    if count > MOST_FRAMES or total > MOST_FRAMES or int(depth.sum(dtype=np.uint64)) != total:
        fail("the columns of its symbols do not agree")
    if count and int(depth.max()) > total:
        fail("the columns of its symbols do not agree")
    allowance.take(count * _ADDRESS_BYTES + total * _FRAME_BYTES)
    texts = _texts(columns, fail, allowance)
    indices = [_whole(columns, name, total, fail) for name in _INDEX_COLUMNS]
    if total and max(int(index.max()) for index in indices) >= len(texts):
        fail("a symbol names a text that does not exist")
    frames = [
        EmbeddedFrame(texts[n], texts[f], texts[s], row)
        for n, f, s, row in zip(*(c.tolist() for c in (*indices, line)), strict=True)
    ]
    result = EmbeddedNames()
    at = 0
    for m, a, d in zip(module.tolist(), address.tolist(), depth.tolist(), strict=True):
        result.frames[NO_MODULE if m == _NO_INDEX else m, a] = tuple(frames[at : at + d])
        at += d
    return result


def _whole(
    columns: Mapping[str, Column], name: str, count: int | None, fail: Callable[[str], NoReturn]
) -> Column:
    column = columns.get(name)
    if column is None or column.dtype.kind != "u":
        fail(f"column {name} is missing")
    if count is not None and len(column) != count:
        fail(f"column {name} has {len(column)} entries instead of {count}")
    return column


def _texts(
    columns: Mapping[str, Column], fail: Callable[[str], NoReturn], allowance: MemoryAllowance
) -> list[str]:
    column = _whole(columns, "symbol_text", None, fail)
    if column.dtype.itemsize != 1:
        fail("column symbol_text holds no text")
    text = column.tobytes()
    count = text.count(b"\n") + 1
    if count > 3 * MOST_FRAMES:
        fail("column symbol_text is too long")
    allowance.take(8 * len(text) + count * _TEXT_BYTES)
    return [printable(t) for t in text.decode("utf-8", "replace").split("\n")]
