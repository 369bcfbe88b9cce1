"""Data for the page: JSON and arrays, deflated and in base64, as ``assets/unpack.js`` reads them.

A packed tree is, before deflating: the length of the head (4 bytes, little-endian), the head
(JSON: names and the list of columns), and the columns one after the other. A column of *n* numbers
of *b* bytes is stored as *b* planes of *n* bytes (all lowest bytes first), which deflates far
better than numbers one by one. Numbers with a fraction are float32; of their mantissa only as many
bits are kept as the page can show, and the rest are zeros that cost nothing.
"""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

import numpy as np

from mem_parser.escape import json_text, visible
from mem_parser.estimate import FloatArray
from mem_parser.model import IntArray
from mem_parser.symbols.templates import whole_name
from mem_parser.tree import COLUMNS, SAMPLES, Rows, Tree
from mem_parser.web.kinds import kind_of

LONGEST_NAME = 1024
"""Characters of a name that reach the page."""
_LEVEL = 6
"""zlib's: above it files shrink by a percent and take four times as long."""
_WHOLE_BITS = 23
_VALUE_BITS = 16
_VARIANCE_BITS = 7


def pack_text(data: Any) -> str:
    """Return ``data`` as JSON, deflated, in base64."""
    return _squeeze(json_text(data).encode())


def pack_tree(tree: Tree) -> str:
    """Return the tree, its names and its rows as the page reads them."""
    order, number = preorder(tree)
    used, name = np.unique(tree.name[order], return_inverse=True)
    table: dict[str, int] = {"": 0}
    head = _names(tree, used, table)
    used_files, file = np.unique(tree.file[order], return_inverse=True)
    shown = [table.setdefault(cut_name(tree.files[k]), len(table)) for k in used_files.tolist()]
    places = np.array(shown, dtype=np.int64)[file]
    own_file = np.array(head["file"], dtype=np.int64)[name]
    columns = Columns()
    columns.integers("depth", tree.depth[order])
    columns.integers("name", name)
    # Nearly every line is in its function's own file: zeros cost nothing.
    columns.integers("place", np.where(places == own_file, 0, places + 1))
    columns.integers("line", tree.line[order])
    columns.integers("inlined", tree.inlined[order].astype(np.int64))
    _add_rows(columns, "row", tree.rows, number)
    _add_rows(columns, "thread", tree.thread_rows, number)
    head |= {
        "files": list(table),
        "domains": [cut_name(d) for d in tree.domains],
        "threads": [cut_name(t) for t in tree.threads],
        "kinds": list(tree.rows.counts),
    }
    return pack_columns(head, columns)


def pack_columns(head: dict[str, Any], columns: Columns) -> str:
    """Return a head, to which the list of columns is added, and the columns."""
    text = json_text(visible(head | {"columns": columns.list})).encode()
    return _squeeze(struct.pack("<I", len(text)) + text + b"".join(columns.planes))


def _squeeze(data: bytes) -> str:
    return f"{len(data)}:" + base64.b64encode(zlib.compress(data, _LEVEL)).decode("ascii")


def cut_name(text: str) -> str:
    """Return a name as far as it reaches the page."""
    return text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1] + "…"


def _names(tree: Tree, used: IntArray, files: dict[str, int]) -> dict[str, list[Any]]:
    """Return the names that occur, one entry for each full name; entry 0 is the root's.

    ``group`` is the first entry of the same function without template arguments and parameters.
    ``whole`` (the name with template arguments) and ``full`` are empty where they are the name.
    ``file`` is a number in ``files``, which grows, ``module`` one in ``modules``.
    """
    head: dict[str, list[Any]] = {
        "functions": ["all"], "group": [0], "whole": [""], "full": [""],
        "file": [0], "module": [0], "kind": [0],
    }  # fmt: skip
    modules: dict[str, int] = {"": 0}
    first: dict[int, int] = {}
    for k in used.tolist():
        if k < 0:
            continue
        function = tree.names[k]
        entry = len(head["functions"])
        whole = whole_name(function)
        head["functions"].append(cut_name(function.name))
        head["group"].append(first.setdefault(tree.group[k], entry))
        head["whole"].append("" if whole == function.name else cut_name(whole))
        head["full"].append(
            "" if function.full_name == function.name else cut_name(function.full_name)
        )
        head["file"].append(files.setdefault(cut_name(function.file), len(files)))
        head["module"].append(modules.setdefault(cut_name(function.module), len(modules)))
        head["kind"].append(kind_of(function))
    return head | {"modules": list(modules)}


def preorder(tree: Tree) -> tuple[IntArray, IntArray]:
    """Return the nodes in preorder, and each node's place in it."""
    size = tree.sum_up(np.ones(len(tree))).astype(np.int64)
    number = np.zeros(len(tree), dtype=np.int64)
    for low, high in zip(tree.levels[1:-1], tree.levels[2:], strict=True):
        parent = tree.parent[low:high]
        before = np.cumsum(size[low:high]) - size[low:high]
        first = np.flatnonzero(np.diff(parent, prepend=-1))
        start = np.repeat(before[first], np.diff(np.append(first, high - low)))
        number[low:high] = number[parent] + 1 + before - start
    order = np.empty(len(tree), dtype=np.int64)
    order[number] = np.arange(len(tree))
    return order, number


class Columns:
    """Columns collected so far: their planes and the list that describes them."""

    def __init__(self) -> None:
        self.planes: list[bytes] = []
        self.list: list[list[Any]] = []

    def integers(self, name: str, values: IntArray) -> None:
        """Add a column of numbers from 0 to 2^32 - 1."""
        data = np.clip(values, 0, 0xFFFFFFFF).astype("<u4")
        width = max(1, (int(data.max(initial=0)).bit_length() + 7) // 8)
        self._add(name, "i", data, width)

    def long_integers(self, name: str, values: IntArray) -> None:
        """Add a column of numbers from 0 to 2^53 - 1."""
        data = np.clip(values, 0, (1 << 53) - 1).astype("<u8")
        width = max(1, (int(data.max(initial=0)).bit_length() + 7) // 8)
        self._add(name, "l", data, width)

    def signed_integers(self, name: str, values: IntArray) -> None:
        """Add a column of numbers from -2^52 to 2^52 - 1: 0, -1, 1, -2, ... are 0, 1, 2, 3, ..."""
        self.long_integers(name, values << 1 ^ values >> 63)

    def numbers(self, name: str, values: FloatArray, bits: int) -> None:
        """Add a column of numbers with a fraction, ``bits`` bits of their mantissa."""
        raw = (
            np.nan_to_num(values, nan=0.0, posinf=3e38).astype("<f4").view("<u4").astype(np.uint64)
        )
        spare = 23 - bits
        rounded = (raw + (1 << spare >> 1)) >> spare << spare
        self._add(name, "f", rounded.astype("<u4"), 4)

    def _add(self, name: str, kind: str, data: np.ndarray, width: int) -> None:
        table = data.view(np.uint8).reshape(-1, data.itemsize)
        self.planes.extend(table[:, k].tobytes() for k in range(width))
        self.list.append([name, kind, width, len(data)])


def _add_rows(columns: Columns, prefix: str, rows: Rows, number: IntArray) -> None:
    order = np.argsort(number[rows.node], kind="stable")
    columns.integers(f"{prefix}.step", np.diff(number[rows.node][order], prepend=0))
    columns.integers(f"{prefix}.domain", rows.domain[order])
    columns.integers(f"{prefix}.thread", rows.thread[order] + 1)
    for kind, values in rows.counts.items():
        for k in range(COLUMNS):
            name = f"{prefix}.{kind}.{k}"
            if k == SAMPLES:
                columns.integers(name, values[order, k].astype(np.int64))
            else:
                bits = (_VALUE_BITS, _VARIANCE_BITS)[k % 2]
                # Of a capture of every block all digits count, and cost nothing.
                whole = bool((values[:, k] == np.rint(values[:, k])).all())
                columns.numbers(name, values[order, k], _WHOLE_BITS if whole else bits)
