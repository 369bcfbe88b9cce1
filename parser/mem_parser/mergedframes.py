"""One number for every frame and every stack of the merged profiles, in columns.

A frame is a place in a merged module, an address in none, or names that a file gives; a stack is a
sequence of these, its flags, its Python frames and its label.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mem_parser.interning import Growing, Ids, Interner, StackInterner, StackParts, pairs
from mem_parser.mergedmodules import MergedModules
from mem_parser.model import Profile, StackTable
from mem_parser.python.owners import MergedOwners, Owned
from mem_parser.symbols.embedded import FIRST_INVENTED, NO_MODULE, EmbeddedNames, Frames
from mem_parser.symbols.modulelabels import module_keys
from mem_parser.symbols.symbolizer import Distinct, assign_modules, distinct_addresses

Addresses = npt.NDArray[np.uint64]
_LOST_MARKER = 1
_HALF = np.uint64(32)
_ITEMS_AT_A_TIME = 1 << 20


class MergedFrames:
    """The distinct frames and stacks of all files, in the order of first appearance."""

    def __init__(self) -> None:
        self.modules = MergedModules()
        self._files = 0
        self._frames = Interner()
        self._place: Growing[np.int64] = Growing(np.int64)
        self._offset: Growing[np.uint64] = Growing(np.uint64)
        self._named: Growing[np.int64] = Growing(np.int64)
        self._offsets, self._kinds = Interner(), Interner()
        self._names: dict[Frames, int] = {(): 0}
        self._stacks = StackInterner(np.int32)
        self._owners = MergedOwners()

    @property
    def frames(self) -> int:
        """The number of distinct frames."""
        return len(self._frames)

    def intern(self, profile: Profile) -> Ids:
        """Return for every stack of ``profile`` its number among all distinct ones."""
        self._files += 1
        distinct = distinct_addresses(profile)
        ids = self._intern_frames(profile, distinct).astype(np.int32)
        stacks = profile.stacks
        owners = self._owners.intern(profile)
        parts = StackParts(
            ids[distinct.of_frame],
            stacks.offsets[:-1],
            stacks.offsets[1:],
            (stacks.flags.astype(np.uint64) << _HALF | owners).view(np.int64),
        )
        del distinct, ids
        return self._stacks.intern(parts)[0]

    def _intern_frames(self, profile: Profile, distinct: Distinct) -> Ids:
        """Return for every distinct address its number among all frames."""
        module_of = assign_modules(profile.modules, distinct)
        place = np.full(len(distinct.address), NO_MODULE, dtype=np.int64)
        offset = distinct.address.copy()
        keys = module_keys(profile.modules)
        for k in np.flatnonzero(np.bincount(module_of[module_of >= 0])).tolist():
            here = np.flatnonzero(module_of == k)
            # A module without a name is none of another file's.
            key = keys[k] if profile.modules[k].path else f"{self._files}:{keys[k]}"
            found = self.modules.place(profile.modules[k], distinct.address[here], key)
            if found is not None:
                place[here], offset[here] = found
        named = self._names_of(profile, module_of, distinct.address)
        # A made-up address means nothing in another file: its names alone are the key.
        offset[(place == NO_MODULE) & (named > 0)] = 0
        kind, _ = self._kinds.intern(pairs(place - NO_MODULE, named))
        where, _ = self._offsets.intern(offset)
        ids, first = self._frames.intern(pairs(kind, where))
        for column, values in ((self._place, place), (self._offset, offset), (self._named, named)):
            column.extend(values[first])
        return ids

    def _names_of(self, profile: Profile, module_of: Ids, addresses: Addresses) -> Ids:
        """Return the number of the names that the file gives each address, 0 for none."""
        named = np.zeros(len(addresses), dtype=np.int64)
        embedded = profile.embedded
        if embedded is None:
            return named
        rows = zip(module_of.tolist(), addresses.tolist(), strict=True)
        for k, (module, address) in enumerate(rows):
            frames: Frames = tuple(embedded.find(module, address))
            named[k] = self._names.setdefault(frames, len(self._names))
        return named

    def stacks(self, *, leaf_exact: bool) -> tuple[StackTable, Owned, EmbeddedNames | None]:
        """Return all stacks, what they have besides native frames, and the names in the files,
        after `MergedModules.finish`.
        """
        lookup, names = self._addresses()
        ids, offsets = self._stacks.items.values, self._stacks.offsets
        frames = np.empty(len(ids), dtype=np.uint64)
        for low in range(0, len(ids), _ITEMS_AT_A_TIME):
            frames[low : low + _ITEMS_AT_A_TIME] = lookup[ids[low : low + _ITEMS_AT_A_TIME]]
        count = len(self._stacks)
        tags = self._stacks.tags.values.view(np.uint64)
        owned = self._owners.split(tags.astype(np.uint32))
        table = StackTable(
            offsets,
            frames,
            (tags >> _HALF).astype(np.uint32),
            np.zeros(count, dtype=np.uint32),
            leaf_exact,
            owned.interpreter,
            owned.label,
        )
        _to_return_addresses(table)
        return table, owned, names

    def _addresses(self) -> tuple[Addresses, EmbeddedNames | None]:
        """Return the look-up address of every frame, and the names in the files."""
        place, named, lookup = self._place.values, self._named.values, self._offset.values.copy()
        for k in np.flatnonzero(np.bincount(place[place >= 0])).tolist():
            lookup[place == k] += np.uint64(self.modules.base(k))
        invented = np.flatnonzero((place == NO_MODULE) & (named > 0))
        lookup[invented] = np.uint64(FIRST_INVENTED) + 2 * invented.astype(np.uint64)
        names = EmbeddedNames()
        spelled = list(self._names)
        for k in np.flatnonzero(named).tolist():
            names.frames[int(place[k]), int(lookup[k])] = spelled[named[k]]
        return lookup, names if names.frames else None


def _to_return_addresses(table: StackTable) -> None:
    """Add to each look-up address what the look-up takes off again; markers of lost stacks stay."""
    frames = table.frames
    leaf = table.offsets[:-1][table.depths > 0] if table.leaf_exact else np.zeros(0, dtype=np.int64)
    exact = frames[leaf]
    for low in range(0, len(frames), _ITEMS_AT_A_TIME):
        part = frames[low : low + _ITEMS_AT_A_TIME]
        moved = part > _LOST_MARKER
        part[~moved] = _LOST_MARKER
        part += moved
    frames[leaf] = np.maximum(exact, np.uint64(_LOST_MARKER))
