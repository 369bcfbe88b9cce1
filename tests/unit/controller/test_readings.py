"""A track of readings: which peak is kept, which points of a long series, what is latest."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.model import Reading
from mem_profiler.profile import readings
from mem_profiler.profile.readings import PEAK_GROWTH, Readings, Track


def track_of(values: list[float]) -> Track:
    """A track of readings one second apart, the last of them final; counts are their numbers."""
    track = Track()
    for second, value in enumerate(values):
        reading = Reading(float(second), value, 0.0, 0, None)
        counts: Any = second
        track.add(reading, counts, final=second == len(values) - 1)
    return track


def test_the_peak_moves_only_for_a_noticeable_growth() -> None:
    track = track_of([100, 104, 106, 50, 60])
    assert (track.peak, track.peak_bytes, track.peak_at_s) == (2, 106, 2.0)


def test_the_final_reading_is_the_peak_however_little_higher_it_is() -> None:
    assert track_of([100, 100.5]).peak == 1
    assert track_of([100, 100]).peak == 0


def test_nothing_live_is_no_peak() -> None:
    assert track_of([0, 0]).peak is None


@given(st.lists(st.floats(0, 1e12), min_size=1, max_size=50))
def test_no_reading_is_much_above_the_peak(values: list[float]) -> None:
    track = track_of(values)
    assert max(values) <= track.peak_bytes * PEAK_GROWTH
    assert values[-1] <= track.peak_bytes
    if track.peak is not None:
        assert values[track.peak] == track.peak_bytes  # type: ignore[call-overload]
    assert track.latest is not None and track.latest.estimate_bytes == values[-1]


@pytest.mark.parametrize("count", [1, 7, 8, 9, 100, 1000])
def test_a_series_is_thinned_evenly_and_has_its_end(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readings, "SERIES_MAX", 8)
    times = [reading.t_s for reading in track_of([1.0] * count).series]
    assert len(times) < 8
    assert times[-1] == count - 1
    assert len({b - a for a, b in pairwise(times[:-1])}) <= 1
    assert count < 8 or len(times) >= 4


def test_one_look_at_the_end_says_nothing_of_peaks() -> None:
    found = Readings(host=track_of([5.0]), devices={3: track_of([7.0])})
    found.forget_peaks()
    assert found.host.peak is None and found.devices[3].peak is None
    assert found.host.series and found.devices[3].series
