"""From a log and side rows to dumps: one order, windows, counters, owners, what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.devices import Mark
from mem_parser.memlog.events import Kind
from mem_parser.memlog.filefacts import Hole
from mem_parser.memscope.leaks import find_leaks
from mem_parser.memscope.reading import read_rows
from mem_parser.memscope.settings import Settings
from memscope_logs import PID, START_NS, Collected, Log, facts, side, with_settings
from memscope_run import attribute

B, D, M, K, R = Kind.BIRTH, Kind.DEATH, Kind.MOVED, Kind.BACK, Kind.REFUSED
SECOND = 10**9


def hexes(address: int) -> str:
    return f"0x{address:016x}"


@pytest.mark.parametrize("form", ["csv", "db"])
def test_marks_in_the_file_of_a_device_are_of_that_device(tmp_path: Path, form: str) -> None:
    log = Log(tmp_path, ("host", "hal-0", "hal-1"))
    for time_ns, name in ((5, "a"), (15, "b"), (50, "c")):
        side(tmp_path, (time_ns, 4711, None, "MSTX", "Mark", name, None, {}, None))
    side(tmp_path, (51, 4711, None, "SYSTEM", "STEP", "1", None, {}, None))
    log.add((10, Kind.BIRTH, 512, 7, 1), (20, Kind.BIRTH, 4096, 7, 2), (30, Kind.BIRTH, 64, 7, 0))
    log.end()
    found = Collected(log, with_settings(form=form))
    found.finish()
    for device, shown in (("0", "0"), ("1", "1"), ("cpu", "N/A")):
        dump = found.dump(device, form)
        marks = [(row["Name"], row["Device Id"]) for row in dump.of("MSTX")]
        assert marks == [("a", shown), ("b", shown), ("c", shown)]
        assert {row["Device Id"] for row in dump.of("SYSTEM")} == {"N/A"}
        # As msMemScope searches: by device, without those of no device.
        if shown != "N/A":
            assert find_leaks(read_rows(dump.path), "a", 0)[0].marks == 1


def test_rows_come_as_the_log_grows_and_in_the_order_of_time(tmp_path: Path) -> None:
    log = Log(tmp_path)
    found = Collected(log)
    log.add((10, B, 4096, 100, 1), (30, B, 8192, 50, 1))
    side(tmp_path, (20, 7, None, "SYSTEM", "STEP", "1", None, {}, None))
    found.step()
    log.add((SECOND, D, 4096, 100, 1))
    found.step()

    # The free may yet have something before it; all others are sure.
    assert [row["Event"] for row in found.dump().rows] == ["MALLOC", "SYSTEM", "MALLOC"]
    found.step(10 * SECOND)
    assert [row["Event"] for row in found.dump().rows][3:] == ["FREE"]
    assert [int(row["Timestamp(ns)"]) - START_NS for row in found.dump().rows][:3] == [10, 20, 30]
    assert [attribute(row, "used") for row in found.dump().of("MALLOC", "FREE")] == [
        "100", "150", "50",
    ]  # fmt: skip
    log.end()
    assert found.finish() == []
    assert found.dump().shadows() == [("FREE", 50)]


def test_an_event_waits_for_the_facts_that_tell_its_thread_and_the_text_of_its_mark(
    tmp_path: Path,
) -> None:
    log = Log(tmp_path)
    found = Collected(log)
    log.add((10, B, 4096, 100, 1), thread=3)
    log.add((20, Kind.MARK, 0, 0, 0), (2 * SECOND, B, 8192, 100, 1))
    found.step()
    assert not list(found.folder.glob("*/*"))
    marks = (Mark(15e-9, 9, "begin", 3, "", "step start"), Mark(18e-9, 9, "end", 3, "", ""))
    log.writer.append_facts(facts(*marks, tids=(PID, 1, 2, 77)))
    found.step()
    rows = found.dump().rows
    assert {r["Thread Id"] for r in rows} == {"77"}
    assert [(r["Event Type"], r["Name"]) for r in rows] == [
        ("HAL", "N/A"), ("Range_start", "step start"), ("Range_end", "step start"),
    ]  # fmt: skip
    log.end()
    found.finish()


def test_a_refused_free_or_realloc_leaves_no_row(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.add((10, B, 4096, 100, 1), (20, D, 4096, 100, 1), (21, K, 4096, 100, 1),
            (30, M, 4096, 100, 1), (31, B, 8192, 200, 1))  # fmt: skip
    log.end()
    found = Collected(log)
    assert found.finish() == []
    assert [(e, s) for e, _, s in found.stories()] == [
        ("MALLOC", 100), ("FREE", 100), ("MALLOC", 200),
    ]  # fmt: skip


def test_a_birth_at_the_place_of_a_live_block_ends_that_and_an_unknown_free_is_no_row(
    tmp_path: Path,
) -> None:
    log = Log(tmp_path)
    log.add((10, B, 4096, 100, 1), (20, B, 4096, 300, 1), (30, D, 8192, 1, 1))
    log.end()
    found = Collected(log)
    found.finish()
    rows = found.dump().of("MALLOC", "FREE")
    assert [attribute(r, "used") for r in rows if r["Event"] == "MALLOC"] == ["100", "300"]
    assert found.dump().shadows() == [("FREE", 100), ("FREE", 300)]


@pytest.mark.parametrize(
    ("lost", "line"), [((3, 4), "7 events are missing"), ((3, None), "unknown how many events are")]
)
def test_events_that_are_missing_are_one_line(
    tmp_path: Path, lost: tuple[int | None, ...], line: str
) -> None:
    log = Log(tmp_path)
    for k, count in enumerate(lost):
        log.add((10 * k + 10, B, 4096 * (k + 1), 100, 1))
        log.writer.append_hole(Hole(10 * k + 10, 10 * k + 19, count, 0))
    log.end()
    [found] = Collected(log).finish()
    assert found.startswith(line)
    assert found.endswith(": the rings were full")


def test_a_block_of_a_pool_is_on_the_device_of_the_block_around_it(tmp_path: Path) -> None:
    log = Log(tmp_path, ("host", "hal-0", "hal-3", "pool-ptaCaching", "pool-ptaWorkspace"))
    log.add((10, B, 1 << 20, 1 << 20, 1), (20, B, 1 << 30, 1 << 20, 2),
            (30, B, (1 << 30) + 512, 512, 3), (40, B, (1 << 20) + 512, 512, 4),
            (50, D, 1 << 30, 1 << 20, 2), (60, B, 1 << 30, 1 << 10, 1),
            (70, B, (1 << 30) + 600, 8, 3))  # fmt: skip
    log.end()
    found = Collected(log)
    found.finish()
    kinds = [(r["Event Type"], int(attribute(r, "used"))) for r in found.dump("3").of("MALLOC")]
    assert kinds == [("HAL", 1 << 20), ("PTA", 512)]
    here = [r["Event Type"] for r in found.dump("0").of("MALLOC")]
    assert here == ["HAL", "PTA_WORKSPACE", "HAL", "PTA"]


def test_accesses_and_owners_find_their_block(tmp_path: Path) -> None:
    log = Log(tmp_path, ("host", "hal-0", "pool-atb"))
    log.add((10, B, 4096, 4096, 1), (20, B, 4196, 100, 2), (60, D, 4196, 100, 2))
    side(
        tmp_path,
        (30, 7, "0", "ACCESS", "READ", "op", 4200, {"type": "ATB", "shape": "[2, 3]"}, "here"),
        (40, 7, None, "OWNER", "DETAIL_1", "weight", 4200, {}, None),
        (41, 7, None, "OWNER", "USER", "me", 5000, {}, None),
        (42, 7, None, "OWNER", "DETAIL_1", "gradient", 4200, {}, None),
        (70, 7, "0", "ACCESS", "WRITE", "op", 9999, {"type": "ATB"}, None),
    )
    log.end()
    found = Collected(log)
    found.finish()
    read, write = found.dump().of("ACCESS")
    assert read["Attr"] == "{allocation_id:2,addr:0x1064,size:100,type:ATB,shape:[2, 3]}"
    assert (read["Ptr"], read["Call Stack(Python)"]) == (hexes(4200), "here")
    assert write["Attr"] == "{addr:0x270f,type:ATB}"
    owners = [attribute(r, "owner") for r in found.dump().of("MALLOC")]
    assert owners == ["CANN@me", "ATB@gradient"]


@pytest.mark.parametrize("form", ["csv", "db"])
def test_a_label_with_marks_of_the_formats_stays_one_value(tmp_path: Path, form: str) -> None:
    log = Log(tmp_path)
    name = 'a"b,size:1@c\nd'
    side(tmp_path, (5, PID, None, "REGION", "BEGIN", name, None, {}, None),
         (15, PID, None, "REGION", "END", name, None, {}, None))  # fmt: skip
    log.add((10, B, 4096, 100, 1), (20, B, 8192, 100, 1))
    log.end()
    found = Collected(log, with_settings(form=form))
    found.finish()
    first, second = found.dump(form=form).of("MALLOC")
    assert "owner" in first["Attr"]
    assert attribute(first, "size") == "100"
    assert "owner" not in second["Attr"]


def test_files_that_were_removed_unread_and_damaged_blocks_are_said(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.add((10, B, 4096, 100, 1))
    log.end(last=False)
    log.begin()
    log.add((20, B, 8192, 200, 1))
    log.end(last=False)
    log.begin()
    log.add((30, B, 16384, 300, 1))
    log.end()
    (tmp_path / "log1-0.memlog").unlink()
    damaged = tmp_path / "log1-1.memlog"
    data = bytearray(damaged.read_bytes())
    data[-120] ^= 255
    damaged.write_bytes(data)
    found = Collected(log)
    warnings = found.finish()
    assert "1 files of the log were removed before they were read" in warnings
    assert any("damaged" in warning for warning in warnings)
    assert ("MALLOC", hexes(16384), 300) in found.stories()


def test_what_comes_after_a_device_row_and_before_it_is_in_each_file(tmp_path: Path) -> None:
    log = Log(tmp_path, ("host", "hal-0", "hal-1"))
    side(tmp_path, *((t, 7, None, "SYSTEM", "STEP", str(t), None, {}, None) for t in (5, 15, 25)))
    log.add((10, B, 4096, 1, 1), (20, B, 8192, 1, 2))
    log.end()
    found = Collected(log)
    found.finish()
    for device in "01":
        steps = found.dump(device).of("SYSTEM")
        assert [(row["ID"], row["Name"]) for row in steps] == [("1", "5"), ("3", "15"), ("5", "25")]


story = st.lists(
    st.tuples(st.sampled_from([B, D]), st.integers(1, 6), st.integers(1, 5000)), max_size=40
)


@given(story, st.lists(st.integers(0, 45), max_size=4), st.integers(1, 9))
def test_a_log_in_any_pieces_gives_the_same_dump(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[Kind, int, int]],
    windows: list[int],
    piece: int,
) -> None:
    folder = tmp_path_factory.mktemp("log")
    log = Log(folder)
    live: dict[int, int] = {}
    told, expected = [], []
    for at, (kind, block, size) in enumerate(rows):
        if kind == B and block in live:
            continue
        if kind == D and block not in live:
            continue
        bytes_ = live.pop(block) if kind == D else live.setdefault(block, size)
        told.append((at * SECOND, kind, block << 12, bytes_, 1))
        expected.append(("MALLOC" if kind == B else "FREE", hexes(block << 12), bytes_))
    for number, at in enumerate(sorted(windows)):
        kind = "START_TRACE" if number % 2 else "STOP_TRACE"
        side(folder, (at * SECOND + 1, 7, None, "SYSTEM", kind, "N/A", None, {}, None))
    grows = Collected(log, output="online")
    for low in range(0, len(told), piece):
        log.add(*told[low : low + piece])
        grows.step((low + piece) * SECOND)
    log.end()
    grows.finish()
    whole = Collected(log, output="whole")
    whole.finish()
    files = [sorted(found.folder.glob("*/device_0/dump/*.csv")) for found in (grows, whole)]
    assert [len(paths) for paths in files] == [bool(told), bool(told)] or windows
    assert [p.read_bytes() for p in files[0]] == [p.read_bytes() for p in files[1]]
    if told and not windows:
        assert whole.stories() == expected


def test_a_deferred_log_without_a_window_has_no_dump(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.add((10, B, 4096, 100, 1))
    log.end()
    found = Collected(log, Settings(deferred=True))
    assert found.finish() == []
    assert not found.folder.exists()
