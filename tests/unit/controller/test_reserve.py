"""Pages of a segment are reserved before the target needs them, and no more than allowed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from fake_segment import FakeSegment
from mem_parser.errors import TargetError, TargetUnsupported
from mem_profiler.segment import layout, reserve
from mem_profiler.segment.file import Segment


def test_a_table_gets_its_next_level_when_a_quarter_is_used_or_when_asked(tmp_path: Path) -> None:
    fake = FakeSegment()
    path = fake.save(tmp_path)
    with Segment.open(path, writable=True) as segment:
        assert reserve.ahead(segment, segment.control())
        assert int(segment.control()["sites"]["levels_ready"]) == 1
        fake.site_keys[:65] = 1
        path.write_bytes(fake.data.tobytes())
        reserve.ahead(segment, segment.control())
        table = segment.control()["sites"]
        assert int(table["levels_ready"]) == 2
        assert int(table["level"][1]["reserved_bytes"]) == 256 * 4 * 72


def test_no_more_is_reserved_than_the_controller_allows(tmp_path: Path) -> None:
    fake = FakeSegment()
    fake.begin()
    with Segment.open(fake.save(tmp_path), writable=True) as segment:
        held = segment.used_bytes()
        segment.reserve_max_bytes = held + 4096
        assert segment.allocate(0, 1 << 30) == errno.E2BIG
        assert segment.used_bytes() == held
        assert os.fstat(segment.fd).st_size == len(fake.data)


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (errno.ENOSPC, TargetError, "is full"),
        (errno.EDQUOT, TargetError, "is full"),
        (errno.E2BIG, TargetError, "may have at most 64 KiB"),
        (errno.EOPNOTSUPP, TargetUnsupported, "cannot reserve space"),
    ],
)
def test_a_refusal_of_the_file_system_is_said_before_a_capture_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[TargetError], words: str
) -> None:
    fake = FakeSegment()
    fake.control["directory"][layout.STACKS]["reserved_bytes"] = 0
    with Segment.open(fake.save(tmp_path), writable=True) as segment:
        segment.reserve_max_bytes = 64 << 10
        monkeypatch.setattr(segment, "allocate", lambda *_: code)
        with pytest.raises(kind, match=words) as raised:
            reserve.first_pieces(segment)
        assert raised.value.hint


def test_what_a_capture_needs_at_once_is_reserved_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeSegment()
    for kind in reserve.ARRAYS:
        fake.control["directory"][kind]["reserved_bytes"] = 0
    asked: list[tuple[int, int]] = []
    with Segment.open(fake.save(tmp_path), writable=True) as segment:
        monkeypatch.setattr(segment, "allocate", lambda at, size: asked.append((at, size)) or 0)
        reserve.first_pieces(segment)
        first = list(asked)
        reserve.first_pieces(segment)
        control = segment.control()
    assert asked == first and len(first) == len(reserve.ARRAYS)
    for kind, (row_bytes, rows, piece) in reserve.ARRAYS.items():
        assert control.array(kind, row_bytes, rows).reserved_bytes == piece


def test_the_arena_is_kept_ahead_of_what_is_used(tmp_path: Path) -> None:
    fake = FakeSegment()
    fake.control["directory"][layout.STACKS]["reserved_bytes"] = 4096
    fake.control["controller_flags"] = layout.FLAG_SECCOMP
    fake.control["arena_cursor"] = 4000
    with Segment.open(fake.save(tmp_path), writable=True) as segment:
        assert reserve.ahead(segment, segment.control())
        array = segment.control().array(layout.STACKS, 8, 1 << 30)
    assert array.reserved_bytes == array.total_bytes  # a MiB ahead is all there is of it


def test_little_is_kept_ahead_of_a_sampler_that_reserves_by_itself(tmp_path: Path) -> None:
    fake = FakeSegment()
    fake.control["directory"][layout.STACKS]["reserved_bytes"] = 4096
    fake.control["arena_cursor"] = 4000
    with Segment.open(fake.save(tmp_path), writable=True) as segment:
        assert reserve.ahead(segment, segment.control())
        array = segment.control().array(layout.STACKS, 8, 1 << 30)
    assert array.reserved_bytes == 2 * reserve.ARENA_AHEAD_LITTLE_BYTES


def test_what_the_target_reserves_meanwhile_is_not_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeSegment()
    field = ("directory", layout.STACKS, "reserved_bytes")
    fake.control["directory"][layout.STACKS]["reserved_bytes"] = 4096

    def slow(self: Segment, offset: int, size: int) -> int:
        self.store(field, 8 << 20)
        return 0

    with Segment.open(fake.save(tmp_path), writable=True) as segment:
        monkeypatch.setattr(Segment, "allocate", slow)
        assert reserve.ahead(segment, segment.control())
        assert int(segment.load(field)) == 8 << 20


def test_what_is_reserved_up_front_fits_and_is_all_that_fits(tmp_path: Path) -> None:
    fake = FakeSegment()
    with Segment.open(fake.save(tmp_path), writable=True) as segment:
        first = reserve.reserved_bytes(segment.control())
        sizes = []
        for budget in (0, first + (1 << 18), 1 << 40):
            ranges = reserve.up_front(segment, budget)
            sizes.append(sum(size for _, size in ranges))
            assert sizes[-1] == reserve.reserved_bytes(segment.control())
            assert all(offset >= layout.CONTROL_BYTES for offset, _ in ranges)
        assert sizes[0] <= sizes[1] <= first + (1 << 18) + reserve.ARRAYS[layout.STACKS][2]
        control = segment.control()
        for table in reserve.TABLES:
            assert int(control[table]["levels_ready"]) == int(control[table]["levels"])


def test_what_is_refused_ends_the_reserving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeSegment()
    with Segment.open(fake.save(tmp_path), writable=True) as segment:
        reserve.first_pieces(segment)
        before = reserve.reserved_bytes(segment.control())
        monkeypatch.setattr(segment, "allocate", lambda *_: errno.ENOSPC)
        reserve.up_front(segment, 1 << 40)
        assert reserve.reserved_bytes(segment.control()) == before
