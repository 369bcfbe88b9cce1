"""The page of two runs side by side: peaks, operators by name and one by one, modules."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from mem_parser.escape import visible
from mem_parser.memscope.compare import Aligned, Comparison, DeviceComparison, Pair
from mem_parser.web.pack import Columns, cut_name, pack_columns, pack_text
from mem_parser.web.page import SIZE_LIMIT, assemble
from mem_parser.web.scopeclasses import SCOPE_SCRIPTS, SCOPE_STYLES
from mem_parser.words import joined, phrase, shown

MOST_OPERATORS = 400_000
"""Rows of all devices together that reach the page."""
MOST_ROWS = 5000
"""Names, and modules, of a device."""
_BOTH, _BASE, _COMPARE = 0, 1, 2
_LARGEST = 1 << 52


class _Changed(Protocol):
    @property
    def bytes(self) -> Pair: ...


def render(found: Comparison, size_limit: int = SIZE_LIMIT) -> str:
    """Return the page.

    It is below ``size_limit`` bytes: where there are too many rows those that change least are left
    out, which is stated on it.
    """
    most = MOST_OPERATORS // max(len(found.devices), 1)
    most = min(most, max((len(device.operators) for device in found.devices), default=0))
    rows = MOST_ROWS
    while True:
        page = _page(found, most, rows)
        size = len(page.encode())
        if size <= size_limit or most + rows <= 2:
            return page
        share = min(0.9 * size_limit / size, 0.7)
        most, rows = max(int(most * share), 1), max(int(rows * share), 1)


def _page(found: Comparison, most: int, rows: int) -> str:
    title, origin = _title(found)
    facts: dict[str, Any] = {
        "title": phrase("{name}: memory compared", name=cut_name(title)),
        "origin": cut_name(origin),
        "warnings": [],
        "what": "operators" if found.level == "op" else "kernels",
    }
    devices = [_device(device, rows) for device in found.devices]
    return assemble(
        f"{shown(facts['title'])} – {shown(phrase('device memory'))}",
        "report.html",
        SCOPE_STYLES,
        (*SCOPE_SCRIPTS, "long_table.js", "compare_page.js"),
        {
            "facts": facts,
            "devices": pack_text(visible(devices)),
            "operators": [_operators(device.operators, most) for device in found.devices],
        },
    )


def _title(found: Comparison) -> tuple[str, str]:
    """Return the names of the compared runs, in short and with the paths."""
    if found.steps is not None and found.base == found.compare:
        first, second = found.steps
        steps = phrase("steps {first} and {second}", first=first, second=second)
        both = phrase("{name}, base and compare: {steps}", name=found.base, steps=steps)
        return joined(phrase(", "), [_name(found.base), steps]), both
    names = [_name(path) for path in (found.base, found.compare)]
    if found.steps is not None:
        names = [
            joined(phrase(", "), [name, phrase("step {name}", name=step)])
            for name, step in zip(names, found.steps, strict=True)
        ]
    base, compare = found.sides
    return (
        phrase("{base} and {compare}", base=names[0], compare=names[1]),
        phrase("base: {base}; compare: {compare}", base=base, compare=compare),
    )


def _name(path: str) -> str:
    return os.path.basename(path.rstrip("/")) or path


def _device(device: DeviceComparison, most: int) -> dict[str, Any]:
    names, modules = device.by_name(), device.modules
    sides = [_side(one.bytes) for one in device.operators]
    return {
        "device": cut_name(device.device),
        "peaks": [[cut_name(one.kind), *one.bytes] for one in device.peaks],
        "both": sides.count(_BOTH),
        "alone": [sides.count(_BASE), sides.count(_COMPARE)],
        "names": [[cut_name(one.name), *one.counts, *one.bytes] for one in names[:most]],
        "modules": [
            [cut_name(one.kind), cut_name(one.owner), *one.at_peak_bytes, *one.allocated_bytes]
            for one in modules[:most]
        ],
        "names_left_out": len(names) - len(names[:most]),
        "modules_left_out": len(modules) - len(modules[:most]),
    }


def _side(pair: Pair) -> int:
    if pair.base is None:
        return _COMPARE
    return _BASE if pair.compare is None else _BOTH


def _operators(operators: Sequence[Aligned], most: int) -> str:
    """Return operators in their order: columns `name`, `side`, `base`, `compare`, and `step`, the
    increase of the place among all of them.
    """
    kept, left_out = _kept(operators, most)
    table: dict[str, int] = {}
    rows = [operators[k] for k in kept.tolist()]
    names = [table.setdefault(one.name, len(table)) for one in rows]
    columns = Columns()
    columns.integers("step", np.diff(kept, prepend=0))
    columns.integers("name", np.array(names, dtype=np.int64))
    columns.integers("side", np.array([_side(one.bytes) for one in rows], dtype=np.int64))
    for key, side in (("base", 0), ("compare", 1)):
        values = np.array([one.bytes[side] or 0 for one in rows], dtype=np.int64)
        columns.signed_integers(key, np.clip(values, -_LARGEST, _LARGEST - 1))
    head = {"names": [cut_name(name) for name in table], "left_out": left_out}
    return pack_columns(head, columns)


def _kept(operators: Sequence[_Changed], most: int) -> tuple[np.ndarray, dict[str, int]]:
    """Return the places of the rows that stay, in order, and how many of the others have a
    difference or no partner.
    """
    differs = np.array(
        [one.bytes.change != 0 or None in one.bytes for one in operators], dtype=bool
    )
    if len(operators) <= most:
        return np.arange(len(operators)), {"rows": 0, "differing": 0}
    change = np.array([abs(one.bytes.change) for one in operators], dtype=np.float64)
    order = np.lexsort((np.arange(len(operators)), -change, ~differs))
    return np.sort(order[:most]), {
        "rows": len(operators) - most,
        "differing": int(differs[order[most:]].sum()),
    }
