"""Show labels of stacks as their outermost frames, in a pseudo-module."""

from __future__ import annotations

import dataclasses

import numpy as np

from mem_parser.interning import distinct
from mem_parser.model import Profile
from mem_parser.python.labels import Labels
from mem_parser.symbols.table import LABEL_MODULE, Function, Location, Role, Symbols


def shown_labels(profile: Profile, symbols: Symbols) -> Labels | None:
    """Return the labels of ``profile`` if stacks of ``symbols`` begin with them; else None."""
    shown = any(function.module == LABEL_MODULE for function in symbols.functions)
    return profile.labels if shown else None


def without_labels(symbols: Symbols) -> Symbols:
    """Return ``symbols`` without the frames that `with_labels` added."""
    labels = np.array([f.module == LABEL_MODULE for f in symbols.functions], dtype=np.bool_)
    if not labels.any():
        return symbols
    kept = ~labels[symbols.function_of_location[symbols.locations_of_stack]]
    before = np.concatenate(([0], np.cumsum(kept)))
    return dataclasses.replace(
        symbols,
        offsets=before[symbols.offsets],
        locations_of_stack=symbols.locations_of_stack[kept],
    )


def with_labels(profile: Profile, symbols: Symbols) -> Symbols:
    """Return ``symbols`` of ``profile`` with its labels as the outermost frames of stacks."""
    labels, numbers = profile.labels, profile.stacks.label_numbers
    if labels is None or not numbers.any():
        return symbols
    functions, locations = list(symbols.functions), list(symbols.locations)
    place: dict[str, int] = {}
    chains: dict[int, list[int]] = {0: []}
    for number in distinct(numbers[numbers > 0]).tolist():
        chain = []
        for label in labels.outwards(number):
            name = labels.spelled(label)
            if name not in place:
                place[name] = len(locations)
                locations.append(Location(len(functions)))
                functions.append(Function(name, name, LABEL_MODULE, role=Role.START))
            chain.append(place[name])
        chains[number] = chain
    more = np.array([len(chains[n]) for n in numbers.tolist()], dtype=np.int64)
    added = np.array([k for n in numbers.tolist() for k in chains[n]], dtype=np.int32)
    ends = np.repeat(symbols.offsets[1:], more)
    return dataclasses.replace(
        symbols,
        functions=functions,
        locations=locations,
        offsets=symbols.offsets + np.concatenate(([0], np.cumsum(more))),
        locations_of_stack=np.insert(symbols.locations_of_stack, ends, added),
    )
