"""Growth between snapshots: only what was born and freed in between counts."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from heapfiles import HeapFile, Record
from mem_parser.growth import Growth, StackIndex
from mem_parser.model import Profile
from mem_parser.readers import read_bytes

A, B, C = (1, 2), (1, 3), (1, 2, 3)


def snapshot(second: float, **stacks: tuple[int, int]) -> Profile:
    """Blocks (allocated, freed) so far of the stacks a, b and c."""
    frames = {"a": A, "b": B, "c": C}
    records = [
        Record(frames[name], alloc, alloc * 10, freed, freed * 10)
        for name, (alloc, freed) in stacks.items()
    ]
    return read_bytes(HeapFile(records, header={"duration_s": second}).data, "x")


def sites_of(profile: Profile, frames: tuple[int, ...]) -> np.ndarray:
    at = profile.stacks.offsets
    return np.array(
        [
            k
            for k, stack in enumerate(profile.sites.stack.tolist())
            if tuple(profile.stacks.frames[at[stack] : at[stack + 1]].tolist()) == frames
        ]
    )


def p(newest: Profile, *earlier: Profile, frames: tuple[int, ...] = A) -> float:
    return Growth(newest, earlier).p_growing(sites_of(newest, frames))


def test_births_alone_are_growth_with_the_chance_of_so_many_heads() -> None:
    assert p(snapshot(9, a=(110, 0)), snapshot(1, a=(100, 0))) == pytest.approx(2.0**-10)


def test_as_many_deaths_as_births_are_no_growth() -> None:
    assert p(snapshot(9, a=(200, 100)), snapshot(1, a=(100, 0))) > 0.4
    assert p(snapshot(9, a=(100, 90)), snapshot(1, a=(100, 0))) == 1.0


def test_what_lives_in_both_snapshots_cancels() -> None:
    assert p(snapshot(9, a=(100_000, 0)), snapshot(1, a=(100_000, 0))) == 1.0


def test_a_stack_that_is_new_was_empty_before() -> None:
    newest = snapshot(9, a=(5, 0), c=(10, 0))
    assert p(newest, snapshot(1, a=(5, 0)), frames=C) == pytest.approx(2.0**-10)
    assert p(newest, snapshot(1, a=(5, 0), b=(99, 0)), frames=A) == 1.0


def test_with_three_snapshots_both_halves_must_show_it() -> None:
    first, middle, last = snapshot(1, a=(10, 0)), snapshot(5, a=(30, 0)), snapshot(9, a=(50, 0))
    assert p(last, first, middle) == pytest.approx(2.0**-20)
    assert p(snapshot(9, a=(30, 0)), first, middle) == 1.0
    # Of several in between, the one nearest to half of the time divides it.
    assert p(last, first, snapshot(1.1, a=(10, 0)), middle) == pytest.approx(2.0**-20)


def test_stacks_at_one_address_of_two_generations_of_libraries_are_two() -> None:
    old = snapshot(1, a=(5, 0), b=(1, 0))
    index = StackIndex(old)
    assert index.match(old).tolist() == [0, 1]
    generation = old.stacks.generation.copy()
    generation[0] += 1
    other = dataclasses.replace(old, stacks=dataclasses.replace(old.stacks, generation=generation))
    assert index.match(other).tolist() == [-1, 1]
