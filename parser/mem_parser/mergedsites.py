"""The sums of the merged sites: one row for each stack, size class and rate."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mem_parser.interning import Growing, Ids, Interner, pairs
from mem_parser.model import Profile, SiteTable

Counts = npt.NDArray[np.int64]
_COLUMNS = ("inuse_blocks", "inuse_bytes", "alloc_blocks", "alloc_bytes")
_DEVICE_COLUMNS = ("inuse_taken_bytes", "alloc_taken_bytes", "failed_blocks", "failed_bytes")
_COUNT_LIMIT = 1 << 62


class MergedSites:
    """Rows in the order of first appearance; sums stop at 2^62."""

    def __init__(self) -> None:
        self._classes, self._kinds = Interner(), Interner()
        self._rates, self._rated_kinds = Interner(), Interner()
        self._sites = Interner()
        self._stack: Growing[np.int64] = Growing(np.int64)
        self._rate: Growing[np.float64] = Growing(np.float64)
        self._sums: dict[str, Counts] = {}

    def __len__(self) -> int:
        return len(self._sites)

    def add(self, profile: Profile, stack_ids: Ids) -> Ids:
        """Add the sites of ``profile``, whose stack *k* has the number ``stack_ids[k]``; return the
        row of each.
        """
        s = profile.sites
        rates = np.empty(len(s))
        rates[:] = np.maximum(np.asarray(profile.rates, dtype=np.float64), 1.0)
        stack = stack_ids[s.stack]
        in_use, _ = self._classes.intern(_size_class(s.inuse_blocks, s.inuse_bytes))
        allocated, _ = self._classes.intern(_size_class(s.alloc_blocks, s.alloc_bytes))
        both, _ = self._kinds.intern(pairs(in_use, allocated))
        rate, _ = self._rates.intern(rates.view(np.int64))
        kind, _ = self._rated_kinds.intern(pairs(both, rate))
        ids, first = self._sites.intern(pairs(stack, kind))
        self._stack.extend(stack[first])
        self._rate.extend(rates[first])
        for name in (*_COLUMNS, *_DEVICE_COLUMNS):
            counts = getattr(s, name)
            if counts is not None:
                self._sums[name] = _added(self._column(name), ids, np.maximum(counts, 0))
        return ids

    def _column(self, name: str) -> Counts:
        """Return the sums of all rows, with zeros for the new ones."""
        sums = self._sums.get(name, np.zeros(0, dtype=np.int64))
        missing = len(self) - len(sums)
        return np.concatenate((sums, np.zeros(missing, dtype=np.int64))) if missing else sums

    @property
    def rates(self) -> npt.NDArray[np.float64]:
        """Bytes per sample of each row."""
        return self._rate.values.copy()

    def table(self, *, mixed: bool, device: bool) -> SiteTable:
        """Return the rows, with their rates if these are ``mixed``."""
        table = SiteTable(
            stack=self._stack.values.copy(),
            domain=np.zeros(len(self), dtype=np.int32),
            inuse_blocks=self._column("inuse_blocks"),
            inuse_bytes=self._column("inuse_bytes"),
            alloc_blocks=self._column("alloc_blocks"),
            alloc_bytes=self._column("alloc_bytes"),
            rate_bytes=self.rates if mixed else None,
        )
        if device:
            for name in _DEVICE_COLUMNS:
                setattr(table, name, self._column(name))
        return table


def _added(sums: Counts, ids: Ids, counts: Counts) -> Counts:
    """Return ``sums`` with each of ``counts``, at least 0, added at its number."""
    if float(sums.sum(dtype=np.float64)) + float(counts.sum(dtype=np.float64)) < _COUNT_LIMIT:
        np.add.at(sums, ids, counts)
        return sums
    # Only a forged file gets here: numbers of any size, one by one.
    exact = sums.astype(object)
    np.add.at(exact, ids, counts.astype(object))
    limited: Counts = np.minimum(exact, _COUNT_LIMIT).astype(np.int64)
    return limited


def _size_class(blocks: Counts, size: Counts) -> Counts:
    """Return a number for each record's mean size: equal numbers mean sizes within 1/64."""
    mean = np.divide(size, blocks, out=np.zeros(len(size)), where=blocks > 0)
    small = np.rint(mean)
    large = 64 + np.floor(64 * np.log2(np.maximum(mean, 64) / 64))
    classes = np.where(mean < 64, small, large).astype(np.int64)
    return np.where(blocks > 0, classes, -1)
