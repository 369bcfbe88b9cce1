"""Functions of a running process, moment by moment: against the reports of the same profiles, and
against what simulated programs really did.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.diff import Change, diff_profiles
from mem_parser.errors import UsageProblem
from mem_parser.filters import Filters
from mem_parser.live.totals import Order, Row, rows, totals
from mem_parser.model import Count, Profile, SiteTable, StackTable, Thread, ThreadBlocks, Unit
from mem_parser.names import FrameRule
from mem_parser.reports.aggregate import rows_of, sum_stacks
from mem_parser.startframes import START_FUNCTIONS
from mem_parser.symbols.table import Function, Location, Role, Symbols
from simulated import Program, leak, lru

PLAIN = Filters(rule=FrameRule.NONE)


def rate_of(row: Row) -> float:
    assert row.rate is not None
    return row.rate.value


FUNCTIONS = [
    Function("main", "main", "/opt/app", "main.c"),
    Function("load", "load", "/opt/app", "load.c"),
    Function("recurse", "recurse", "/opt/app", "load.c"),
    Function("std::vector::push", "push", "/opt/app", "vector", role=Role.LIBRARY),
    Function("malloc", "malloc", "/lib/libc.so"),
    Function("load", "load", "/opt/plugin.so", "plugin.c"),
]
LOCATIONS = [Location(k, FUNCTIONS[k].file, line) for k in range(6) for line in (1, 2)]

Counts = tuple[list[int], int, int, int]
stacks_strategy = st.lists(
    st.tuples(
        st.lists(st.integers(0, len(LOCATIONS) - 1), min_size=1, max_size=6),
        st.integers(1, 5000),
        st.integers(0, 9),
        st.integers(0, 9),
    ),
    min_size=1,
    max_size=12,
)


def made(counts: list[Counts], t_s: float = 1.0, rate: int = 1024) -> tuple[Profile, Symbols]:
    """A profile of stacks of locations, one size and its blocks in use and freed for each."""
    depth = np.array([len(stack) for stack, *_ in counts])
    offsets = np.concatenate(([0], np.cumsum(depth))).astype(np.int64)
    spelled = np.array([x for stack, *_ in counts for x in stack], dtype=np.int32)
    n = len(counts)
    frames = np.arange(len(spelled), dtype=np.uint64) + np.uint64(0x1000)
    live = np.array([c[2] for c in counts])
    born = live + np.array([c[3] for c in counts])
    size = np.array([c[1] for c in counts])
    sites = SiteTable(
        np.arange(n), np.zeros(n, np.int32), live, live * size, born, born * size
    )  # fmt: skip
    profile = Profile(
        "mem_profiler",
        float(rate),
        StackTable(offsets, frames, np.zeros(n, np.uint32), np.zeros(n, np.uint32), True),
        sites,
    )
    capture = profile.capture
    capture.pid, capture.host, capture.started, capture.capture = 1, "h", 5.0, 1
    capture.duration_s = t_s
    return profile, Symbols(FUNCTIONS, LOCATIONS, offsets, spelled)


def grown(counts: list[Counts], more: list[tuple[int, int]]) -> list[Counts]:
    """The same stacks later: so many blocks more were born, and as many freed as there were."""
    later = []
    for (stack, size, live, freed), (born, most) in zip(counts, more, strict=False):
        died = min(most, live)
        later.append((stack, size, live + born - died, freed + died))
    return [*later, *counts[len(later) :]]


def by_name(found: list[Row]) -> dict[str, Row]:
    return {row.name: row for row in found}


@given(stacks_strategy, st.sampled_from([FrameRule.NONE, FrameRule.OWN, FrameRule.PROGRAM]))
def test_rows_are_those_of_the_table_of_the_same_profile(
    counts: list[Counts], rule: FrameRule
) -> None:
    profile, symbols = made(counts)
    found = by_name(list(rows(totals(profile, symbols, Filters(rule=rule)), None, None, Order.OWN)))
    expected = {r.name: r for r in rows_of(sum_stacks(profile, symbols, rule=rule))}
    assert set(found) == set(expected)
    for name, row in expected.items():
        for mine, theirs in ((found[name].own, row.flat), (found[name].total, row.cum)):
            assert mine.samples == theirs.samples
            assert mine.value == pytest.approx(theirs.value)
            assert mine.std_error == pytest.approx(theirs.std_error)
            assert mine.unseen == theirs.unseen


@given(
    stacks_strategy,
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9)), max_size=12),
    st.sampled_from([1, 1024, 100_000]),
)
def test_growth_is_that_of_diff_between_snapshots_of_one_capture(
    counts: list[Counts], more: list[tuple[int, int]], rate: int
) -> None:
    # One function per name: `diff` tells the same name in two files apart.
    counts = [([k % 10 for k in stack], *rest) for stack, *rest in counts]
    old, new = made(counts, 1.0, rate), made(grown(counts, more), 2.0, rate)
    at = Filters(rule=FrameRule.OWN)
    found = by_name(list(rows(totals(*new, at), None, totals(*old, at), Order.GROWTH)))
    diff = diff_profiles(old, new, rule=FrameRule.OWN)
    for row in diff.rows:
        mine = found[row.frames[0].function]
        assert mine.growth is not None
        assert mine.growth.value == pytest.approx(row.delta.value)
        assert mine.growth.std_error == pytest.approx(row.delta.std_error)
        assert mine.growth.interval95 == pytest.approx(row.delta.interval95)
        assert mine.growth_stands == (row.change is not Change.NOISE)


def test_blocks_that_live_at_both_moments_add_no_error_to_growth() -> None:
    big = ([0], 100, 1000, 0)
    old, new = made([big]), made([([0], 100, 1010, 0)], 2.0)
    (row,) = rows(totals(*new, PLAIN), None, totals(*old, PLAIN), Order.OWN)
    assert row.growth is not None
    assert row.growth.std_error < row.own.std_error / 5
    assert row.growth_stands
    # Of one thread nobody knows which blocks are the same: the error is that of both moments.
    for profile, _ in (old, new):
        n = profile.sites.inuse_blocks
        profile.thread_blocks = ThreadBlocks(np.array([0]), np.array([3]), n, n * 100)
        profile.threads = [Thread(3, 33, "io")]
    now, then = (totals(*side, PLAIN, thread=3) for side in (new, old))
    (alone,) = rows(now, None, then, Order.OWN)
    assert alone.growth is not None
    assert alone.growth.value == pytest.approx(row.growth.value)
    assert alone.growth.std_error > row.own.std_error
    assert not alone.growth_stands


def test_a_thread_has_its_own_blocks_in_use_and_nobody_knows_its_rate() -> None:
    profile, symbols = made([([0], 2000, 5, 0), ([2, 0], 3000, 4, 7)])
    profile.threads = [Thread(1, 11, "a"), Thread(2, 22, "b")]
    profile.thread_blocks = ThreadBlocks(
        np.array([0, 1, 1]), np.array([1, 1, 2]), np.array([5, 1, 3]),
        np.array([10_000, 3000, 9000]),
    )  # fmt: skip
    whole = totals(profile, symbols, PLAIN)
    parts = [totals(profile, symbols, PLAIN, thread=k) for k in (1, 2)]
    first = len(START_FUNCTIONS)
    samples = [p.own_samples.tolist()[first : first + 2] for p in (whole, *parts)]
    assert samples == [[5, 4], [5, 1], [0, 3]]
    assert (parts[0].own + parts[1].own) == pytest.approx(whole.own)
    assert all(np.isnan(p.allocated).all() for p in parts)
    later = dataclasses.replace(
        profile, capture=dataclasses.replace(profile.capture, duration_s=2.0)
    )
    found = rows(totals(later, symbols, PLAIN, thread=1), parts[0], parts[0], Order.OWN)
    assert [row.rate for row in found] == [None, None]
    assert [row.growth and row.growth.value for row in found] == [0, 0]
    # A thread that allocated nothing that lives, or that nobody knows, has no rows.
    assert len(rows(totals(profile, symbols, PLAIN, thread=9), None, None, Order.OWN)) == 0


def test_a_rate_is_what_was_allocated_in_between_with_the_error_of_its_samples() -> None:
    counts = [([2, 0], 512, 3, 100), ([4, 0], 512, 50, 0)]
    old, new = made(counts, 10.0), made(grown(counts, [(40, 3)]), 12.0)
    found = by_name(list(rows(totals(*new, PLAIN), totals(*old, PLAIN), None, Order.OWN)))
    p = 1 - math.exp(-512 / 1024)
    rate = found["main"].rate
    assert rate is not None
    assert rate == found["load"].rate
    assert rate_of(found["main"]) == pytest.approx(40 * 512 / p / 2)
    assert rate.std_error == pytest.approx(math.sqrt(40 * (1 - p)) / p * 512 / 2)
    assert (rate.samples, rate.unseen.weight) == (40, 1024 / 2)
    assert rate_of(found["recurse"]) == 0
    assert found["recurse"].growth is None


def test_the_interval_of_a_rate_holds_the_true_one() -> None:
    random = np.random.default_rng(7)
    inside = 0
    for _ in range(100):
        program = Program([lru(random, 400, 0.1, "churn"), leak(random, 5, "slow", share=0.5)])
        blocks = program.sampled(random)
        old, new = program.snapshot(blocks, 20), program.snapshot(blocks, 30)
        found = by_name(list(rows(totals(*new, PLAIN), totals(*old, PLAIN), None, Order.OWN)))
        assert found["churn"].rate is not None
        low, high = found["churn"].rate.interval95
        born = program.sources[0].born
        true = ((born > 20) & (born <= 30)).sum() * 4096 / 10
        inside += low <= true <= high
    assert inside >= 88


def test_only_what_grew_is_said_to_grow() -> None:
    random = np.random.default_rng(11)
    wrong = caught = 0
    for _ in range(20):
        still = [lru(random, 200, 5, f"cache{k}") for k in range(20)]
        program = Program([*still, leak(random, 60, "leak")])
        blocks = program.sampled(random)
        old, new = program.snapshot(blocks, 30), program.snapshot(blocks, 60)
        found = rows(totals(*new, PLAIN), None, totals(*old, PLAIN), Order.GROWTH)
        standing = [row.name for row in found if row.growth_stands]
        caught += "leak" in standing and found[0].name == "leak"
        wrong += len(set(standing) - {"leak"})
    assert caught == 20
    assert wrong <= 5


def test_a_function_that_became_a_wrapper_did_not_shrink() -> None:
    counts = [([2, 0], 3000, 9, 0), ([2, 1], 3000, 9, 0)]
    old, new = made(counts), made(counts, 2.0)
    functions = list(FUNCTIONS)
    functions[1] = dataclasses.replace(FUNCTIONS[1], role=Role.WRAPPER)
    marked = dataclasses.replace(new[1], functions=functions)
    locations = [k * 2 for k in (1, 0)]
    assert FUNCTIONS[LOCATIONS[locations[0]].function].name == "load"
    then = totals(*old, Filters())
    assert then.own_samples[then.names.index("load")] == 18
    found = by_name(list(rows(totals(new[0], marked, Filters()), then, then, Order.GROWTH)))
    assert found["main"].own.samples == 18
    assert [(row.growth and row.growth.value, row.growth_stands) for row in found.values()] == [
        (0, False)
    ] * len(found)


def test_other_filters_than_at_the_mark_are_applied_to_the_mark_too() -> None:
    counts = [([2, 0], 3000, 9, 0), ([4, 0], 3000, 50, 0)]
    old, new = made(counts), made(grown(counts, [(0, 0), (40, 0)]), 2.0)
    mark = totals(*old, PLAIN)
    focused = Filters(rule=FrameRule.NONE, focus=("^load$",))
    (load, main) = rows(totals(*new, focused), mark, mark, Order.GROWTH)
    assert (load.name, main.name) == ("load", "main")
    assert main.total_growth is not None
    assert main.total_growth.value == 0
    assert rate_of(main) == 0


def test_another_capture_has_nothing_in_common_with_this_one() -> None:
    old, new = made([([0], 2000, 9, 0)]), made([([0], 2000, 20, 0)], 2.0)
    new[0].capture.capture = 2
    then = totals(*old, PLAIN)
    (row,) = rows(totals(*new, PLAIN), then, then, Order.OWN)
    assert (row.rate, row.growth, row.growth_stands) == (None, None, False)


def test_a_moment_has_no_rate_against_itself() -> None:
    side = made([([0], 2000, 9, 0)])
    now = totals(*side, PLAIN)
    (row,) = rows(now, now, None, Order.OWN)
    assert row.rate is None


def test_what_is_gone_since_the_mark_has_a_row_and_is_behind_the_others() -> None:
    counts = [([2, 0], 3000, 60, 0), ([5, 0], 3000, 9, 0), ([7, 0], 3000, 0, 0)]
    old = made(counts)
    new = made(grown(counts, [(0, 60), (1, 0), (50, 0)]), 2.0)
    new[0].sites.inuse_blocks[0] = new[0].sites.inuse_bytes[0] = 0
    new[0].sites.alloc_blocks[0], new[0].sites.alloc_bytes[0] = 60, 180_000
    found = rows(totals(*new, PLAIN), None, totals(*old, PLAIN), Order.GROWTH)
    names = [row.name for row in found]
    assert names[0] == "std::vector::push"
    assert names[-1] == "load"
    assert [row.growth_stands for row in found if row.name in ("load", names[0])] == [True, True]


def test_what_is_freed_as_soon_as_it_is_allocated_has_a_row_with_its_rate() -> None:
    old = made([([2, 0], 3000, 0, 5), ([5, 0], 3000, 9, 0)])
    new = made([([2, 0], 3000, 0, 95), ([5, 0], 3000, 9, 0)], 2.0)
    found = by_name(list(rows(totals(*new, PLAIN), totals(*old, PLAIN), None, Order.OWN)))
    assert found["load"].own.samples == 0
    assert rate_of(found["load"]) > 90 * 3000


@pytest.mark.parametrize("order", list(Order))
def test_rows_are_in_the_order_asked_for(order: Order) -> None:
    random = np.random.default_rng(3)
    counts: list[Counts] = [
        ([2 * k % 12, 0], int(random.integers(1, 9000)), int(random.integers(0, 20)), 0)
        for k in range(12)
    ]
    found = rows(totals(*made(counts), PLAIN), None, None, order)
    key = {
        Order.OWN: lambda row: row.own.value, Order.TOTAL: lambda row: row.total.value,
        Order.BLOCKS: lambda row: row.blocks, Order.GROWTH: lambda row: row.own.value,
    }[order]  # fmt: skip
    values = [key(row) for row in found]
    assert values == sorted(values, reverse=True)
    assert found[:2] == [found[0], found[1]]
    assert found.names == [row.name for row in found]


def test_functions_of_one_name_are_one_row_of_the_first_ones_file() -> None:
    found = by_name(
        list(rows(totals(*made([([2], 2000, 3, 0), ([10], 2000, 4, 0)]), PLAIN), None, None,
                  Order.OWN))
    )  # fmt: skip
    assert found["load"].own.samples == 7
    assert (found["load"].module, found["load"].file) == ("/opt/app", "load.c")


def test_hidden_frames_give_their_blocks_to_the_next_one_and_none_to_nothing() -> None:
    profile, symbols = made([([2, 0], 2000, 3, 0), ([2], 2000, 4, 0)])
    now = totals(profile, symbols, Filters(rule=FrameRule.NONE, hide=("load",)))
    (row,) = rows(now, None, None, Order.OWN)
    assert (row.name, row.own.samples) == ("main", 3)


def test_a_profile_without_errors_has_none_and_every_change_stands() -> None:
    old, new = made([([0], 2000, 9, 0)]), made([([0], 2000, 10, 0)], 2.0)
    for profile, _ in (old, new):
        profile.exact_samples = False
    (row,) = rows(totals(*new, PLAIN), None, totals(*old, PLAIN), Order.OWN)
    assert math.isnan(row.own.std_error)
    assert row.growth_stands


def test_the_sum_is_that_of_the_stacks_that_are_shown() -> None:
    profile, symbols = made([([2, 0], 2000, 3, 0), ([4, 0], 2000, 4, 0)])
    whole = totals(profile, symbols, PLAIN).sum
    true = profile.total(Count.INUSE, Unit.SPACE)
    assert (whole.samples, whole.value) == (7, pytest.approx(true.value))
    assert totals(profile, symbols, Filters(focus=("^load$",))).sum.samples == 3


def test_a_domain_that_the_profile_lacks_is_refused() -> None:
    with pytest.raises(UsageProblem, match="no such domain"):
        totals(*made([([0], 2000, 9, 0)]), Filters(domains=("npu:0",)))


def test_an_empty_profile_has_no_rows() -> None:
    profile, symbols = made([([0], 2000, 0, 0)])
    empty = profile.where(np.zeros(1, dtype=np.bool_))
    then = totals(empty, symbols, PLAIN)
    assert len(rows(then, then, then, Order.GROWTH)) == 0


@given(stacks_strategy, st.sets(st.sampled_from([f.name for f in FUNCTIONS])))
def test_functions_together_have_each_stack_once(counts: list[Counts], chosen: set[str]) -> None:
    profile, symbols = made(counts, rate=1)
    now = totals(profile, symbols, PLAIN)
    own, total = now.together(np.array([name in chosen for name in now.names], dtype=np.bool_))
    spelled = [[FUNCTIONS[LOCATIONS[x].function].name for x in stack] for stack, *_ in counts]
    held = [size * live for _, size, live, _ in counts]
    firsts = sum(b for names, b in zip(spelled, held, strict=True) if names[0] in chosen)
    on = sum(b for names, b in zip(spelled, held, strict=True) if chosen & set(names))
    assert (own.value, total.value) == (firsts, on)


def test_functions_together_leave_out_what_the_filters_leave_out() -> None:
    profile, symbols = made([([0], 100, 3, 0), ([2, 0], 100, 5, 0)], rate=1)
    now = totals(profile, symbols, dataclasses.replace(PLAIN, ignore=("load.c",)))
    every = np.ones(len(now.names), dtype=np.bool_)
    own, total = now.together(every)
    assert own.value == total.value == now.sum.value == 300
