"""Native stacks that the sampler stored as runs of frames, and records that only look like them."""

from __future__ import annotations

import numpy as np
import pytest

from mem_parser.model import STACK_LOST_SHIFT
from mem_profiler.segment import layout
from mem_profiler.segment.arena import read_stacks
from python_arena import Arena


def stacks_of(arena: Arena, *ids: int) -> list[list[int] | None]:
    """The frames of each id; None: it could not be read."""
    stacks = read_stacks(arena.array(), np.array(ids, np.int64))
    native = stacks.distinct
    found = []
    for stack in stacks.of:
        lost = native.flags[stack] >> STACK_LOST_SHIFT
        frames = native.frames[native.offsets[stack] : native.offsets[stack + 1]].tolist()
        found.append(None if lost == layout.STACK_UNREADABLE else frames)
    return found


def test_runs_are_put_together_for_each_stack_that_names_them() -> None:
    arena = Arena()
    leaf, other, root = arena.run(1, 2), arena.run(7), arena.run(3, 4, 5)
    one, two = arena.joined(5, leaf, root), arena.joined(9, other, leaf, root, root)
    plain = arena.native(8, 9)
    assert stacks_of(arena, two, plain, one, two) == [
        [7, 1, 2, 3, 4, 5, 3, 4, 5],
        [8, 9],
        [1, 2, 3, 4, 5],
        [7, 1, 2, 3, 4, 5, 3, 4, 5],
    ]


@pytest.mark.parametrize(
    "forge",
    [
        pytest.param(lambda a, run: a.joined(3, run), id="fewer frames than it says"),
        pytest.param(lambda a, run: a.joined(1, run), id="more"),
        pytest.param(lambda a, run: a.joined(2, 1 << 25), id="a run outside"),
        pytest.param(lambda a, run: a.joined(2, a.native(1, 2)), id="no run"),
        pytest.param(lambda a, run: a.joined(2, len(a.words)), id="itself"),
        pytest.param(lambda a, run: a.joined(0), id="nothing"),
        pytest.param(
            lambda a, run: a.joined(
                2 * layout.STACK_RUNS_MAX + 4, *[run] * (layout.STACK_RUNS_MAX + 2)
            ),
            id="too many runs",
        ),
        pytest.param(
            lambda a, run: a.joined(32 * 4000, *[a.run(*range(1, 4001))] * 32), id="too deep"
        ),
    ],
)
def test_a_forged_stack_is_unreadable_and_harms_no_other(forge) -> None:  # type: ignore[no-untyped-def]
    arena = Arena()
    run = arena.run(1, 2)
    good = arena.joined(2, run)
    assert stacks_of(arena, good, forge(arena, run)) == [[1, 2], None]
