"""A track of readings: which points of a long series it keeps, and what is latest."""

from __future__ import annotations

from itertools import pairwise

import pytest

from mem_parser.model import Reading
from mem_profiler.profile import readings
from mem_profiler.profile.readings import Track


def track_of(values: list[float]) -> Track:
    """A track of readings one second apart, the last of them final."""
    track = Track()
    for second, value in enumerate(values):
        reading = Reading(float(second), value, 0.0, 0, None)
        track.add(reading, final=second == len(values) - 1)
    return track


@pytest.mark.parametrize("count", [1, 7, 8, 9, 100, 1000])
def test_a_series_is_thinned_evenly_and_has_its_end(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readings, "SERIES_MAX", 8)
    times = [reading.t_s for reading in track_of([1.0] * count).series]
    assert len(times) < 8
    assert times[-1] == count - 1
    latest = track_of([1.0, 2.0]).latest
    assert latest is not None and latest.estimate_bytes == 2.0
    assert len({b - a for a, b in pairwise(times[:-1])}) <= 1
    assert count < 8 or len(times) >= 4


def test_growth_after_an_unseen_one_begins_where_that_began() -> None:
    first, second, other = (readings.Growth() for _ in range(3))
    for growth, held in ((first, (100, 900, 850)), (second, (850, 860)), (other, (60, 90))):
        for now_bytes in held:
            growth.add(now_bytes)
    assert (first.bytes, first.left_bytes) == (800, 750)
    second.follow(first)
    other.follow(first)
    assert (second.bytes, other.bytes) == (760, 30)
