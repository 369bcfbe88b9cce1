"""The time buckets of a capture, and how they divide into its parts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.leaks.ages import divide, timeline
from mem_parser.model import Capture

OPEN = [*(float(4**k) for k in range(7)), None]


def capture(ends: list[float | None], duration: float | None) -> Capture:
    return Capture(bucket_end_s=ends, duration_s=duration)


def test_eighths_are_early_and_late_halves_without_the_youngest() -> None:
    line = timeline(capture([float(k) for k in range(1, 9)], 8.0), 8)
    assert line is not None
    assert line.warm_up.tolist() == [True, *[False] * 7]
    assert line.early.tolist() == [False, True, True, True, False, False, False, False]
    assert line.late.tolist() == [*[False] * 4, True, True, True, False]
    assert line.young.tolist() == [*[False] * 7, True]
    assert line.aging.tolist() == [*[True] * 6, False, False]
    assert line.span(line.late) == 3.0


@pytest.mark.parametrize("duration", [0.5, 3.0, 60.0, 4000.0, 1e6])
def test_an_open_end_leaves_empty_buckets_empty(duration: float) -> None:
    line = timeline(capture(OPEN, duration), 8)
    assert line is not None
    assert line.width.sum() == pytest.approx(duration)
    assert (line.width >= 0).all()
    assert not (line.mature | line.young)[line.width == 0].any()


def test_a_capture_that_went_on_has_its_rest_in_the_last_bucket() -> None:
    line = timeline(capture([1.0, 2.0], 10.0), 2)
    assert line is not None and line.end.tolist() == [1.0, 10.0]


@pytest.mark.parametrize(("ends", "duration"), [
    ([1.0, 2.0], None), ([1.0], 2.0), ([], 2.0), ([1.0, 2.0], 1e-4), ([1.0, 2.0], math.inf),
])  # fmt: skip
def test_without_times_there_is_no_timeline(
    ends: list[float | None], duration: float | None
) -> None:
    assert timeline(capture(ends, duration), 2) is None


strange = st.one_of(st.none(), st.floats(), st.integers(-(10**400), 10**400))


@given(st.lists(strange, min_size=8, max_size=8), st.floats(1e-3, 1e9))
def test_whatever_a_file_says_the_parts_cover_the_capture_once(
    ends: list[float | None], duration: float
) -> None:
    line = timeline(capture(ends, duration), 8)
    assert line is not None
    assert (line.start[1:] == line.end[:-1]).all()
    assert (line.start[0], line.end[-1]) == (0.0, duration)
    filled = line.width > 0
    parts = [line.warm_up, line.early, line.late, line.young]
    assert (np.sum(parts, axis=0) == filled).all()
    assert not (line.aging & line.young).any()


@given(st.lists(st.floats(0.01, 100), min_size=3, max_size=12))
def test_early_comes_before_late_and_young_is_the_end(widths: list[float]) -> None:
    end = np.cumsum(widths)
    line = divide(end - widths, end, float(end[-1]))
    if line.early.any() and line.late.any():
        assert line.end[line.early].max() <= line.start[line.late].min()
    if line.young.any():
        assert line.start[line.young].min() >= 0.7 * end[-1] * (1 - 1e-9)
