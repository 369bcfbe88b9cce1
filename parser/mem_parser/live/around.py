"""Stacks of one function, cut at it: towards its callers or its callees."""

from __future__ import annotations

import dataclasses

import numpy as np

from mem_parser.interning import positions
from mem_parser.reports.view import View


def around(view: View, function: str, *, callers: bool) -> View:
    """Return ``view`` with only the stacks on which ``function`` is, a name that reports show.

    With ``callers`` a stack begins with the innermost frame of that function, else it ends with the
    outermost one; so with recursion nothing is lost on the other side. All other stacks keep their
    frames and have no sites.
    """
    symbols = view.symbols
    name = np.array([f.name == function for f in symbols.functions], dtype=np.bool_)
    place = np.flatnonzero(name[symbols.function_of_location][symbols.locations_of_stack])
    stack = np.searchsorted(symbols.offsets, place, side="right") - 1
    low, high = symbols.offsets[:-1].copy(), symbols.offsets[1:].copy()
    if callers:
        low[stack[::-1]] = place[::-1]  # of several the innermost is written last
    else:
        high[stack] = place + 1
    kept = np.zeros(len(low), dtype=np.bool_)
    kept[stack] = True
    offsets = np.concatenate(([0], np.cumsum(high - low)))
    cut = dataclasses.replace(
        symbols,
        offsets=offsets,
        locations_of_stack=symbols.locations_of_stack[positions(low, high)],
        called=None,
    )
    profile = view.profile.where(kept[view.profile.sites.stack])
    return dataclasses.replace(view, profile=profile, symbols=cut)
