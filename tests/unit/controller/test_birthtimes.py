"""Births in eighths of the time that a capture had, from what sites had allocated at moments."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_segment import FakeSegment
from mem_profiler.profile import birthtimes
from mem_profiler.profile.birthtimes import NS, Allocated, BirthHistory, Division
from mem_profiler.segment import layout
from mem_profiler.segment.file import Control, Segment

KEYS = np.array([3, 5, 8, 13], np.uint64)
RECORD = np.array([0, 1, 1, 2])
"""The second and the third key are of one stack."""
BLOCKS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 79), st.one_of(st.none(), st.integers(0, 40))),
    max_size=60,
)
"""The site, the time of birth, and the time of life of those that were freed."""


def planned(path: Path, seconds: float | None) -> Control:
    """The control page of a capture of that length."""
    fake = FakeSegment()
    fake.begin(seconds=seconds)
    if seconds is not None:
        ends = [int(seconds * NS * k / 8) for k in range(1, 9)]
        fake.control["capture"][1]["bucket_end_ns"] = np.array(ends, np.uint64)
    return Segment.open(fake.save(path), writable=False).control()


def by_bucket(site: np.ndarray, born: np.ndarray) -> np.ndarray:
    """Blocks by record and tenth of the time, as they are."""
    bucket = np.minimum(born // 10, layout.BUCKETS - 1)
    found = np.zeros((3, layout.BUCKETS), np.uint32)
    np.add.at(found, (RECORD[site], bucket), 1)
    return found


@given(blocks=BLOCKS, late=st.lists(st.integers(-2, 2), min_size=7, max_size=7))
def test_births_are_those_of_the_blocks(
    blocks: list[tuple[int, int, int | None]], late: list[int]
) -> None:
    site, born = (np.array([one[k] for one in blocks], np.int64) for k in (0, 1))
    is_live = np.array([one[2] is None or one[1] + one[2] >= 80 for one in blocks], bool)
    live, allocated = by_bucket(site[is_live], born[is_live]), by_bucket(site, born)
    total = allocated.sum(axis=1)

    def division(late: list[int]) -> Division:
        # A site without a block yet has no row.
        counts = [np.bincount(site[born < 10 * k + late[k - 1]], minlength=4) for k in range(1, 8)]
        return Division(
            [
                Allocated(10 * k, KEYS[count > 0], count[count > 0].astype(np.uint64))
                for k, count in enumerate(counts, 1)
            ]
        )

    exact = division([0] * 7)
    assert exact.ends_ns.tolist() == [10, 20, 30, 40, 50, 60, 70, layout.U64_MAX]
    assert np.array_equal(exact.births(KEYS, RECORD, total, live), allocated)
    found = division(late).births(KEYS, RECORD, total, live)
    assert np.array_equal(found.sum(axis=1), total)
    assert (found >= live).all()
    kept = live.sum(axis=1) == total
    assert np.array_equal(found[kept], live[kept])


@given(
    until_s=st.floats(30, 299),
    steps=st.lists(st.floats(0.01, 1 / 16), min_size=5, max_size=20),
)
def test_eighths_end_at_moments_not_long_before(
    tmp_path_factory: pytest.TempPathFactory, until_s: float, steps: list[float]
) -> None:
    control = planned(tmp_path_factory.mktemp("s"), 600)
    history, at_s, k = BirthHistory(), 0.25, 0
    while at_s <= until_s:
        history.add(at_s, KEYS, np.full(4, k, np.uint64))
        k += 1
        at_s *= 1 + steps[k % len(steps)]
    assert len(history._kept) <= 34
    found = history.division(until_s, control)
    assert found is not None
    ends_s = found.ends_ns[:-1] / NS
    eighths = until_s * np.arange(1, 8) / 8
    assert (ends_s <= eighths + 1e-6).all()
    assert (ends_s > eighths - until_s / 10).all()


def test_of_a_capture_that_lasts_or_has_no_end_and_of_the_first_seconds_buckets_are_the_samplers(
    tmp_path: Path,
) -> None:
    history = BirthHistory()
    for tenth in range(1, 3001):
        history.add(tenth / 10, KEYS, np.ones(4, np.uint64))
    control = planned(tmp_path, 600)
    assert history.division(299.9, control) is not None
    assert history.division(300.1, control) is None
    assert history.division(29.9, control) is None
    assert history.division(100, planned(tmp_path, None)) is None
    late = BirthHistory()
    late.add(50, KEYS, np.ones(4, np.uint64))
    assert late.division(100, control) is None  # of which there is no warm-up


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    history = BirthHistory()
    one = Allocated(0, KEYS, KEYS).memory_bytes
    monkeypatch.setattr(birthtimes, "MOST_BYTES", 5 * one)
    for second in range(1, 200):
        history.add(second, KEYS + np.uint64(second), KEYS)
        assert sum(kept.memory_bytes for kept in history._kept) <= 5 * one
    assert history._kept[-1].at_ns == 199 * NS
