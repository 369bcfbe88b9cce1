"""The block that was at an address at a time: against a search through all blocks."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.memscope.blockclasses import NEVER, NOWHERE, LiveBlocks

CELL = 16


def of(rows: list[tuple[int, int, int, int]]) -> LiveBlocks:
    columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
    address, size, born, died = columns
    return LiveBlocks(
        np.array(address, dtype=np.uint64),
        np.array(size, dtype=np.int64),
        np.array(born, dtype=np.int64),
        np.array(died, dtype=np.int64),
        np.zeros(len(rows), dtype=np.int64),
    )


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[int, int, int, int]]:
    """What an allocator does: blocks that are live together never overlap."""
    live: dict[int, tuple[int, int]] = {}  # address -> size, birth
    rows = []
    for time in range(draw(st.integers(0, 40))):
        if live and draw(st.booleans()):
            address = draw(st.sampled_from(sorted(live)))
            size, born = live.pop(address)
            rows.append((address, size, born, time))
            continue
        address = CELL * draw(st.integers(1, 12))
        end = min((a for a in live if a >= address), default=CELL * 20)
        before = max((a + s for a, (s, _) in live.items() if a <= address), default=0)
        if before <= address < end:
            live[address] = draw(st.integers(1, end - address)), time
    return rows + [(a, s, b, NEVER) for a, (s, b) in live.items()]


def slow(rows: list[tuple[int, int, int, int]], address: int, time: int) -> int:
    found = [
        k for k, (a, s, born, died) in enumerate(rows)
        if a <= address < a + s and born <= time < died
    ]  # fmt: skip
    assert len(found) <= 1
    return found[0] if found else NOWHERE


@given(
    histories(), st.lists(st.tuples(st.integers(0, CELL * 21), st.integers(-1, 45)), max_size=30)
)
def test_the_block_at_an_address_is_the_one_that_a_search_through_all_finds(
    rows: list[tuple[int, int, int, int]], asked: list[tuple[int, int]]
) -> None:
    asked += [(a, b) for a, _, b, _ in rows] + [(a + s - 1, b) for a, s, b, _ in rows]
    address = np.array([a for a, _ in asked], dtype=np.uint64)
    time = np.array([t for _, t in asked], dtype=np.int64)
    assert of(rows).containing(address, time).tolist() == [slow(rows, a, t) for a, t in asked]


def test_addresses_of_the_whole_address_space_can_be_asked_for() -> None:
    blocks = of([((1 << 64) - 32, 32, 5, 9), (16, 8, 0, NEVER)])
    asked = np.array([(1 << 64) - 1, (1 << 64) - 32, 16, 23, 24, 0], dtype=np.uint64)
    assert blocks.containing(asked, np.full(6, 5)).tolist() == [0, 0, 1, 1, -1, -1]


def test_no_blocks_contain_nothing() -> None:
    assert of([]).containing(np.array([1], dtype=np.uint64), np.array([1])).tolist() == [NOWHERE]
    assert of([(1, 1, 1, 2)]).containing(np.array([], dtype=np.uint64), np.array([])).tolist() == []
