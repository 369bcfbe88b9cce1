"""One module for every file that any of the merged profiles maps.

A place in a module is an offset into its file, which both our files (by the recorded ranges) and
others' (by their mappings) give. Where a file's code is mapped at several distances from its own
addresses, a place is such an address instead.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mem_parser.model import ExecRange, Module

Addresses = npt.NDArray[np.uint64]
_FIRST_BASE = 0x1000_0000_0000
"""Where the made-up address space begins: Linux maps nothing here of its own accord."""
_ALIGN = 1 << 24
_SPAN_LIMIT = 1 << 36
"""No file is that large; a range that says so is forged, and its module is not used."""


@dataclass(slots=True)
class _Merged:
    """A module before `finish`; ``ranges`` maps the first place of a range to its end."""

    path: str
    build_id: str
    shift: int | None
    fixed: bool
    by_offset: bool
    deleted: bool
    ranges: dict[int, int] = field(default_factory=dict)
    file_offsets: dict[int, int] = field(default_factory=dict)
    base: int = 0


class MergedModules:
    """Modules in the order of first appearance."""

    def __init__(self) -> None:
        self._index: dict[tuple[str, str, bool], int] = {}
        self._merged: list[_Merged] = []

    def place(
        self, module: Module, addresses: Addresses, name: str
    ) -> tuple[int, Addresses] | None:
        """Return the index of the merged module and the places in it; None if it is unusable.

        All ``addresses`` are in ranges of ``module``; without a build-id it is that of ``name``.
        """
        shifts = {r.start - module.bias - r.file_offset for r in module.ranges} if (
            module.bias is not None
        ) else {None}  # fmt: skip
        by_offset = len(shifts) == 1
        spans = []
        for r in module.ranges:
            first = r.file_offset if by_offset else r.start - (module.bias or 0)
            if not 0 <= first < first + (r.end - r.start) < _SPAN_LIMIT:
                return None
            spans.append((r, first))
        key = ("id", module.build_id, by_offset) if module.build_id else (
            "path", name, by_offset)  # fmt: skip
        index = self._index.get(key)
        if index is None:
            index = self._index[key] = len(self._merged)
            shift = next(iter(shifts)) if by_offset else 0
            self._merged.append(
                _Merged(module.path, module.build_id, shift, True, by_offset, module.deleted)
            )
        merged = self._merged[index]
        merged.fixed &= module.bias == 0
        places = addresses.copy()
        for r, first in spans:
            inside = (addresses >= np.uint64(r.start)) & (addresses <= np.uint64(r.end - 1))
            places[inside] = addresses[inside] - np.uint64(r.start) + np.uint64(first)
            merged.ranges[first] = max(merged.ranges.get(first, 0), first + r.end - r.start)
            merged.file_offsets[first] = r.file_offset
        if merged.shift is None and by_offset:
            merged.shift = next(iter(shifts))
        return index, places

    def base(self, index: int) -> int:
        """Return the address of the module, after `finish`."""
        return self._merged[index].base

    def finish(self) -> list[Module]:
        """Give every module its addresses and return all modules."""
        taken: list[tuple[int, int]] = []
        cursor = _FIRST_BASE
        for merged in self._merged:
            low, high = min(merged.ranges), max(merged.ranges.values())
            wanted = merged.shift if merged.fixed else None
            if wanted is not None and 0 <= wanted < _SPAN_LIMIT and not any(
                a < wanted + high and wanted + low < b for a, b in taken
            ):  # fmt: skip
                merged.base = wanted
            else:
                merged.base = cursor
                cursor += (high // _ALIGN + 2) * _ALIGN
            taken.append((merged.base + low, merged.base + high))
        return [_module(m) for m in self._merged]


def _module(merged: _Merged) -> Module:
    return Module(
        path=merged.path,
        ranges=[
            ExecRange(merged.base + first, merged.base + end, merged.file_offsets[first])
            for first, end in sorted(merged.ranges.items())
        ],
        build_id=merged.build_id,
        bias=None if merged.shift is None else merged.base - merged.shift,
        deleted=merged.deleted,
    )
