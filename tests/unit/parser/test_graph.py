"""The edges of a call graph, against the same done with dictionaries."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from unittest import mock

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.reports import aggregate
from mem_parser.reports.edges import calls_between
from stack_sums import NAMES, sums_of

stacks_of_keys = st.lists(st.lists(st.integers(0, NAMES - 1), max_size=9), max_size=12)
part_sizes = st.sampled_from([1, 3, 8, 1 << 18])


@given(stacks_of_keys, st.lists(st.booleans(), min_size=NAMES, max_size=NAMES), part_sizes)
def test_every_edge_between_drawn_functions_gets_each_of_its_stacks_once(
    stacks: list[list[int]], drawn: list[bool], part: int
) -> None:
    position = np.where(drawn, np.cumsum(drawn) - 1, -1)
    weight: dict[tuple[int, int], float] = defaultdict(float)
    direct = set()
    for k, stack in enumerate(stacks):
        shown = [(place, int(position[key])) for place, key in enumerate(stack) if drawn[key]]
        met: dict[tuple[int, int], bool] = {}
        for (inner_place, inner), (outer_place, outer) in pairwise(shown):
            if inner != outer:
                met.setdefault((outer, inner), outer_place - inner_place == 1)
        for edge, is_direct in met.items():
            weight[edge] += 2.0**k
            direct |= {edge} if is_direct else set()
    with mock.patch.object(aggregate, "_FRAMES_AT_A_TIME", part):
        calls = calls_between(sums_of(stacks), position, sum(drawn))
    edges = calls.edges
    assert {(e.caller, e.callee): e.value for e in edges} == weight
    assert {(e.caller, e.callee) for e in edges if not e.indirect} == direct
    entry = [0.0] * sum(drawn)
    for k, stack in enumerate(stacks):
        for key in [key for key in stack if drawn[key]][-1:]:
            entry[position[key]] += 2.0**k
    assert calls.entry.tolist() == entry
