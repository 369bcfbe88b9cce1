"""Sizes over time and lines at a time, from logs that tests write, against sums by hand."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.errors import InputFileError, MemError, UsageProblem
from mem_parser.memlog.contents import Keyframe
from mem_parser.memlog.filefacts import Hole
from mem_parser.memlog.sizeclasses import size_classes
from mem_parser.records import linelog
from mem_parser.records.linelog import LineLog
from mem_parser.records.logfolder import facts_of, newest_log
from memlogs import RUN, events_of, facts_profile, stack_table, writing
from python_records import STOP, F, G, columns

MS = 1_000_000
Live = list[tuple[int, int]]
"""Stack and bytes of each block."""
STACKS = 4
NUMBERS = [G, F, STOP, 0]
"""The Python part of each stack: two lines, one of our own, and none."""
LINES = {0: ("/app/g.py", 8), 1: ("/app/s.py", 4), 2: None}


def keyframe(time_ns: int, live: Live) -> Keyframe:
    stack, size = (np.array([b[k] for b in live], np.int64) for k in (0, 1))
    return Keyframe(
        time_ns, stack.astype(np.uint32), np.zeros(len(live), np.uint8),
        np.array(size_classes(size.astype(np.uint64)), np.uint16),
        np.ones(len(live), np.int64), size,
    )  # fmt: skip


def write(
    path: Path, events: Sequence[dict[str, int]], live: Live, at_ns: int, number: int
) -> None:
    """One file: what is live at its begin, and events."""
    with writing(path, number, start_real_ns=10**18) as writer:
        writer.append_facts(facts_profile())
        writer.append_python(columns())
        writer.append_stacks(stack_table([(0x1000, 0x2000 + k) for k in range(STACKS)], NUMBERS))
        writer.append_keyframe(keyframe(at_ns, live))
        writer.append_events(events_of(list(events)))
        writer.end()


def born(time_ms: int, stack: int, size: int, address: int = 16) -> dict[str, int]:
    row = {"time_ns": time_ms * MS, "kind": 1, "stack": stack, "size_bytes": size}
    return row | {"address": address}


def died(time_ms: int, stack: int, size: int, address: int = 16) -> dict[str, int]:
    return born(time_ms, stack, size, address) | {"kind": 2, "birth_ns": 0}


@pytest.fixture
def two_files(tmp_path: Path) -> Path:
    first = [born(10, 0, 1000), born(20, 1, 50, 32), died(150, 0, 1000), born(420, 2, 7000, 48)]
    second = [born(520, 0, 300), died(590, 0, 300), died(610, 1, 50, 32)]
    write(tmp_path / "memlogX-0.memlog", first, [], 0, 1)
    write(tmp_path / "memlogX-1.memlog", second, [(1, 50), (2, 7000)], 500 * MS, 2)
    return tmp_path


def opened(folder: Path, jobs: int | None = 1) -> LineLog:
    log = LineLog([file.path for file in newest_log(str(folder))])
    read = sorted(Path(name).name for name in log.parse(jobs))
    assert read == sorted(Path(file.path).name for file in newest_log(str(folder)))
    return log


@pytest.mark.parametrize("jobs", [1, 2, None])
def test_each_interval_has_its_most_and_the_lines_of_that_moment(
    two_files: Path, jobs: int | None
) -> None:
    with opened(two_files, jobs) as log:
        assert log.sizes() == [
            [0, 1050], [100, 1050], [200, 50], [300, 50], [400, 50], [500, 350], [600, 50],
        ]  # fmt: skip
        assert log.duration_ms == 610
        assert log.started_s == 1e9
        texts = {ms: log.report(ms).text() for ms in (99, 100.5, 300, 599, 600)}
    head = "/app/g.py     line:8    size:"
    assert texts[99] == [f"{head}1000", "/app/s.py     line:4    size:50"]
    assert texts[100.5] == texts[99], "the most is at the begin of the interval"
    assert texts[300] == ["/app/s.py     line:4    size:50", f"{head}0"]
    assert texts[599] == [f"{head}300", "/app/s.py     line:4    size:50"]
    assert texts[600] == texts[300]


def test_a_moment_that_is_not_in_the_log_is_refused(two_files: Path) -> None:
    with opened(two_files) as log:
        for ms in (700, -1, 1e12):
            with pytest.raises(UsageProblem, match="ms is not in the log") as raised:
                log.report(ms)
            assert raised.value.hint == "it has from 0 to 699 ms"
    with (
        LineLog([file.path for file in newest_log(str(two_files))]) as unread,
        pytest.raises(UsageProblem, match="has not been read yet"),
    ):
        unread.sizes()


def test_copies_elsewhere_with_other_names_are_read_the_same(
    two_files: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    shutil.copy(two_files / "memlogX-1.memlog", other / "memlog-a.txt")
    shutil.copy(two_files / "memlogX-0.memlog", other / "renamed.memlog")
    with opened(other) as copied, opened(two_files) as log:
        assert copied.sizes() == log.sizes()
        assert copied.report(599) == log.report(599)


def test_without_its_first_file_the_rest_of_a_log_is_read(two_files: Path) -> None:
    (two_files / "memlogX-0.memlog").unlink()
    with opened(two_files) as log:
        assert log.sizes() == [[500, 350], [600, 50]]
        assert log.report(600).text() == [
            "/app/s.py     line:4    size:50", "/app/g.py     line:8    size:0",
        ]  # fmt: skip


def test_the_newest_log_is_read_from_its_last_gap_on(tmp_path: Path) -> None:
    for number in (1, 2, 4, 5):
        write(tmp_path / f"memlogY-{number}.memlog", [], [], number, number)
    with writing(tmp_path / "memlogZ-0.memlog", run="f" * 32, start_real_ns=5) as writer:
        writer.append_facts(facts_profile())
    (tmp_path / "memlog.txt").write_text("no log")
    (tmp_path / "memlog.cut").write_bytes((tmp_path / "memlogY-1.memlog").read_bytes()[:40])
    (tmp_path / "memlog.d").mkdir()
    found = newest_log(str(tmp_path))
    assert [(Path(f.path).name, f.facts.number) for f in found] == [
        ("memlogY-4.memlog", 4), ("memlogY-5.memlog", 5),
    ]  # fmt: skip
    assert {f.facts.run for f in found} == {RUN}
    assert facts_of(str(tmp_path / "memlog.txt")) is None


def test_a_folder_without_a_log_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="no log of events is there"):
        newest_log(str(tmp_path))
    with pytest.raises(InputFileError, match="no such file or directory"):
        newest_log(str(tmp_path / "none"))


def test_a_log_of_samples_is_refused(tmp_path: Path) -> None:
    with writing(tmp_path / "memlog-0.memlog", rates_bytes=(1024.0,)) as writer:
        writer.append_facts(facts_profile())
    with pytest.raises(InputFileError, match="the log has one sample in 1024 bytes"):
        LineLog([file.path for file in newest_log(str(tmp_path))])


def die(*_: object) -> None:
    os._exit(9)


def test_a_worker_that_ends_is_said(two_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linelog, "scan_file", die)
    with (
        LineLog([file.path for file in newest_log(str(two_files))]) as log,
        pytest.raises(MemError, match="the process that read it ended"),
    ):
        list(log.parse(2))


@st.composite
def histories(draw: st.DrawFn) -> list[dict[str, int]]:
    """Births and deaths in time, each death of a block that lives."""
    rows: list[dict[str, int]] = []
    live: list[dict[str, int]] = []
    time = 0
    for k in range(draw(st.integers(1, 30))):
        time += draw(st.integers(1, 90))
        if live and draw(st.booleans()):
            one = live.pop(draw(st.integers(0, len(live) - 1)))
            rows.append(died(time, one["stack"], one["size_bytes"], one["address"]))
        else:
            row = born(time, draw(st.integers(0, 2)), draw(st.integers(0, 5000)), 16 * (k + 1))
            rows.append(row)
            live.append(row)
    return rows


@given(histories())
def test_sizes_and_lines_are_those_of_the_events(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, int]]
) -> None:
    folder = tmp_path_factory.mktemp("log")
    write(folder / "memlog-0.memlog", rows, [], 0, 1)
    with opened(folder) as log:
        for ms, size in log.sizes():
            report = log.report(ms)
            assert report.total_bytes == size
            moments = [max(ms, 0), *(t for t in times(rows) if ms <= t < ms + 100)]
            at = max(moments, key=lambda t: (total(rows, t, range(3)), -t))
            for stack in (0, 1):
                place = LINES[stack]
                held = [one.size_bytes for one in report.lines if (one.file, one.line) == place]
                expected = [total(rows, at, [stack])] if met(rows, at, stack) else []
                assert held == expected


@given(histories(), st.integers(0, 29), st.integers(1, 10))
def test_behind_a_hole_sizes_are_those_of_the_reports(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, int]], first: int, lost: int
) -> None:
    folder = tmp_path_factory.mktemp("log")
    first = min(first, len(rows) - 1)
    gone = rows[first : first + lost]
    behind_ns = gone[-1]["time_ns"] + MS // 2
    alive: dict[int, tuple[int, int]] = {}
    for row in rows[: first + lost]:
        alive.pop(row["address"], None)
        if row["kind"] == 1:
            alive[row["address"]] = (row["stack"], row["size_bytes"])
    with writing(folder / "memlog-0.memlog", 1, start_real_ns=10**18) as writer:
        writer.append_facts(facts_profile())
        writer.append_python(columns())
        writer.append_stacks(stack_table([(0x1000, 0x2000 + k) for k in range(STACKS)], NUMBERS))
        writer.append_keyframe(keyframe(0, []))
        writer.append_events(events_of(rows[:first]))
        writer.append_hole(Hole(gone[0]["time_ns"] - 1, behind_ns - 1, len(gone)))
        writer.append_keyframe(keyframe(behind_ns, list(alive.values())))
        writer.append_events(events_of(rows[first + lost :]))
        writer.end()
    with opened(folder) as log:
        for ms, size in log.sizes():
            assert log.report(ms).total_bytes == size


def times(rows: list[dict[str, int]]) -> list[int]:
    return [row["time_ns"] // MS for row in rows]


def total(rows: list[dict[str, int]], at_ms: int, stacks: Sequence[int]) -> int:
    """What is in use at a moment, all events of that moment included."""
    return sum(
        row["size_bytes"] * (1 if row["kind"] == 1 else -1)
        for row in rows
        if row["time_ns"] <= at_ms * MS and row["stack"] in stacks
    )


def met(rows: list[dict[str, int]], at_ms: int, stack: int) -> bool:
    return any(row["stack"] == stack and row["time_ns"] <= at_ms * MS for row in rows)
