"""Classes of blocks by what side rows say."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.memscope.blockclasses import NEVER, NOWHERE, LiveBlocks, SideFacts, class_of_owner
from mem_parser.memscope.siderows import SideRow


def row(time: int, event: str, kind: str, name: str = "", address: int | None = None, *,
        tid: int = 1) -> SideRow:  # fmt: skip
    return SideRow(time, tid, "cpu", event, kind, name, address, {}, None)


def classes(rows: list[SideRow], *blocks: tuple[int, int, int]) -> list[str]:
    """Blocks are their birth, death and thread; block k is at 64 * (k + 1)."""
    born, died, tid = (np.array(c, dtype=np.int64) for c in zip(*blocks, strict=True))
    count = len(blocks)
    live = LiveBlocks(
        np.arange(1, count + 1, dtype=np.uint64) * np.uint64(64),
        np.full(count, 64),
        born,
        died,
        tid,
    )
    found = SideFacts(rows).classes(live)
    return [found.names[k] for k in found.of_block.tolist()]


OPERATOR = [row(10, "OP_LAUNCH", "ATEN_START", "op"), row(20, "OP_LAUNCH", "ATEN_END", "op")]


def test_what_a_thread_allocates_in_an_operator_is_the_operators() -> None:
    assert classes(OPERATOR, (15, 99, 1), (15, 99, 2), (5, 99, 1), (25, 99, 1)) == [
        "aten", "unknown", "unknown", "unknown",
    ]  # fmt: skip


def test_an_operator_that_never_ended_has_what_came_after_its_begin() -> None:
    assert classes(OPERATOR[:1], (15, NEVER, 1), (5, NEVER, 1)) == ["aten", "unknown"]


def test_what_an_operator_used_is_the_operators() -> None:
    used = [row(30, "ACCESS", "READ", "op", 64), row(30, "OWNER", "DETAIL_2", "aten", 128)]
    assert classes(used, (5, 99, 2), (5, 99, 2), (5, 29, 2)) == ["aten", "aten", "unknown"]


def test_an_activation_was_made_with_gradients_and_lives_when_backward_begins() -> None:
    rows = [row(1, "PHASE", "GRAD_ON"), *OPERATOR, row(50, "PHASE", "BACKWARD_START")]
    assert classes(rows, (15, 60, 1), (15, 40, 1), (15, NEVER, 1)) == [
        "activation", "aten", "activation",
    ]  # fmt: skip
    rows[0] = row(1, "PHASE", "GRAD_OFF")
    assert classes(rows, (15, 60, 1)) == ["aten"]


def test_only_the_next_backward_makes_activations() -> None:
    rows = [row(1, "PHASE", "GRAD_ON"), *OPERATOR, row(12, "PHASE", "BACKWARD_START")]
    assert classes(rows, (15, 60, 1)) == ["aten"]


def test_a_told_label_holds_for_the_whole_life_and_the_strongest_one_counts() -> None:
    rows = [
        row(1, "PHASE", "GRAD_ON"), *OPERATOR, row(50, "PHASE", "BACKWARD_START"),
        row(55, "OWNER", "DETAIL_1", "gradient", 64), row(57, "OWNER", "DETAIL_1", "weight", 64),
        row(55, "OWNER", "DETAIL_1", "input", 128), row(55, "OWNER", "DETAIL_1", "all_gather", 192),
        row(65, "OWNER", "DETAIL_1", "weight", 256),
    ]  # fmt: skip
    assert classes(rows, *[(15, 60, 1)] * 4) == ["weight", "input", "all_gather", "activation"]


def test_the_class_of_an_owner_is_its_first_level_that_is_one() -> None:
    assert class_of_owner("PTA@weight@ops@a") == "weight"
    assert class_of_owner("PTA@ops") == class_of_owner("PTA@aten") == "aten"
    assert class_of_owner("CANN@APP") == "APP"
    assert class_of_owner("PTA") == class_of_owner("") == "unknown"


def test_an_activation_that_outlives_two_more_backwards_may_be_a_leak() -> None:
    rows = [
        row(1, "PHASE", "GRAD_ON"), *OPERATOR,
        *(row(time, "PHASE", "BACKWARD_START") for time in (50, 60, 70)),
        row(75, "OWNER", "DETAIL_1", "weight", 192),
    ]  # fmt: skip
    assert classes(rows, (15, NEVER, 1), (15, 65, 1), (15, NEVER, 1), (15, 75, 1)) == [
        "activation_or_leak", "activation", "weight", "activation_or_leak",
    ]  # fmt: skip


def test_the_doubt_is_a_level_behind_the_label_that_scripts_know() -> None:
    assert class_of_owner("PTA@activation@or_leak@aten@mine") == "activation_or_leak"
    assert class_of_owner("PTA@activation@mine@or_leak") == "activation"


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
