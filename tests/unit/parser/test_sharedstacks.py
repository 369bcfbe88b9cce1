"""Stacks that have their frames in common, against the same stacks with frames of their own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.heapfile import writer
from mem_parser.heapfile.writer import write_heap
from mem_parser.model import Profile, SiteTable, StackTable
from mem_parser.sharedstacks import SharedStacks

SOME = st.lists(st.lists(st.integers(1, 2**64 - 1), max_size=5), min_size=1, max_size=6)


def table_of(stacks: list[list[int]]) -> StackTable:
    offsets = np.cumsum([0, *map(len, stacks)])
    frames = np.array([frame for stack in stacks for frame in stack], np.uint64)
    number = np.arange(len(stacks), dtype=np.uint32)
    return StackTable(offsets, frames, number, number + np.uint32(10), leaf_exact=True)


@given(SOME, st.data())
def test_shared_stacks_are_the_same_as_stacks_with_frames_of_their_own(
    stacks: list[list[int]], data: st.DataObject
) -> None:
    of = data.draw(st.lists(st.integers(0, len(stacks) - 1), max_size=12))
    shared = SharedStacks(table_of(stacks), np.array(of, np.int64))
    own = table_of([stacks[k] for k in of])
    assert len(shared) == len(of)
    assert shared.offsets.tolist() == own.offsets.tolist()
    assert shared.flags.tolist() == of
    assert shared.generation.tolist() == [10 + k for k in of]
    low = data.draw(st.integers(0, len(of)))
    high = data.draw(st.integers(low, len(of)))
    assert shared.frames_between(low, high).tolist() == own.frames_between(low, high).tolist()
    assert shared.frames.tolist() == own.frames.tolist()
    assert shared.is_leaf.tolist() == own.is_leaf.tolist()


@given(SOME)
def test_a_part_of_shared_stacks_has_their_frames(stacks: list[list[int]]) -> None:
    of = np.array([k for k in range(len(stacks)) for _ in range(2)], np.int64)
    mask = np.arange(len(of)) % 3 == 0
    part = SharedStacks(table_of(stacks), of).take(mask)
    assert part.frames.tolist() == [frame for k in of[mask].tolist() for frame in stacks[k]]


def test_shared_stacks_with_other_numbers_share_their_frames_still() -> None:
    of = np.array([1, 0, 1], np.int64)
    numbers = np.array([4, 5, 6], np.uint32)
    shared = SharedStacks(table_of([[1], [2, 3]]), of, label=numbers)
    other = shared.numbered(numbers, None)
    assert other.shared()[1].tolist() == of.tolist()
    assert other.frames.tolist() == shared.frames.tolist()
    assert (other.interpreters.tolist(), other.label) == ([4, 5, 6], None)


def test_a_file_of_shared_stacks_is_that_of_the_same_stacks_with_frames_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stacks = [[k, k + 1, 2**40 + k] for k in range(1, 8)]
    of = np.array([3, 3, 1, 0, 6, 6, 6, 2, 5], np.int64)
    shared = SharedStacks(table_of(stacks), of)
    own = StackTable(shared.offsets, shared.frames, shared.flags, shared.generation, True)
    whole = write_heap(profile_of(own))
    monkeypatch.setattr(writer, "_STACKS_AT_A_TIME", 2)
    monkeypatch.setattr(writer, "_RECORDS_AT_A_TIME", 4)
    fresh = SharedStacks(table_of(stacks), of)
    assert write_heap(profile_of(fresh)) == whole
    assert fresh._laid_out is None


def profile_of(stacks: StackTable) -> Profile:
    number = np.arange(len(stacks), dtype=np.int64)
    sites = SiteTable(number, number.astype(np.int32) * 0, *(number + 1 for _ in range(4)))
    return Profile(
        format="mem_profiler", rate_bytes=1.0, stacks=stacks, sites=sites, domains=["host"]
    )
