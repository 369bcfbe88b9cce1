"""Function symbols of one file as sorted arrays, and look-ups that respect their sizes.

An address belongs to a symbol only if the symbol covers it. A symbol of size 0 (hand-written
assembler) covers the rest up to the next symbol. Of several names at one address the exported,
plain one wins: `malloc` before `__libc_malloc`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_NEST_LIMIT = 24
"""How many symbols before the nearest one are tried for one that encloses the address."""
_MAX_NAME = 1 << 16
_SHORT_NAME = 256
_MOST_TEXT_BYTES = 64 << 20
"""Names of one table that are spelled in full; further ones are cut to a short one."""
_MOST_ALIASES = 256
"""Names at one address among which the plainest is looked for."""


@dataclass(frozen=True, slots=True)
class RawSymbols:
    """Symbols of one section; ``names`` are offsets into ``strings``."""

    values: npt.NDArray[np.uint64]
    sizes: npt.NDArray[np.uint64]
    names: npt.NDArray[np.int64]
    rank: npt.NDArray[np.uint8]
    strings: bytes

    @classmethod
    def empty(cls) -> RawSymbols:
        """Return no symbols."""
        address, text = np.zeros(0, np.uint64), np.zeros(0, np.int64)
        return cls(address, address, text, np.zeros(0, np.uint8), b"")

    def row_named(self, name: str) -> int | None:
        """Return the first row with the name ``name``, by the first text of it that a row uses."""
        text = re.escape(name.encode() + b"\0")
        places = np.array([m.start() for m in re.finditer(text, self.strings)], dtype=np.int64)
        rows = np.flatnonzero(np.isin(self.names, places, kind="table"))
        return int(rows[np.argmin(self.names[rows])]) if len(rows) else None


class SymbolTable:
    """Symbols of a file, sorted by address, better names first."""

    def __init__(self, raw: RawSymbols) -> None:
        order = np.lexsort((raw.rank, raw.values))
        self._values = raw.values[order]
        self._sizes = raw.sizes[order]
        self._names = raw.names[order]
        self._rank = raw.rank[order]
        self._strings = raw.strings
        self._text_left_bytes = _MOST_TEXT_BYTES
        first = np.ones(len(self._values), dtype=np.bool_)
        first[1:] = self._values[1:] != self._values[:-1]
        self._starts = self._values[first]

    @classmethod
    def merge(cls, tables: list[RawSymbols]) -> SymbolTable:
        """Return the table of all symbols of several sections."""
        if not tables:
            return cls(RawSymbols.empty())
        shifts = np.cumsum([0] + [len(t.strings) + 1 for t in tables[:-1]])
        return cls(
            RawSymbols(
                np.concatenate([t.values for t in tables]),
                np.concatenate([t.sizes for t in tables]),
                np.concatenate([t.names + s for t, s in zip(tables, shifts, strict=True)]),
                np.concatenate([t.rank for t in tables]),
                b"\0".join(t.strings for t in tables),
            )
        )

    def __len__(self) -> int:
        return len(self._values)

    def names(self) -> Iterator[str]:
        """Yield the names of all functions, as in the file."""
        yield from map(self._text, range(len(self._names)))

    def starts(self, addresses: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
        """Tell for each address whether a function begins exactly there."""
        if not len(self._starts):
            return np.zeros(len(addresses), dtype=np.bool_)
        at = np.searchsorted(self._starts, addresses)
        at[at == len(self._starts)] = 0
        return np.asarray(self._starts[at] == addresses)

    def find(self, addresses: npt.NDArray[np.uint64]) -> list[str | None]:
        """Return for each address the name, as in the file, of the function that covers it."""
        found = self._covering_start(addresses)
        cache: dict[int, str] = {}
        return [self._name_at(int(k), cache) if k >= 0 else None for k in found]

    def _covering_start(self, addresses: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """Return for each address the covering function's index in ``_starts``; -1: none."""
        result = np.full(len(addresses), -1, dtype=np.int64)
        if not len(self._starts):
            return result
        ends = self._ends()
        nearest = np.searchsorted(self._starts, addresses, side="right") - 1
        for back in range(_NEST_LIMIT):
            candidate = nearest - back
            open_ = (result < 0) & (candidate >= 0)
            if not open_.any():
                break
            hit = np.flatnonzero(open_)
            covers = addresses[hit] < ends[candidate[hit]]
            result[hit[covers]] = candidate[hit[covers]]
        return result

    def _ends(self) -> npt.NDArray[np.uint64]:
        """Return for each start the end of its longest symbol; size 0 reaches the next."""
        first = np.searchsorted(self._values, self._starts)
        sizes = np.maximum.reduceat(self._sizes, first)
        with np.errstate(over="ignore"):
            following = np.append(self._starts[1:], self._starts[-1] + np.uint64(16))
            ends = self._starts + sizes
        return np.where(sizes == 0, following, ends)

    def _name_at(self, start_index: int, cache: dict[int, str]) -> str:
        name = cache.get(start_index)
        if name is None:
            value = self._starts[start_index]
            low = int(np.searchsorted(self._values, value))
            high = int(np.searchsorted(self._values, value, side="right"))
            high = min(high, low + _MOST_ALIASES)
            best = self._rank[low]
            names = [self._text(k) for k in range(low, high) if self._rank[k] == best]
            name = cache[start_index] = min(names, key=_plainness)
            self._text_left_bytes -= len(name)
        return name

    def _text(self, index: int) -> str:
        start = int(self._names[index])
        longest = _MAX_NAME if self._text_left_bytes > 0 else _SHORT_NAME
        end = self._strings.find(b"\0", start, start + longest)
        end = start + longest if end < 0 else end
        return self._strings[start:end].decode("utf-8", "replace").partition("@")[0]


def _plainness(name: str) -> tuple[int, int, str]:
    """Order names at one address: fewest leading underscores, then shortest, then alphabetical."""
    return len(name) - len(name.lstrip("_")), len(name), name
