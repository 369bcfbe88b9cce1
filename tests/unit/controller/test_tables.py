"""Which stacks of a segment become one in a profile."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.model import StackTable
from mem_parser.sharedstacks import SharedStacks
from mem_profiler.profile.tables import merge_equal_stacks

NATIVE = st.tuples(
    st.lists(st.integers(1, 3), min_size=1, max_size=3), st.integers(0, 1), st.integers(0, 1)
)


@given(st.lists(NATIVE, min_size=1, max_size=8), st.data())
def test_stacks_that_are_equal_in_everything_become_one(
    natives: list[tuple[list[int], int, int]], data: st.DataObject
) -> None:
    number = st.integers(0, len(natives) - 1)
    drawn = data.draw(st.lists(st.tuples(number, st.integers(0, 2), st.integers(0, 1))))
    merged, index = merge_equal_stacks(shared_of(natives, drawn))
    wanted = [(*identity(natives[of]), python, label) for of, python, label in drawn]
    assert sorted(contents(merged)) == sorted(set(wanted))
    assert [contents(merged)[k] for k in index.tolist()] == wanted


def test_stacks_with_the_same_frames_come_together_in_the_order_of_the_frames() -> None:
    natives = [([7], 0, 0), ([5], 0, 0), ([7], 0, 0)]
    stacks = shared_of(natives, [(1, 1, 0), (0, 1, 0), (1, 2, 0), (2, 3, 0)])
    merged, index = merge_equal_stacks(stacks)
    assert merged.frames.tolist() == [7, 7, 5, 5]
    assert merged.interpreters[index].tolist() == [1, 1, 2, 3]
    assert len(merged.distinct) == 2


def identity(native: tuple[list[int], int, int]) -> tuple[tuple[int, ...], int, int]:
    frames, flags, generation = native
    return tuple(frames), flags, generation


def shared_of(
    natives: list[tuple[list[int], int, int]], drawn: list[tuple[int, int, int]]
) -> SharedStacks:
    offsets = np.cumsum([0, *(len(frames) for frames, _, _ in natives)])
    frames = np.array([frame for some, _, _ in natives for frame in some], np.uint64)
    flags, generation = (np.array([n[k] for n in natives], np.uint32) for k in (1, 2))
    columns = np.array(drawn, np.int64).reshape(-1, 3)
    python, label = (columns[:, k].astype(np.uint32) for k in (1, 2))
    table = StackTable(offsets, frames, flags, generation, leaf_exact=True)
    return SharedStacks(table, columns[:, 0], python, label)


def contents(stacks: SharedStacks) -> list[tuple[tuple[int, ...], int, int, int, int]]:
    return [
        (
            tuple(stacks.frames_between(k, k + 1).tolist()),
            int(stacks.flags[k]),
            int(stacks.generation[k]),
            int(stacks.interpreters[k]),
            int(stacks.label_numbers[k]),
        )
        for k in range(len(stacks))
    ]
