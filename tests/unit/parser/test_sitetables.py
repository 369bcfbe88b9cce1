"""Sites, captures and readings as tables, against the model's own estimates."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given

from heapfiles import HeapFile, Record
from mem_parser.counts import PARTS
from mem_parser.heapfile.writer import write_heap
from mem_parser.model import Count, Profile, Unit
from mem_parser.readers import read_bytes
from mem_parser.tables.source import ProfileSource
from strategies import heap_files
from tabled import log_tables, names, rows
from timelog import write_log


def source(profile: Profile) -> ProfileSource:
    return ProfileSource("x.heap", profile, names)


@given(heap_files)
def test_sums_of_sites_are_the_totals_of_the_profile(file: HeapFile) -> None:
    profile = read_bytes(file.data, "x.heap")
    found = rows(source(profile), "sites")
    for count in (Count.INUSE, Count.ALLOC, Count.PEAK):
        for unit, name in ((Unit.SPACE, "bytes"), (Unit.OBJECTS, "objects")):
            values = [row[f"{count}_{name}"] for row in found]
            if not profile.has(count):
                assert set(values) <= {None}
                continue
            total = profile.total(count, unit)
            assert sum(values) == pytest.approx(total.value)
            variances = [row[f"{count}_{name}_variance"] for row in found]
            if math.isnan(total.std_error):
                assert set(variances) <= {None}
            else:
                assert math.sqrt(sum(variances)) == pytest.approx(total.std_error)
            assert sum(row[f"{count}_samples"] for row in found) == total.samples


def test_parts_of_what_is_in_use_are_estimates_and_what_nobody_looked_at_is_null() -> None:
    profile = read_bytes(HeapFile([Record((1,), 3, 6000), Record((2,), 1, 50)]).data, "x.heap")
    assert {row[f"{part}_bytes"] for row in rows(source(profile), "sites") for part in PARTS} == {
        None
    }
    profile.sites.resident_bytes, profile.sites.resident_squares = np.array(
        [[4000, 50], [9e6, 25e2]]
    )
    profile.sites.huge_bytes, profile.sites.huge_squares = np.zeros((2, 2))
    found = rows(source(profile), "sites")
    total = profile.total(Count.RESIDENT, Unit.SPACE)
    assert sum(row["resident_bytes"] for row in found) == pytest.approx(total.value)
    variance = sum(row["resident_bytes_variance"] for row in found)
    assert math.sqrt(variance) == pytest.approx(total.std_error)
    assert [row["huge_bytes"] for row in found] == [0, 0]
    assert [row["swapped_bytes"] for row in found] == [None, None]


def test_a_log_and_the_heap_file_of_it_have_the_same_sites(tmp_path: Path) -> None:
    with log_tables([write_log(tmp_path / "a.memlog")]) as tables:
        [profile] = tables.profiles
        found = rows(tables, "sites")
    again = rows(source(read_bytes(write_heap(profile), "x.heap")), "sites")
    for name in ("inuse_bytes", "alloc_bytes", "peak_bytes", "alloc_samples"):
        assert sum(r[name] for r in found) == sum(r[name] for r in again)
    assert [r["peak_bytes"] for r in found] == [1000, 2000, 0, 8000]


def test_counts_that_are_no_samples_have_estimates_and_no_variance(tmp_path: Path) -> None:
    with log_tables([write_log(tmp_path / "a.memlog")]) as tables:
        [profile] = tables.profiles
    profile.exact_samples, profile.rate_bytes = False, 4096.0
    found = rows(source(profile), "sites")
    assert all(r["alloc_bytes"] > 0 and r["alloc_bytes_variance"] is None for r in found)
    assert [r["errors_known"] for r in rows(source(profile), "captures")] == [False]


def test_a_profile_has_no_events_no_blocks_and_no_holes(tmp_path: Path) -> None:
    with log_tables([write_log(tmp_path / "a.memlog")]) as tables:
        [profile] = tables.profiles
    tabled = source(profile)
    assert [rows(tabled, t) for t in ("events", "blocks", "holes")] == [[], [], []]
    read = rows(tabled, "readings")
    assert [r["rss_bytes"] for r in read] == [1 << 20, 3 << 20]
    assert np.isfinite([r["live_bytes"] for r in read]).all()
