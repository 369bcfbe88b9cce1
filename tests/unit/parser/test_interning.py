"""Numbers for equal keys and stacks, against dictionaries."""

from __future__ import annotations

import itertools
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser import interning
from mem_parser.interning import (
    Growing,
    Interner,
    StackInterner,
    StackParts,
    distinct,
    next_equal,
    positions,
    previous_equal,
)

batches_of_keys = st.lists(st.lists(st.integers(-9, 9) | st.integers(-(1 << 63), (1 << 63) - 1)))
stacks = st.lists(st.tuples(st.lists(st.integers(0, 3), max_size=5), st.integers(0, 2)))


@given(batches_of_keys)
def test_keys_are_numbered_as_a_dictionary_numbers_them(batches: list[list[int]]) -> None:
    interner, index = Interner(), dict[int, int]()
    for keys in batches:
        column = np.array(keys, dtype=np.int64)
        assert interner.find(column).tolist() == [index.get(k, -1) for k in keys]
        known = len(index)
        expected = [index.setdefault(k, len(index)) for k in keys]
        ids, first = interner.intern(column)
        assert ids.tolist() == expected
        assert first.tolist() == [keys.index(k) for k in list(index)[known:]]
        assert len(interner) == len(index)


def test_addresses_of_the_upper_half_are_keys_like_others() -> None:
    interner = Interner()
    keys = np.array([1 << 63, 5, (1 << 64) - 1, 5], dtype=np.uint64)
    assert interner.intern(keys)[0].tolist() == [0, 1, 2, 1]
    assert interner.find(keys[::-1]).tolist() == [1, 2, 1, 0]


def parts(batch: list[tuple[list[int], int]], gap: int = 0) -> StackParts:
    """The sequences with ``gap`` items between them that belong to none."""
    items = [x for items, _ in batch for x in [*items, *[7] * gap]]
    depth = np.array([len(items) for items, _ in batch], dtype=np.int64)
    ends = np.cumsum(depth + gap) - gap
    tags = np.array([tag for _, tag in batch], dtype=np.int64)
    return StackParts(np.array(items, dtype=np.int32), ends - depth, ends, tags)


class Colliding(interning._Factors):
    """At first every stack has the hash of all others."""

    made = 0

    def __init__(self) -> None:
        super().__init__()
        Colliding.made += 1
        self.weak = Colliding.made < 3

    def hashes(self, stacks: StackParts) -> interning.Hashes:
        found = super().hashes(stacks)
        return found & np.uint64(0) if self.weak else found


@pytest.mark.parametrize("colliding", [False, True])
@given(
    batches=st.lists(stacks), more=stacks, gap=st.integers(0, 2), size=st.sampled_from([1, 4, 999])
)
def test_stacks_are_numbered_as_a_dictionary_numbers_them(
    colliding: bool, batches: list[list[tuple[list[int], int]]],
    more: list[tuple[list[int], int]], gap: int, size: int,
) -> None:  # fmt: skip
    index: dict[tuple[tuple[int, ...], int], int] = {}
    Colliding.made = 0 if colliding else 9
    with (
        mock.patch.object(interning, "_ITEMS_AT_A_TIME", size),
        mock.patch.object(interning, "_Factors", Colliding),
    ):
        interner = StackInterner(np.int32)
        for batch in batches:
            keys = [(tuple(items), tag) for items, tag in batch]
            known = len(index)
            expected = [index.setdefault(k, len(index)) for k in keys]
            ids, first = interner.intern(parts(batch, gap))
            assert ids.tolist() == expected
            assert first.tolist() == [keys.index(k) for k in list(index)[known:]]
        found = interner.find(parts(more, gap)).tolist()
        assert found == [index.get((tuple(items), tag), -1) for items, tag in more]
    bounds = interner.offsets.tolist()
    kept = [tuple(interner.items.values[a:b]) for a, b in itertools.pairwise(bounds)]
    assert list(zip(kept, interner.tags.values.tolist(), strict=True)) == list(index)


def test_the_order_of_frames_and_where_stacks_end_make_them_different() -> None:
    batch = [
        ([1, 2], 0), ([2, 1], 0), ([1, 2, 0], 0), ([0, 1, 2], 0), ([1, 2], 1), ([], 0), ([0], 0),
    ]  # fmt: skip
    assert StackInterner(np.int32).intern(parts(batch))[0].tolist() == list(range(7))


@given(st.lists(st.lists(st.integers(0, 99))))
def test_growing_arrays_hold_what_was_put_behind(batches: list[list[int]]) -> None:
    growing: Growing[np.int64] = Growing(np.int64)
    for batch in batches:
        growing.extend(np.array(batch, dtype=np.int64))
    assert growing.values.tolist() == [x for batch in batches for x in batch]


def test_positions_are_those_of_all_ranges() -> None:
    starts, ends = np.array([3, 0, 7, 7]), np.array([5, 0, 8, 9])
    assert positions(starts, ends).tolist() == [3, 4, 7, 7, 8]


@given(st.lists(st.integers(-(1 << 63), (1 << 63) - 1)))
def test_distinct_values_are_those_of_numpy(values: list[int]) -> None:
    column = np.array(values, dtype=np.int64)
    assert distinct(column).tolist() == np.unique(column).tolist()


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2))))
def test_equal_rows_follow_each_other(rows: list[tuple[int, int]]) -> None:
    columns = np.array(rows, dtype=np.int64).reshape(-1, 2)
    previous = previous_equal(columns[:, 0], columns[:, 1])
    latest: dict[tuple[int, int], int] = {}
    expected = []
    for k, row in enumerate(rows):
        expected.append(latest.get(row, -1))
        latest[row] = k
    assert previous.tolist() == expected
    assert [k for k, after in enumerate(next_equal(previous).tolist()) if after < 0] == sorted(
        latest.values()
    )
