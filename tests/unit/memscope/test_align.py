"""Alignment of two sequences."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mem_parser.memscope.align import align


def longest(left: list[int], right: list[int]) -> int:
    """The length of a longest common subsequence, from its definition by prefixes."""
    table = [[0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            table[i + 1][j + 1] = (
                table[i][j] + 1 if a == b else max(table[i][j + 1], table[i + 1][j])
            )
    return table[-1][-1]


few = st.lists(st.integers(0, 3), max_size=40)


@given(few, few, st.sampled_from([1, 4, 16, 1 << 20]))
def test_as_many_have_a_partner_as_can_have_one(
    left: list[int], right: list[int], kept: int
) -> None:
    pairs = align(left, right, kept)
    assert len(pairs) == longest(left, right)
    assert all(left[i] == right[j] for i, j in pairs)
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(pairs))


@given(st.lists(st.integers(0, 200), max_size=60), st.lists(st.integers(0, 200), max_size=60))
def test_sequences_with_little_in_common_too(left: list[int], right: list[int]) -> None:
    assert len(align(left, right, 8)) == longest(left, right)


def test_a_repeated_step_is_aligned_with_itself() -> None:
    step = ["matmul", "add", "relu"]
    pairs = align(step * 3, [*step, "dropout", *step, *step])
    assert [j for _, j in pairs] == [0, 1, 2, 4, 5, 6, 7, 8, 9]
