"""The columns of Python's frames, in our own files (docs/heap-format.md).

As everywhere in a file, we use only values that fit together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from mem_parser.allowance import MemoryAllowance
from mem_parser.escape import one_line
from mem_parser.heapfile.encode import column_lines
from mem_parser.python.stacks import PythonCode, PythonStacks
from mem_parser.symbols.demangle import printable

Column = npt.NDArray[Any]
PYTHON_COLUMNS = {
    "python_parent", "python_code", "python_line", "python_entry",
    "python_name", "python_qualname", "python_file", "python_first_line", "python_text",
}  # fmt: skip
_NODE_BYTES, _CODE_BYTES, _TEXT_BYTES = 24, 300, 64
_CODE_COLUMNS = ("python_name", "python_qualname", "python_file", "python_first_line")


def python_lines(stacks: PythonStacks) -> Iterator[bytes]:
    """Yield the columns of Python's frames."""
    texts: dict[str, int] = {}

    def index(text: str) -> int:
        return texts.setdefault(one_line(text), len(texts))

    yield from column_lines("python_parent", "<u4", stacks.parent)
    yield from column_lines("python_code", "<u4", stacks.code)
    yield from column_lines("python_line", "<u4", stacks.line)
    yield from column_lines("python_entry", "|u1", stacks.entry)
    columns = {
        "python_name": [index(c.name) for c in stacks.codes],
        "python_qualname": [index(c.qualname) for c in stacks.codes],
        "python_file": [index(c.file) for c in stacks.codes],
        "python_first_line": [c.first_line for c in stacks.codes],
    }
    for name, values in columns.items():
        yield from column_lines(name, "<u4", values)
    text = "\n".join(texts).encode("utf-8", "replace")
    yield from column_lines("python_text", "|u1", np.frombuffer(text, dtype=np.uint8))


def read_python(
    columns: Mapping[str, Column], fail: Callable[[str], NoReturn], allowance: MemoryAllowance
) -> PythonStacks | None:
    """Return the Python frames in ``columns``; None without any. ``fail`` raises."""
    if "python_parent" not in columns:
        return None
    parent = _whole(columns, "python_parent", None, fail)
    count = len(parent)
    code = _whole(columns, "python_code", count, fail)
    line = _whole(columns, "python_line", count, fail)
    entry = _whole(columns, "python_entry", count, fail)
    allowance.take(count * _NODE_BYTES)
    codes = _codes(columns, fail, allowance)
    if count and bool((parent > np.arange(count)).any()):
        fail("a Python frame comes before its caller")
    if count and int(code.max()) >= len(codes):
        fail("a Python frame names a function that does not exist")
    return PythonStacks(
        parent.astype(np.uint32),
        code.astype(np.uint32),
        line.astype(np.uint32),
        entry.astype(np.bool_),
        codes,
    )


def _codes(
    columns: Mapping[str, Column], fail: Callable[[str], NoReturn], allowance: MemoryAllowance
) -> list[PythonCode]:
    first = _whole(columns, "python_first_line", None, fail)
    indices = [_whole(columns, name, len(first), fail) for name in _CODE_COLUMNS[:3]]
    allowance.take(len(first) * _CODE_BYTES)
    text = _whole(columns, "python_text", None, fail)
    if text.dtype.itemsize != 1:
        fail("column python_text holds no text")
    raw = text.tobytes()
    allowance.take(8 * len(raw) + (raw.count(b"\n") + 1) * _TEXT_BYTES)
    texts = [printable(t) for t in raw.decode("utf-8", "replace").split("\n")]
    if len(first) and max(int(index.max()) for index in indices) >= len(texts):
        fail("a Python function names a text that does not exist")
    rows = zip(*(column.tolist() for column in (*indices, first)), strict=True)
    return [PythonCode(texts[n], texts[q], texts[f], line) for n, q, f, line in rows]


def _whole(
    columns: Mapping[str, Column], name: str, count: int | None, fail: Callable[[str], NoReturn]
) -> Column:
    column = columns.get(name)
    if column is None or column.dtype.kind != "u" or column.dtype.itemsize == 8:
        fail(f"column {name} is missing")
    if count is not None and len(column) != count:
        fail(f"column {name} has {len(column)} entries instead of {count}")
    return column
