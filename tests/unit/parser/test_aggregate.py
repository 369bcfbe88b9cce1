"""Sums over stacks, part by part in arrays, against the same done with dictionaries."""

from __future__ import annotations

from collections import defaultdict
from unittest import mock

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.charge import first_kept
from mem_parser.names import FrameRule, is_allocator
from mem_parser.reports import aggregate
from mem_parser.reports.aggregate import rows_of, sum_by_key, without_allocators
from mem_parser.symbols.table import Function, Location, Symbols
from stack_sums import NAMES, sums_of

stacks_of_keys = st.lists(st.lists(st.integers(0, NAMES - 1), max_size=9), max_size=12)
part_sizes = st.sampled_from([1, 3, 8, 1 << 18])


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
