"""Lifetimes, threads that free, temporary blocks: against a ledger of dictionaries."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import DOMAINS, Ledger, Row, log_of, programs
from mem_parser.errors import UsageProblem
from mem_parser.memlog.lifesums import LifeSums, bucket_of, sum_lives
from mem_parser.memlog.lifetimes import Lifetimes, lifetimes
from mem_parser.memlog.livesites import Sites
from mem_parser.memlog.timeline import stretch_of
from memlogs import UNIT

cuts = st.lists(st.integers(0, 60 * UNIT), max_size=3)


class Told:
    """The lives of one domain, event by event."""

    def __init__(self, rows: list[Row], domain: int) -> None:
        rows = [r for r in rows if r["domain"] == domain and r["kind"] < 5]
        live: dict[int, tuple[Row, int]] = {}
        self.lived: Counter[tuple[int, int, bool]] = Counter()
        self.between: Counter[tuple[int, int]] = Counter()
        self.following = 0
        births: Counter[int] = Counter()
        last: Row | None = None
        for k, row in enumerate(rows):
            if row["kind"] == 1:
                live[row["address"]] = (row, births[row["thread"]])
                births[row["thread"]] += 1
                last = row
            elif row["kind"] in (2, 3):
                later = [r for r in rows[k + 1 :] if r["address"] == row["address"]]
                if later and later[0]["kind"] == 4:
                    continue
                birth, ordinal = live.pop(row["address"])
                self.lived[birth["stack"], row["time_ns"] - birth["time_ns"], True] += 1
                if birth["thread"] == row["thread"]:
                    others = births[row["thread"]] - ordinal - 1
                    self.between[others, row["thread"]] += 1
                alike = ("stack", "size_bytes")
                self.following += last is not None and all(last[n] == row[n] for n in alike)
        self.alive = len(live)


def without_late_backs(rows: list[Row]) -> list[Row]:
    """Without a BACK that takes back a DEATH of the host's memory: only devices refuse that."""
    kept, dead = [], set()
    for row in rows:
        key = (row["domain"], row["address"])
        if row["kind"] == 2 and row["domain"] == 0:
            dead.add(key)
        elif (row["kind"] == 4 and key in dead) or (row["kind"] in (2, 3) and key in dead):
            continue
        elif row["kind"] == 1:
            dead.discard(key)
        kept.append(row)
    result, live = [], set()
    for row in kept:
        key = (row["domain"], row["address"])
        if row["kind"] in (2, 3) and key not in live:
            continue
        if row["kind"] in (1, 4):
            live.add(key)
        elif row["kind"] in (2, 3):
            live.discard(key)
        result.append(row)
    return result


def check(told: Told, found: Lifetimes) -> None:
    buckets: Counter[int] = Counter()
    for (_, lived, _), count in told.lived.items():
        buckets[int(bucket_of_one(lived))] += count
    group = found.sums.exact
    seen: Counter[int] = Counter()
    for bucket, blocks in zip(group.number.tolist(), group.blocks.tolist(), strict=True):
        seen[bucket] += blocks
    assert seen == buckets
    assert not len(found.sums.about.site)
    for most in (0, 1, 5):
        for thread in (None, 0, 1, 2):
            expected = sum(
                n for (others, of), n in told.between.items()
                if others <= most and thread in (None, of)
            )  # fmt: skip
            assert found.temporary(most, thread=thread).blocks.sum() == expected
    assert found.following().blocks.sum() == told.following
    assert open_blocks(found) == (told.alive, 0)
    freed = sum(told.lived.values())
    assert found.allocated().blocks.sum() == freed + told.alive


def open_blocks(found: Lifetimes) -> tuple[int, int]:
    return int(found.sums.alive.blocks.sum()), int(found.sums.unended.blocks.sum())


def bucket_of_one(lived: int) -> int:
    import numpy as np

    return int(bucket_of(np.array([lived]))[0])


@given(programs(), cuts, st.sampled_from([1, 3, 1 << 20]))
def test_lives_are_those_of_the_ledger(rows: list[Row], at: list[int], batch: int) -> None:
    rows = without_late_backs(rows)
    with pytest.MonkeyPatch.context() as patch, log_of(Ledger(rows), at, [], per_block=3) as run:
        patch.setattr("mem_parser.memlog.matching._BATCH_EVENTS", batch)
        for domain in range(len(DOMAINS)):
            check(Told(rows, domain), lifetimes(run, domain=domain))


def same(one: Sites, other: Sites) -> bool:
    return all(a.tolist() == b.tolist() for a, b in zip(one, other, strict=True))


def test_processes_that_divide_the_addresses_find_the_same() -> None:
    rows: list[Row] = []
    for k in range(300):
        block = {"address": 16 * (k % 37), "size_bytes": k % 37, "stack": k % 3, "domain": 0}
        times = {"birth_ns": 100 * k // UNIT * UNIT, "thread": k % 2}
        if k >= 37:
            rows.append(block | times | {"time_ns": 100 * k, "kind": 2})
        rows.append(block | times | {"time_ns": 100 * k + 1, "birth_ns": 100 * k + 1, "kind": 1})
    with log_of(Ledger(rows), [9_000], []) as run:
        stretch = stretch_of(run, -1, run.end_ns)
        alone, together = sum_lives(stretch, 0, 1), sum_lives(stretch, 0, 2)
    for name in LifeSums._fields:
        one, other = getattr(alone, name), getattr(together, name)
        assert same(one.by_site(), other.by_site()), name
        assert sorted(one.number.tolist()) == sorted(other.number.tolist())


def row(time_ns: int, kind: int, **changes: int) -> Row:
    usual = {"address": 16, "size_bytes": 8, "stack": 0, "domain": 0, "thread": 0, "birth_ns": 0}
    if kind == 1:
        usual["birth_ns"] = time_ns
    return usual | {"time_ns": time_ns, "kind": kind} | changes


def test_a_block_without_its_birth_has_the_time_of_birth_that_its_death_tells() -> None:
    rows = [row(50 * UNIT, 2, birth_ns=2 * UNIT, thread=1)]
    with log_of(Ledger(rows), [], []) as run:
        found = lifetimes(run)
    assert found.sums.exact.blocks.sum() == 0
    assert found.sums.about.number.tolist() == [bucket_of_one(48 * UNIT)]
    assert found.temporary(64).blocks.sum() == 0


def test_a_birth_whose_death_is_missing_is_counted_apart() -> None:
    rows = [
        row(5, 1), row(90, 1, size_bytes=9), row(95, 2, size_bytes=9),
        row(200, 1), row(3 * UNIT, 2, birth_ns=2 * UNIT), row(4 * UNIT, 1),
    ]  # fmt: skip
    with log_of(Ledger(rows), [], []) as run:
        found = lifetimes(run)
    assert open_blocks(found) == (1, 2)
    assert found.sums.exact.number.tolist() == [bucket_of_one(5)]
    assert found.sums.about.number.tolist() == [bucket_of_one(UNIT)]


def test_a_refused_realloc_does_not_end_a_life_even_in_another_batch() -> None:
    rows = [row(5, 1), row(10, 3), row(12, 4), row(20, 2)]
    with pytest.MonkeyPatch.context() as patch, log_of(Ledger(rows), [], [], per_block=1) as run:
        patch.setattr("mem_parser.memlog.matching._BATCH_EVENTS", 1)
        found = lifetimes(run)
    assert found.sums.exact.number.tolist() == [bucket_of_one(15)]


MEMRAY = """
import json, sys
from functools import partial
import memray
from memray._test import MemoryAllocator

steps = json.loads(sys.argv[1])
blocks = [MemoryAllocator() for _ in steps]
calls = [partial(blocks[b].valloc, 20000 + b) if born else blocks[b].free for born, b in steps]
with memray.Tracker(sys.argv[2]):
    for call in calls:
        call()
reader = memray.FileReader(sys.argv[2])
found = [
    sum(r.n_allocations for r in reader.get_temporary_allocation_records(threshold=most)
        if 20000 <= r.size // r.n_allocations < 20000 + len(steps))
    for most in range(5)
]
print(json.dumps(found))
"""


def test_temporary_blocks_are_as_many_as_memray_finds(tmp_path: Path) -> None:
    pytest.importorskip("memray")
    rng, live, steps = random.Random(3), [], []
    for block in range(120):
        live.append(block)
        steps.append((True, block))
        while live and rng.random() < 0.55:
            steps.append((False, live.pop(-1 if rng.random() < 0.6 else rng.randrange(len(live)))))
    done = subprocess.run(
        [sys.executable, "-c", MEMRAY, json.dumps(steps), str(tmp_path / "memray.bin")],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [
        row(k + 1, 1 if born else 2, address=16 * block, size_bytes=20000 + block)
        for k, (born, block) in enumerate(steps)
    ]
    with log_of(Ledger(rows), [], []) as run:
        found = lifetimes(run)
    ours = [int(found.temporary(most).blocks.sum()) for most in range(5)]
    assert ours == json.loads(done.stdout)
    assert 0 < ours[0] < ours[1] < ours[4]


def test_temporary_blocks_of_a_sampled_domain_are_a_bound() -> None:
    rows = [row(5, 1, size_bytes=64), row(9, 2, size_bytes=64)]
    with log_of(Ledger(rows), [], [], rates=(1024.0, 1.0)) as run:
        found, exact = lifetimes(run), lifetimes(run, domain=1)
    assert found.temporary_is_bound
    assert not exact.temporary_is_bound
    with pytest.raises(UsageProblem):
        found.temporary(65)
    with log_of(Ledger(rows), [], []) as run, pytest.raises(UsageProblem):
        lifetimes(run, domain=2)


@pytest.mark.parametrize(
    ("said", "is_exact"), [(10, True), (9, True), (5, True), (4, False), (11, False)]
)
def test_a_death_may_give_its_birth_a_little_too_early(said: int, is_exact: bool) -> None:
    rows = [row(10 * UNIT + 7, 1), row(30 * UNIT, 2, birth_ns=said * UNIT)]
    with log_of(Ledger(rows), [], []) as run:
        found = lifetimes(run)
    assert found.sums.exact.blocks.sum() == is_exact
    assert found.sums.about.blocks.sum() == (not is_exact)
