"""One tree of Python's frames for several files, against stacks that are spelled out."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.python.merged import MergedPython, renumbered
from mem_parser.python.stacks import PythonStacks
from python_profiles import python_trees


def frames(python: PythonStacks, number: int) -> list[tuple[object, ...]]:
    return [
        (python.codes[python.code[n]], int(python.line[n]), bool(python.entry[n]))
        for n in python.outwards(number)
    ]


@given(st.lists(python_trees(), min_size=1, max_size=4))
def test_every_stack_has_its_frames_under_its_new_number(trees: list[PythonStacks]) -> None:
    merged = MergedPython()
    numbers = [merged.intern(tree) for tree in trees]
    whole = merged.result()
    assert (whole is None) == (not any(map(len, trees)))
    for tree, here in zip(trees, numbers, strict=True):
        assert here[0] == 0
        for number in range(1, len(tree) + 1):
            assert whole is not None
            assert frames(whole, int(here[number])) == frames(tree, number)


@given(st.lists(python_trees(), min_size=1, max_size=4))
def test_equal_stacks_have_one_number(trees: list[PythonStacks]) -> None:
    merged = MergedPython()
    for tree in trees:
        merged.intern(tree)
    spelled = {tuple(frames(t, n)) for t in trees for n in range(1, len(t) + 1)}
    assert len(merged) == len(spelled)


def test_numbers_of_no_node_become_0() -> None:
    assert renumbered(np.array([0, 1, 2, 9], np.uint32), np.array([0, 7, 8])).tolist() == [
        0, 7, 8, 0,
    ]  # fmt: skip


def test_a_profile_without_python_has_no_tree() -> None:
    merged = MergedPython()
    assert merged.intern(None).tolist() == [0]
    assert merged.result() is None
