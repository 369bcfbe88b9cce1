"""The report on waste: its sums and errors, reasons, and what a file does not say."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from mem_parser.errors import InputFileError
from mem_parser.filters import Filters
from mem_parser.heapfile.writer import write_heap
from mem_parser.model import Count, Profile, Unit
from mem_parser.processfacts import Memory
from mem_parser.reports import waste as report
from mem_parser.reports.grid import Grid
from mem_parser.reports.view import View, make_view
from parser_run import parse
from reportview import named

STACKS = (("malloc net_read serve main", 100), ("malloc db_get serve main", 40),
          ("calloc parse main", 40), ("malloc idle main", 8))  # fmt: skip
BYTES = {
    Count.RESIDENT: (100, 40, 40, 0), Count.SLOP: (12, 8, 900, 0), Count.PAGES: (4096, 2048, 40, 0),
    Count.HELD: (3996, 2000, 0, 0), Count.PINNED: (3996, 0, 0, 0),
}  # fmt: skip


def wasting(rate: int = 1, **changes: tuple[int, ...] | None) -> Profile:
    profile = named(STACKS, rate=rate)[0]
    for part, numbers in (BYTES | {Count(k): v for k, v in changes.items()}).items():
        size = None if numbers is None else np.array(numbers, np.int64)
        setattr(profile.sites, f"{part}_bytes", size)
        setattr(profile.sites, f"{part}_squares", None if size is None else size.astype(float) ** 2)
    profile.capture.memory = Memory(rss_bytes=1 << 20, heap_bytes=20000, arena_bytes=184)
    return profile


def viewed(profile: Profile, **filters: object) -> View:
    return make_view(profile, named(STACKS)[1], Filters(**filters))  # type: ignore[arg-type]


def test_rows_are_ranked_by_what_would_be_saved_and_have_a_reason() -> None:
    found = report.waste(viewed(wasting()), 0)
    told = [(row.name, row.saved.value, row.reason) for row in found.rows]
    assert told == [
        ("net_read", 4008, "last on page"), ("db_get", 2008, "shared pages"),
        ("parse", 900, "slop"), ("idle", 0, "not in RAM"),
    ]  # fmt: skip
    assert found.cached is not None
    assert found.cached.value == 20184 - 6184
    assert report.waste(viewed(wasting(), focus=("db_get",))).cached is None
    assert [row.name for row in report.waste(viewed(wasting()), 1).rows] == ["net_read"]


def test_errors_of_parts_of_the_same_blocks_add_up() -> None:
    profile = wasting(rate=64)
    row = report.waste(viewed(profile), 0).rows[0]
    parts = [row.parts[part] for part in (Count.HELD, Count.SLOP)]
    assert row.saved.std_error == pytest.approx(sum(part.std_error for part in parts))
    # A next sample like this one adds as much as it did, which is more than T.
    assert row.saved.interval95[1] > row.saved.value + row.saved.value
    nothing = report.waste(viewed(profile), 0).rows[2].parts[Count.PINNED]
    assert nothing.value == 0
    assert nothing.interval95[1] > 3 * 4096


def test_what_is_inside_the_noise_is_marked_and_has_no_cure() -> None:
    for rate, sure in ((1, True), (64 << 20, False)):
        found = report.waste(viewed(wasting(rate)), 0)
        lines = [str(block) for block in report.blocks(found) if not isinstance(block, Grid)]
        [head] = [line for line in lines if "held and slop together: " in line]
        assert head.startswith("~ ") is head.endswith(", inside the noise") is not sure
        cures = [line for line in lines if line.startswith(("last on page: ", "slop: "))]
        assert bool(cures) is sure
        assert any(line.startswith("too few samples to tell") for line in lines) is not sure
        told = {row["cure"] for row in report.records(found) if row["saved"]}
        assert (report.CURES[report.ALONE] in told) is sure
    assert len(told) == 1


def test_what_is_not_known_is_not_zero(tmp_path: Path) -> None:
    found = report.waste(viewed(wasting(pages=None, held=None, pinned=None)), 0)
    assert found.cached is None
    assert report.records(found)[0]["held"] is None
    grid = next(block for block in report.blocks(found) if isinstance(block, Grid))
    assert [row[1] for row in grid.rows] == ["-"] * 4
    profile = named(STACKS)[0]
    profile.capture.notes = ["waste by stack is missing: for a reason"]
    with pytest.raises(InputFileError, match="for a reason"):
        report.waste(viewed(profile))
    path = tmp_path / "x.heap"
    path.write_bytes(write_heap(named(STACKS)[0]))
    done = parse("waste", path)
    assert done.returncode == 3
    assert "mem_profiler --resident" in done.stderr


def test_only_the_report_on_waste_counts_it() -> None:
    profile = wasting()
    assert [count for count in Count if count.is_waste] == [
        Count.ABSENT, Count.SLOP, Count.PAGES, Count.HELD, Count.PINNED,
    ]  # fmt: skip
    assert profile.total(Count.ABSENT, Unit.SPACE).value == 8
    moved = dataclasses.replace(profile, sites=profile.sites.without_parts())
    assert not moved.has(Count.SLOP)


def test_without_a_block_in_use_the_report_says_what_it_needs() -> None:
    profile = wasting()
    nothing = profile.where(np.zeros(len(profile.sites), dtype=np.bool_))
    *_, why = report.blocks(report.waste(viewed(nothing)))
    assert str(why).startswith("waste is that of sampled blocks still in use, and there are none:")
