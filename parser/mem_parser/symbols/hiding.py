"""Take frames out of stacks of addresses, as `--hide` does with stacks of names."""

from __future__ import annotations

import dataclasses

import numpy as np

from mem_parser.model import BoolArray, Profile, StackTable
from mem_parser.symbols.symbolizer import AddressNames, Distinct, lost_stacks
from mem_parser.symbols.table import Function


def without_locations(
    profile: Profile, names: AddressNames, hidden: BoolArray, instead: str
) -> tuple[Profile, AddressNames]:
    """Return both without the ``hidden`` locations (a mask over those of ``names``) and without the
    addresses that had no others. A stack of nothing else has one location called ``instead``.

    Stacks keep their numbers; those that were lost stay as they are.
    """
    expansion = [tuple([x for x in found if not hidden[x]]) for found in names.expansion]
    gone = np.array([not found for found in expansion], dtype=np.bool_)
    stacks, distinct = names.stacks, names.distinct
    depth = stacks.depths
    of_frame = distinct.of_frame.copy()
    kept = ~gone[of_frame] | np.repeat(lost_stacks(stacks), depth)
    stack = np.repeat(np.arange(len(stacks)), depth)
    empty = (np.bincount(stack[kept], minlength=len(stacks)) == 0) & (depth > 0)
    first = stacks.offsets[:-1][empty]
    kept[first] = True
    of_frame[first] = len(expansion)
    place = names.builder.location(Function(instead, instead, "", known=True))
    left = np.bincount(stack[kept], minlength=len(stacks))
    shorter = StackTable(
        np.concatenate(([0], np.cumsum(left))).astype(np.int64),
        stacks.frames[kept],
        stacks.flags,
        stacks.generation,
        stacks.leaf_exact,
        stacks.interpreter,
        stacks.label,
    )
    more = Distinct(
        np.append(distinct.address, np.uint64(0)),
        np.append(distinct.generation, np.uint32(0)),
        np.append(distinct.foreign_leaf, False),
        of_frame[kept],
    )
    left_names = dataclasses.replace(
        names,
        stacks=shorter,
        distinct=more,
        module_of=np.append(names.module_of, -1),
        expansion=[*expansion, (place,)],
    )
    return dataclasses.replace(profile, stacks=shorter), left_names
