"""The columns of labels, in our own files (docs/heap-format.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from mem_parser.allowance import MemoryAllowance
from mem_parser.escape import one_line
from mem_parser.heapfile.encode import column_lines
from mem_parser.python.labels import LabelKind, Labels
from mem_parser.symbols.demangle import printable

Column = npt.NDArray[Any]
LABEL_COLUMNS = {"stack_label", "label_outer", "label_kind", "label_text"}
_LABEL_BYTES = 100
_KINDS = [int(kind) for kind in LabelKind]


def label_lines(labels: Labels, of_stack: npt.NDArray[np.uint32]) -> Iterator[bytes]:
    """Yield the columns of labels; ``of_stack`` has the number of each stack's label."""
    yield from column_lines("stack_label", "<u4", of_stack)
    yield from column_lines("label_outer", "<u4", labels.outer)
    yield from column_lines("label_kind", "|u1", labels.kind)
    text = "\n".join(map(one_line, labels.names)).encode("utf-8", "replace")
    yield from column_lines("label_text", "|u1", np.frombuffer(text, dtype=np.uint8))


def read_labels(
    columns: Mapping[str, Column],
    stacks: int,
    fail: Callable[[str], NoReturn],
    allowance: MemoryAllowance,
) -> tuple[npt.NDArray[np.uint32] | None, Labels | None]:
    """Return the number of the label of each of so many stacks, and the labels; None without any.

    ``fail`` raises.
    """
    if "stack_label" not in columns:
        return None, None
    of_stack = _whole(columns, "stack_label", stacks, fail)
    outer = _whole(columns, "label_outer", None, fail)
    kind = _whole(columns, "label_kind", len(outer), fail)
    text = _whole(columns, "label_text", None, fail)
    if text.dtype.itemsize != 1:
        fail("column label_text holds no text")
    raw = text.tobytes()
    allowance.take(len(outer) * _LABEL_BYTES + 8 * len(raw))
    names = [printable(name) for name in raw.decode("utf-8", "replace").split("\n")]
    if len(outer) == 0 and names == [""]:
        names = []
    if len(names) != len(outer):
        fail(f"there are {len(outer)} labels and {len(names)} names for them")
    if len(outer) and bool((outer > np.arange(len(outer))).any()):
        fail("a label comes before the one that it is in")
    if len(kind) and not bool(np.isin(kind, _KINDS).all()):
        fail("a label is of no known kind")
    if stacks and int(of_stack.max()) > len(outer):
        fail("a stack names a label that does not exist")
    labels = Labels(outer.astype(np.uint32), kind.astype(np.uint8), names)
    return of_stack.astype(np.uint32), labels


def _whole(
    columns: Mapping[str, Column], name: str, count: int | None, fail: Callable[[str], NoReturn]
) -> Column:
    column = columns.get(name)
    if column is None or column.dtype.kind != "u" or column.dtype.itemsize == 8:
        fail(f"column {name} is missing")
    if count is not None and len(column) != count:
        fail(f"column {name} has {len(column)} entries instead of {count}")
    return column
