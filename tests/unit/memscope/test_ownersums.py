"""Bytes by owner at steps and at the peak: against a sum over all blocks, and what is bounded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.memscope import ownersums
from mem_parser.memscope.blockclasses import class_of_owner
from mem_parser.memscope.decompose import decomposed
from mem_parser.memscope.form import MALLOC
from mem_parser.memscope.ownersums import (
    Owner,
    PoolOwners,
    operators_at,
    owners_of,
    with_fewer_owners,
)
from memscope_dumps import Story

OWNERS = ("", "PTA@weight@ops", "PTA@weight", "PTA@ops", "PTA@cache", "PTA@cache@layer")
actions = st.lists(
    st.one_of(
        st.tuples(st.just("malloc"), st.integers(0, len(OWNERS) - 1), st.integers(0, 999)),
        st.tuples(st.just("free"), st.integers(0, 99), st.just(0)),
        st.tuples(st.just("step"), st.just(0), st.just(0)),
    ),
    min_size=1,
    max_size=40,
)
Live = dict[int, tuple[str, int]]


def told(moves: list[tuple[str, int, int]]) -> tuple[Story, list[Live], list[int]]:
    """A dump, what lived behind each of its rows, and the rows at which steps end."""
    story, live, states, steps = Story(), {}, [], []
    for number, (what, k, size) in enumerate(moves, 1):
        if what == "malloc":
            extra = {"owner": OWNERS[k]} if OWNERS[k] else {}
            story.malloc(0x1000 * number, size, "PTA", number, **extra)
            live[number] = (OWNERS[k], size)
        elif what == "free" and live:
            gone = sorted(live)[k % len(live)]
            story.free(0x1000 * gone, live.pop(gone)[1], "PTA", gone)
        else:
            steps.append(story.add("SYSTEM", "STEP", str(len(steps) + 1), device="N/A"))
        states.append(dict(live))
    return story, states, steps


def by_owner(live: Live) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for owner, size in live.values():
        held = found.get(owner, (0, 0))
        found[owner] = held[0] + size, held[1] + 1
    return found


def row_of(pool: PoolOwners, held: ownersums.Held, k: int) -> dict[str, tuple[int, int]]:
    rows = zip(pool.owners, held.bytes[k].tolist(), held.blocks[k].tolist(), strict=True)
    return {owner.name: (size, blocks) for owner, size, blocks in rows if size or blocks}


@given(actions)
def test_owners_are_what_a_sum_over_all_blocks_gives(
    tmp_path: Path, moves: list[tuple[str, int, int]]
) -> None:
    story, states, steps = told(moves)
    rows = story.read(tmp_path)
    pools = owners_of(rows)
    assert [pool.pool for pool in pools] == (["PTA"] if any(states) else [])
    for pool in pools:
        assert pool.owners == [Owner(o.name, class_of_owner(o.name), "", 1) for o in pool.owners]
        totals = [sum(size for _, size in live.values()) for live in states]
        assert pool.peak_bytes == max(totals)
        if pool.top_row:
            assert row_of(pool, pool.top, 0) == by_owner(states[pool.top_row - 1])
        if not steps:
            assert not pool.is_steps
            assert row_of(pool, pool.ends, -1) == by_owner(states[-1])
            assert int(pool.peaks.bytes.sum(axis=1).max()) == max(totals)
            continue
        assert pool.names == [str(k + 1) for k in range(len(steps))]
        begin = 0
        for k, end in enumerate(steps):
            assert row_of(pool, pool.ends, k) == by_owner(states[end - 1])
            highest = max(totals[max(begin - 1, 0) : end] + ([0] if not begin else []))
            assert int(pool.peaks.bytes[k].sum()) == highest
            begin = end


def test_classes_of_owners_add_up_to_the_classes_of_the_text(tmp_path: Path) -> None:
    moves = [("malloc", k % len(OWNERS), 10 * k) for k in range(30)]
    moves[10:10] = [("step", 0, 0)]
    moves += [("free", 3, 0)] * 12 + [("step", 0, 0)]
    rows = told(moves)[0].read(tmp_path)
    [pool], [text] = owners_of(rows), decomposed(rows)
    assert pool.classes == text.sums.names == ("weight", "cache", "aten", "unknown")
    for k, step in enumerate(text.sums.steps):
        for held, moment in ((pool.ends, step.end), (pool.peaks, step.peak)):
            sums = [
                sum(
                    size
                    for owner, size in zip(pool.owners, held.bytes[k].tolist(), strict=True)
                    if owner.owner_class == name
                )
                for name in pool.classes
            ]
            assert sums == moment.bytes.tolist()
    assert pool.peak_rows.tolist() == [step.peak.at for step in text.sums.steps]


def test_blocks_of_an_owner_are_told_apart_by_their_operators(tmp_path: Path) -> None:
    story = Story()
    for k, operator in enumerate(("aten.mm", "aten.add", "aten.mm", "")):
        if operator:
            story.start(operator)
        story.malloc(0x1000 * (k + 1), 8 << k, "PTA", k, owner="PTA@weight")
        if operator:
            story.end(operator)
    [pool] = owners_of(story.read(tmp_path))
    assert pool.owners == [
        Owner("PTA@weight", "weight", operator, 1) for operator in ("", "aten.mm", "aten.add")
    ]
    assert pool.top.bytes.tolist() == [[64, 40, 16]]
    assert pool.top.blocks.tolist() == [[1, 2, 1]]


def test_times_of_steps_are_those_of_their_rows(tmp_path: Path) -> None:
    story, _, steps = told([("malloc", 0, 5), ("step", 0, 0), ("malloc", 0, 5), ("step", 0, 0)])
    [pool] = owners_of(story.read(tmp_path))
    assert steps == [2, 4]
    # A row is 1000 ns behind the one before.
    assert pool.begins_ns.tolist() == [0, 1000]
    assert pool.ends_ns.tolist() == [1000, 3000]
    assert (pool.peaks_ns.tolist(), pool.top_ns) == ([0, 2000], 2000)


def test_a_dump_without_steps_has_parts_of_its_time(tmp_path: Path) -> None:
    story = Story()
    for k in range(1, 400):
        story.malloc(0x1000 * k, 8, "PTA", k)
    [pool] = owners_of(story.read(tmp_path))
    assert (pool.is_steps, len(pool.names)) == (False, ownersums.PARTS)
    assert int(pool.ends.bytes[-1].sum()) == pool.peak_bytes == 8 * 399
    assert np.all(np.diff(pool.ends.bytes.sum(axis=1)) > 0)
    assert pool.ends_ns[-1] == 398_000


def test_of_many_steps_the_highest_of_each_group_stay(tmp_path: Path) -> None:
    story = Story()
    for k in range(1, 101):
        story.malloc(0x1000, 1000 if k == 37 else k, "PTA", k)
        story.free(0x1000, 1000 if k == 37 else k, "PTA", k)
        story.add("SYSTEM", "STEP", str(k), device="N/A")
    rows = story.read(tmp_path)
    [pool] = owners_of(rows, most_steps=10)
    assert pool.names == ["10", "20", "30", "37", *(str(k) for k in range(50, 101, 10))]
    assert (pool.left_out, pool.peak_bytes) == (90, 1000)
    [pool] = owners_of(rows, last_steps=3)
    assert (pool.names, pool.left_out) == (["98", "99", "100"], 0)


def many_owners(tmp_path: Path, classes: int, each: int) -> PoolOwners:
    story = Story()
    for k in range(classes * each):
        owner = f"PTA@c{k % classes:03}@o{k}"
        story.malloc(0x1000 * (k + 1), k + 1, "PTA", k + 1, owner=owner)
    story.add("SYSTEM", "STEP", "1", device="N/A")
    [pool] = owners_of(story.read(tmp_path))
    return pool


def test_of_many_owners_the_largest_stay_and_nothing_is_lost(tmp_path: Path) -> None:
    pool = many_owners(tmp_path, 4, 200)
    assert len(pool.owners) <= ownersums.MOST_OWNERS
    assert sum(owner.joined for owner in pool.owners) == 800
    assert pool.peak_bytes == int(pool.ends.bytes.sum()) == 800 * 801 // 2
    assert int(pool.top.blocks.sum()) == 800
    alone = {owner.name for owner in pool.owners if owner.joined == 1}
    assert alone == {f"PTA@c{k % 4:03}@o{k}" for k in range(800 - len(alone), 800)}

    fewer = with_fewer_owners(pool, 10)
    assert len(fewer.owners) <= 10
    assert fewer.classes == pool.classes
    assert sum(owner.joined for owner in fewer.owners) == 800
    for name in ("ends", "peaks", "top"):
        before, after = getattr(pool, name), getattr(fewer, name)
        assert int(after.bytes.sum()) == int(before.bytes.sum())
        assert int(after.blocks.sum()) == int(before.blocks.sum())
    assert [owner.joined for owner in with_fewer_owners(pool, 0).owners] == [200] * 4


def test_of_many_classes_the_smallest_are_one(tmp_path: Path) -> None:
    pool = many_owners(tmp_path, 300, 2)
    assert len(pool.classes) <= ownersums.MOST_CLASSES
    assert pool.classes[-1] == ownersums.SMALLER
    assert "c299" in pool.classes
    assert "c000" not in pool.classes
    assert pool.peak_bytes == 600 * 601 // 2


@pytest.mark.parametrize("moves", [[], [("step", 0, 0)]])
def test_a_dump_without_blocks_has_no_pools(
    tmp_path: Path, moves: list[tuple[str, int, int]]
) -> None:
    assert owners_of(told(moves)[0].read(tmp_path)) == []


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
