"""Domains and marks of device memory in a segment, all of which the target wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fake_segment import FakeSegment
from mem_profiler.segment import collect, devices, layout
from mem_profiler.segment.devices import MarkLog
from mem_profiler.segment.file import Segment


@pytest.mark.parametrize(
    ("raw", "taken", "name"),
    [
        (b"cuda-0", set(), "cuda-0"),
        (b"cuda-0", {"cuda-0"}, "cuda-0-3"),
        (b"host", set(), "domain-3"),
        (b"../../etc", set(), "domain-3"),
        (b"", set(), "domain-3"),
        (b"a\x1b[2J", set(), "domain-3"),
        (b"x" * 63, {"x" * 63}, "x" * 50 + "-3"),
    ],
)
def test_a_name_is_a_part_of_a_file_name_and_only_one_domains(
    raw: bytes, taken: set[str], name: str
) -> None:
    assert devices._name(raw, 3, taken) == name


def row(**fields: int) -> Any:
    found = np.zeros(1, layout.DOMAIN)[0]
    for name, value in fields.items():
        found[name] = value
    return found


def test_the_use_of_a_device_is_believed_only_where_it_can_be() -> None:
    good = {"actual_used_bytes": 5, "actual_total_bytes": 9, "actual_tracked_bytes": 2}
    found = devices._actual(row(**good, actual_ns=7))
    assert found is not None and (found.used_bytes, found.at_ns) == (5, 7)
    assert devices._actual(row(**good)) is None
    most = collect.DEVICE_BYTES_MAX + 1
    assert devices._actual(row(**good | {"actual_used_bytes": most}, actual_ns=7)) is None


class Ring:
    """A segment with a ring of marks."""

    def __init__(self, folder: Path, rows: int = 8) -> None:
        self.fake = FakeSegment()
        self.fake.begin()
        self.at = self.fake.offset_of(layout.STACKS)  # the arena is not needed here
        self.fake.array(
            layout.MARKS, self.at, rows, layout.MARK.itemsize, rows * layout.MARK.itemsize
        )
        self.rows = self.fake.data[self.at :][: rows * layout.MARK.itemsize].view(layout.MARK)
        self.start_ns = int(self.fake.control["capture"][1]["start_ns"])
        self.folder, self.log, self.count = folder, MarkLog(), 0

    def mark(self, *texts: str, before_s: float = 0.0) -> None:
        for text in texts:
            place = self.rows[self.count % len(self.rows)]
            self.count += 1
            place["sequence"], place["text"] = self.count, text.encode()
            place["time_ns"] = self.start_ns + self.count - int(before_s * 1e9)
        self.fake.control["mark_count"] = self.count

    def update(self) -> list[str]:
        with Segment.open(self.fake.save(self.folder), writable=False) as segment:
            self.log.update(segment, segment.control())
        return [mark.text for mark in self.log.marks]


def test_marks_are_copied_once_and_those_that_were_overwritten_are_counted(tmp_path: Path) -> None:
    ring = Ring(tmp_path)
    ring.mark("a", "b")
    assert ring.update() == ring.update() == ["a", "b"]
    ring.mark(*(str(k) for k in range(10)))
    assert ring.update() == ["a", "b", *(str(k) for k in range(2, 10))]
    assert ring.log.lost == 2


def test_a_mark_that_is_being_written_is_lost_and_no_other(tmp_path: Path) -> None:
    ring = Ring(tmp_path)
    ring.mark("a", "b", "c")
    ring.rows[1]["sequence"] = 0
    assert ring.update() == ["a", "c"]
    assert ring.log.lost == 1


def test_marks_of_before_the_capture_are_not_its_own(tmp_path: Path) -> None:
    ring = Ring(tmp_path)
    ring.mark("old", before_s=5.0)
    ring.fake.control["marks_before"][1] = 1
    ring.mark("late", before_s=5.0)
    ring.mark("new")
    assert ring.update() == ["new"]
    ring.fake.begin(number=2)
    ring.fake.control["marks_before"][0] = ring.count
    assert ring.update() == []


def test_a_long_capture_keeps_the_latest_marks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "MARKS_MAX", 3)
    ring = Ring(tmp_path)
    ring.mark("a", "b")
    ring.update()
    ring.mark("c", "d")
    assert ring.update() == ["b", "c", "d"]
    assert ring.log.lost == 1


@pytest.mark.parametrize("rows", [0, 3, 7])
def test_a_ring_of_a_size_that_cannot_be_holds_nothing(tmp_path: Path, rows: int) -> None:
    ring = Ring(tmp_path)
    ring.mark("a")
    ring.fake.array(layout.MARKS, ring.at, rows, layout.MARK.itemsize, 1 << 20)
    assert ring.update() == []


def test_a_count_that_went_back_is_left_alone(tmp_path: Path) -> None:
    ring = Ring(tmp_path)
    ring.mark("a", "b")
    ring.update()
    ring.fake.control["mark_count"] = 1
    assert ring.update() == ["a", "b"]
