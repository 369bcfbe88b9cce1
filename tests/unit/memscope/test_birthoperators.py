"""Operators that ran when blocks were allocated, against stacks of open operators."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.memscope.form import MALLOC
from mem_parser.memscope.ownersums import operators_at
from memscope_dumps import Story

moves = st.lists(
    st.tuples(st.sampled_from(("begin", "end", "malloc")), st.integers(-1, 2), st.integers(0, 3)),
    max_size=60,
)


@given(moves)
def test_it_is_the_innermost_open_operator_of_the_thread(
    tmp_path: Path, told: list[tuple[str, int, int]]
) -> None:
    story, stacks, expected = Story(), dict[int, list[str]](), list[str | None]()
    for number, (what, tid, k) in enumerate(told, 1):
        stack = stacks.setdefault(tid, [])
        if what == "begin":
            story.add("OP_LAUNCH", "ATEN_START", f"op{k}", tid=tid)
            stack.append(f"op{k}")
        elif what == "end":
            # What it is called does not matter; the first ones may be of operators from before.
            story.add("OP_LAUNCH", "ATEN_END", "op", tid=tid)
            if stack:
                stack.pop()
        else:
            story.malloc(0x1000 * number, 8, "PTA", number)
            story.rows[-1] = story.rows[-1]._replace(tid=tid)
            expected.append(stack[-1] if stack and tid >= 0 else None)
    rows = story.read(tmp_path)
    births = np.flatnonzero(rows.is_event(MALLOC))
    found = [rows.words.names[k] if k >= 0 else None for k in operators_at(rows, births).tolist()]
    assert found == expected
