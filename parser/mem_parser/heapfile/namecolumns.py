"""The columns of names: of addresses, of Python's frames and of labels (docs/heap-format.md).

As everywhere in a file, we use only values that fit together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from mem_parser.escape import one_line
from mem_parser.heapfile.columns import Column, Columns
from mem_parser.heapfile.encode import column_lines, text_lines
from mem_parser.python.labels import LabelKind, Labels
from mem_parser.python.stacks import PythonCode, PythonStacks
from mem_parser.symbols.embedded import NO_MODULE, EmbeddedFrame, EmbeddedNames

SYMBOL_COLUMNS = {
    "symbol_address", "symbol_module", "symbol_depth", "symbol_line", "symbol_name",
    "symbol_full_name", "symbol_file", "symbol_text",
}  # fmt: skip
PYTHON_COLUMNS = {
    "python_parent", "python_code", "python_line", "python_entry",
    "python_name", "python_qualname", "python_file", "python_first_line", "python_text",
}  # fmt: skip
LABEL_COLUMNS = {"stack_label", "label_outer", "label_kind", "label_text"}
_ADDRESS_BYTES, _FRAME_BYTES = 400, 240
_NODE_BYTES, _CODE_BYTES = 24, 300
_LABEL_BYTES = 100
_KINDS = [int(kind) for kind in LabelKind]
_NO_INDEX = (1 << 32) - 1


class _Texts:
    """Texts as their positions in one column."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def lines(self, name: str, texts: Iterable[str]) -> Iterator[bytes]:
        """Yield a column of the positions of texts."""
        numbers = self._numbers
        found = [numbers.setdefault(one_line(text), len(numbers)) for text in texts]
        return column_lines(name, "<u4", found)

    def end(self, name: str) -> Iterator[bytes]:
        """Yield the column of the texts."""
        return text_lines(name, self._numbers)


def symbol_lines(names: EmbeddedNames) -> Iterator[bytes]:
    """Yield the columns that give addresses their names."""
    texts = _Texts()
    order = sorted(names.frames)
    frames = [frame for key in order for frame in names.frames[key]]
    modules = [_NO_INDEX if m == NO_MODULE else m for m, _ in order]
    yield from column_lines("symbol_module", "<u4", modules)
    yield from column_lines("symbol_address", "<u8", [a for _, a in order])
    yield from column_lines("symbol_depth", "<u4", [len(names.frames[k]) for k in order])
    yield from texts.lines("symbol_name", (f.name for f in frames))
    yield from texts.lines("symbol_full_name", (f.full_name for f in frames))
    yield from texts.lines("symbol_file", (f.file for f in frames))
    yield from column_lines("symbol_line", "<u4", [f.line for f in frames])
    yield from texts.end("symbol_text")


def read_symbols(columns: Columns) -> EmbeddedNames | None:
    """Return the names of addresses in ``columns``; None without any."""
    if "symbol_address" not in columns:
        return None
    address = columns.unsigned("symbol_address")
    count = len(address)
    module = columns.unsigned("symbol_module", count)
    depth = columns.unsigned("symbol_depth", count)
    line = columns.unsigned("symbol_line")
    total = len(line)
    if int(depth.sum(dtype=np.uint64)) != total or (count and int(depth.max()) > total):
        columns.fail("the columns of its symbols do not agree")
    columns.allowance.take(count * _ADDRESS_BYTES + total * _FRAME_BYTES)
    texts = columns.texts("symbol_text")
    indices = [columns.unsigned(f"symbol_{kind}", total) for kind in ("name", "full_name", "file")]
    if total and max(int(index.max()) for index in indices) >= len(texts):
        columns.fail("a symbol names a text that does not exist")
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


def python_lines(stacks: PythonStacks) -> Iterator[bytes]:
    """Yield the columns of Python's frames."""
    texts = _Texts()
    yield from column_lines("python_parent", "<u4", stacks.parent)
    yield from column_lines("python_code", "<u4", stacks.code)
    yield from column_lines("python_line", "<u4", stacks.line)
    yield from column_lines("python_entry", "|u1", stacks.entry)
    yield from texts.lines("python_name", (c.name for c in stacks.codes))
    yield from texts.lines("python_qualname", (c.qualname for c in stacks.codes))
    yield from texts.lines("python_file", (c.file for c in stacks.codes))
    yield from column_lines("python_first_line", "<u4", [c.first_line for c in stacks.codes])
    yield from texts.end("python_text")


def read_python(columns: Columns) -> PythonStacks | None:
    """Return the Python frames in ``columns``; None without any."""
    if "python_parent" not in columns:
        return None
    parent = _narrow(columns, "python_parent")
    count = len(parent)
    code = _narrow(columns, "python_code", count)
    line = _narrow(columns, "python_line", count)
    entry = _narrow(columns, "python_entry", count)
    columns.allowance.take(count * _NODE_BYTES)
    codes = _codes(columns)
    if count and bool((parent > np.arange(count)).any()):
        columns.fail("a Python frame comes before its caller")
    if count and int(code.max()) >= len(codes):
        columns.fail("a Python frame names a function that does not exist")
    return PythonStacks(
        parent.astype(np.uint32),
        code.astype(np.uint32),
        line.astype(np.uint32),
        entry.astype(np.bool_),
        codes,
    )


def _codes(columns: Columns) -> list[PythonCode]:
    first = _narrow(columns, "python_first_line")
    names = ("python_name", "python_qualname", "python_file")
    indices = [_narrow(columns, name, len(first)) for name in names]
    columns.allowance.take(len(first) * _CODE_BYTES)
    texts = columns.texts("python_text")
    if len(first) and max(int(index.max()) for index in indices) >= len(texts):
        columns.fail("a Python function names a text that does not exist")
    rows = zip(*(column.tolist() for column in (*indices, first)), strict=True)
    return [PythonCode(texts[n], texts[q], texts[f], line) for n, q, f, line in rows]


def label_lines(labels: Labels, of_stack: npt.NDArray[np.uint32]) -> Iterator[bytes]:
    """Yield the columns of labels; ``of_stack`` has the number of each stack's label."""
    yield from column_lines("stack_label", "<u4", of_stack)
    yield from column_lines("label_outer", "<u4", labels.outer)
    yield from column_lines("label_kind", "|u1", labels.kind)
    yield from text_lines("label_text", map(one_line, labels.names))


def read_labels(
    columns: Columns, stacks: int
) -> tuple[npt.NDArray[np.uint32] | None, Labels | None]:
    """Return the number of each stack's label, and the labels; None without any."""
    if "stack_label" not in columns:
        return None, None
    of_stack = _narrow(columns, "stack_label", stacks)
    outer = _narrow(columns, "label_outer")
    kind = _narrow(columns, "label_kind", len(outer))
    columns.allowance.take(len(outer) * _LABEL_BYTES)
    names = columns.texts("label_text")
    if len(outer) == 0 and names == [""]:
        names = []
    if len(names) != len(outer):
        columns.fail(f"there are {len(outer)} labels and {len(names)} names for them")
    if len(outer) and bool((outer > np.arange(len(outer))).any()):
        columns.fail("a label comes before the one that it is in")
    if len(kind) and not bool(np.isin(kind, _KINDS).all()):
        columns.fail("a label is of no known kind")
    if stacks and int(of_stack.max()) > len(outer):
        columns.fail("a stack names a label that does not exist")
    labels = Labels(outer.astype(np.uint32), kind.astype(np.uint8), names)
    return of_stack.astype(np.uint32), labels


def _narrow(columns: Columns, name: str, count: int | None = None) -> Column:
    """As `Columns.unsigned`, of numbers below 2^32."""
    column = columns.unsigned(name, count)
    if column.dtype.itemsize == 8:
        columns.fail(f"column {name} holds too wide numbers")
    return column
