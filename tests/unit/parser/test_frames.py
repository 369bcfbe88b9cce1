"""Where blocks were allocated: the frames that count, and those that places share."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.frames import Frame, Spelled
from stack_sums import NAMES, sums_of

filled = st.lists(st.lists(st.integers(0, NAMES - 1), min_size=1, max_size=9), max_size=12)


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
