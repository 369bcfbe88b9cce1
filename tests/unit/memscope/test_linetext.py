"""Numbers in columns have the texts that Python gives them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.memscope import linetext
from mem_parser.memscope.linetext import Choice, Constant, Decimal, Hexadecimal, joined

numbers = st.lists(
    st.one_of(
        st.integers(0, (1 << 64) - 1),
        st.sampled_from([0, 1, 9, 9999, 10_000, 99_999_999, 10**8, (1 << 32) - 1, 1 << 32]),
        st.integers(0, 20_000),
    ),
    min_size=1,
    max_size=30,
)


@given(numbers)
def test_lines_are_what_a_format_gives(values: list[int]) -> None:
    column = np.array(values, dtype=np.uint64)
    choice = np.arange(len(values)) % 3
    words = ["", "abcd", "x"]
    there = choice != 1
    pieces = [
        Decimal(column), Choice(words, choice), Hexadecimal(column, full=True), Constant(" "),
        Hexadecimal(column, full=False), Constant(",y"), Decimal(column, there),
    ]  # fmt: skip
    wanted = "".join(
        f"{v}{words[k % 3]}{v:016x} {v:x},y{v if k % 3 != 1 else ''}\n"
        for k, v in enumerate(values)
    )
    assert joined(pieces, len(values), b"\n").decode() == wanted


def test_many_rows_are_in_their_order() -> None:
    column = np.arange(2 * linetext.ROWS_AT_ONCE + 5)
    found = joined([Decimal(column)], len(column), b"\n").decode()
    assert found == "".join(f"{k}\n" for k in range(len(column)))
