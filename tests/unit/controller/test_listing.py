"""Rows of the process list: states in words, and what is believed of a segment."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

from fake_segment import FakeSegment, site_key
from mem_parser.errors import MemError
from mem_profiler.capture import listing
from mem_profiler.process import procfs
from mem_profiler.segment import layout
from mem_profiler.segment.file import Segment

ROW = {
    "pid": 7, "user": "u", "command": "c", "state": "idle", "rate_bytes": 1, "samples": 2,
    "live_bytes": 3.5, "lost": 0, "dead": False, "place": None, "notes": [],
}  # fmt: skip


def opened(fake: FakeSegment, folder: Path) -> Segment:
    return Segment.open(fake.save(folder), writable=False)


@pytest.mark.parametrize(
    ("state", "text", "words"),
    [
        (layout.STATE_SHADOWED, b"libx.so", "shadowed by libx.so"),
        (layout.STATE_REFUSED, b"static", "refused: static"),
        (layout.STATE_STARTING, b"", "starting"),
        (layout.STATE_READY, b"", "idle"),
    ],
)
def test_a_process_without_a_capture_has_its_state_in_words(
    tmp_path: Path, state: int, text: bytes, words: str
) -> None:
    fake = FakeSegment()
    fake.control["state"], fake.control["state_text"] = state, text
    with opened(fake, tmp_path) as segment:
        assert listing._state(segment.control(), 0) == words


def test_a_capture_runs_until_its_deadline_and_is_written_once(tmp_path: Path) -> None:
    fake = FakeSegment()
    fake.begin(number=3, seconds=5.0)
    start = int(fake.control["capture"][1]["start_ns"])
    with opened(fake, tmp_path) as segment:
        control = segment.control()
        assert listing._state(control, start + 4 * 10**9) == "capturing"
        assert listing._state(control, start + 6 * 10**9) == "stopped, not written"
    fake.control["written_capture"] = 3
    with opened(fake, tmp_path) as segment:
        assert listing._state(segment.control(), start + 6 * 10**9) == "idle"


def test_processes_of_one_program_are_together_and_the_largest_in_use_is_first() -> None:
    sizes = [("a", 1.0), ("b", 5.0), ("a", None), ("a", 7.0), ("b", 6.0)]
    rows = [
        listing.Row(pid, "u", name, "idle", 1, 2, size, 0) for pid, (name, size) in enumerate(sizes)
    ]
    assert [row.pid for row in listing.by_program(rows)] == [3, 0, 2, 4, 1]


def test_a_row_has_the_counts_of_the_segment_read_by_a_child(tmp_path: Path) -> None:
    fake = FakeSegment()
    fake.begin(rate=1)
    fake.site(site_key(fake.stack([1, 2])), (5, 500), (2, 200))
    fake.control["lost"][next(i for i, n in layout.LOST_NAMES.items() if n == "reentry")] = 4
    entry = listing._Entry(7, opened(fake, tmp_path), os.getuid(), "capturing", dead=False)
    [row] = listing._rows([entry])
    assert (row.rate_bytes, row.samples, row.live_bytes, row.lost) == (1, 5, 300.0, 4)
    assert (row.pid, row.command, row.state) == (7, "prog", "capturing")


def test_a_row_says_what_the_segment_had_no_room_for(tmp_path: Path) -> None:
    fake = FakeSegment()
    fake.begin(rate=1)
    full, _ = layout.STACKS_WITHOUT_ROOM
    fake.site(site_key(fake.stack([1, 2])), (5, 500))
    fake.site(site_key(full), (1200, 500))
    fake.control["lost"][next(i for i, n in layout.LOST_NAMES.items() if n == "live_full")] = 3
    fake.control["startup_flags"] = layout.STARTUP_NO_EVENTS
    entry = listing._Entry(7, opened(fake, tmp_path), os.getuid(), "capturing", dead=False)
    [row] = listing._rows([entry])
    cure = "a coarser rate, or a larger MEM_PROFILER_MAX_MEMORY, keeps them"
    tables, events = row.notes
    assert tables == f"tables full: 1,200 of 1,205 samples without a stack, 3 lost; {cure}"
    size = f"this one has {fake.data.size / (1 << 20):.1f} MiB (MEM_PROFILER_MAX_MEMORY)"
    fake.control["lost"][next(i for i, n in layout.LOST_NAMES.items() if n == "reserve")] = 1
    entry = listing._Entry(7, opened(fake, tmp_path), os.getuid(), "capturing", dead=False)
    [row] = listing._rows([entry])
    cure = "free some, or name a larger MEM_PROFILER_DIR"
    losses = "1,200 of 1,205 samples without a stack, 3 lost"
    assert (
        row.notes[0] == f"no room left in {Path(entry.segment.path).parents[1]}: {losses}; {cure}"
    )
    assert events == f"no events: they need a segment of 8 MiB, {size}"


def test_a_process_that_was_never_captured_has_no_counts(tmp_path: Path) -> None:
    entry = listing._Entry(7, opened(FakeSegment(), tmp_path), 4_000_000_000, "idle", dead=True)
    [row] = listing._rows([entry])
    assert (row.rate_bytes, row.samples, row.live_bytes, row.lost) == (None,) * 4
    assert (row.user, row.dead) == ("4000000000", True)


def test_one_segment_that_cannot_be_read_costs_its_own_row_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [
        listing._Entry(pid, opened(FakeSegment(), tmp_path), 0, "idle", dead=False)
        for pid in (1, 2, 3)
    ]
    real = listing._row

    def row(entry: Any) -> dict[str, Any]:
        if entry.pid == 2:
            raise MemError("bad")
        return real(entry)

    monkeypatch.setattr(listing, "_row", row)
    assert [(r.pid, r.state) for r in listing._rows(entries)] == [
        (1, "idle"), (2, "unreadable"), (3, "idle"),
    ]  # fmt: skip


@pytest.mark.parametrize("value", [1 << 62, -(1 << 62), float("nan"), float("inf"), "7", [1]])
def test_numbers_that_no_honest_segment_has_are_refused(value: Any) -> None:
    assert listing._checked(ROW).samples == 2
    with pytest.raises((TypeError, ValueError, OverflowError)):
        listing._checked(ROW | {"samples": value})


def test_what_makes_no_sense_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = listing._Entry(7, opened(FakeSegment(), tmp_path), 0, "idle", dead=False)
    with entry.segment:
        for told in ([{}], [ROW | {"pid": "x"}], 7):
            monkeypatch.setattr(listing.child, "call", lambda *_, told=told, **__: told)
            with pytest.raises(MemError, match="hold invalid data"):
                listing._read([entry])


def test_a_living_process_has_the_name_that_it_has_now() -> None:
    row = listing.Row(os.getpid(), "u", "what it was", "idle", None, None, None, None)
    assert listing._measured(row).command == procfs.program_name(os.getpid()) != row.command
    left = dataclasses.replace(row, state=listing.LEFT[0])  # of the program that it was
    assert listing._measured(left).command == row.command
