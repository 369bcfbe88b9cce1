"""Sums over stacks, part by part in arrays, against the same done with dictionaries."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from unittest import mock

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.estimate import NOTHING_UNSEEN
from mem_parser.names import FrameRule, is_allocator
from mem_parser.places import Frame, Spelled, first_kept
from mem_parser.reports import aggregate
from mem_parser.reports.aggregate import StackSums, rows_of, sum_by_key, without_allocators
from mem_parser.reports.graph import edges_between
from mem_parser.symbols.table import Function, Location, Symbols

NAMES = 6
stacks_of_keys = st.lists(st.lists(st.integers(0, NAMES - 1), max_size=9), max_size=12)
part_sizes = st.sampled_from([1, 3, 8, 1 << 18])


def sums_of(stacks: list[list[int]]) -> StackSums:
    """Sums whose stack *k* stands for 2^k bytes, so that every set of stacks has its own sum."""
    values = 2.0 ** np.arange(len(stacks))
    return StackSums(
        names=[f"f{k}" for k in range(NAMES)],
        offsets=np.cumsum([0, *map(len, stacks)]).astype(np.int64),
        keys=np.array([k for stack in stacks for k in stack], dtype=np.int32),
        values=values,
        variances=values * 2,
        samples=np.arange(len(stacks), dtype=np.int64) + 1,
        exact_samples=True,
        unseen=NOTHING_UNSEEN,
    )


@given(stacks_of_keys, part_sizes)
def test_every_key_gets_each_of_its_stacks_once(stacks: list[list[int]], part: int) -> None:
    sums = sums_of(stacks)
    flat: dict[str, float] = defaultdict(float)
    cum: dict[str, tuple[float, int]] = defaultdict(lambda: (0.0, 0))
    for k, stack in enumerate(stacks):
        if stack:
            flat[f"f{stack[0]}"] += 2.0**k
        for key in {f"f{x}" for x in stack}:
            cum[key] = cum[key][0] + 2.0**k, cum[key][1] + k + 1
    with mock.patch.object(aggregate, "_FRAMES_AT_A_TIME", part):
        rows = rows_of(sums)
        (ones,) = sum_by_key(sums, [np.ones(len(stacks))])
    assert {r.name: (r.cum.value, r.cum.samples) for r in rows} == cum
    assert {r.name: r.flat.value for r in rows if r.flat.value} == flat
    assert ones.tolist() == [sum(k in stack for stack in stacks) for k in range(NAMES)]


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
        edges = edges_between(sums_of(stacks), position, sum(drawn))
    assert {(e.caller, e.callee): e.value for e in edges} == weight
    assert {(e.caller, e.callee) for e in edges if not e.indirect} == direct


filled = st.lists(st.lists(st.integers(0, NAMES - 1), min_size=1, max_size=9), max_size=12)


@given(filled)
def test_frames_up_to_the_outermost_allocator_are_dropped(stacks: list[list[int]]) -> None:
    names = ["malloc", "a", "operator new", "b", "calloc", "c"]
    functions = [Function(name, name, "/bin/x") for name in names]
    sums = sums_of(stacks)
    symbols = Symbols(functions, [Location(k) for k in range(NAMES)], sums.offsets, sums.keys)
    offsets, locations = without_allocators(symbols, FrameRule.OWN)
    own = [is_allocator(f, FrameRule.OWN) for f in functions]
    expected = []
    for stack in stacks:
        begin = max((k + 1 for k, x in enumerate(stack) if own[x]), default=0)
        expected.append(stack[begin:] or stack[-1:])
    assert [part.tolist() for part in np.split(locations, offsets[1:-1])][: len(stacks)] == expected
    begin = first_kept(np.array(own)[sums.keys], sums.offsets)
    assert (sums.offsets[1:] - begin).tolist() == [len(stack) for stack in expected]


@given(filled)
def test_the_common_frames_of_places_are_the_innermost_that_all_share(
    stacks: list[list[int]],
) -> None:
    frames = [Frame("fgh"[k // 2], "x.c", 1, "/bin/x") for k in range(NAMES)]  # pairs are equal
    sums = sums_of(stacks)
    spelled = Spelled(frames, sums.keys, sums.offsets[:-1], sums.offsets[1:])
    shared = []
    for level in zip(*spelled, strict=False):
        if len(set(level)) > 1:
            break
        shared.append(level[0])
    assert spelled.common(np.arange(len(stacks))) == tuple(shared)
