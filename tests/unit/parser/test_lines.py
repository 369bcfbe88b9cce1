"""Bytes in use by line: which line a block counts for, sums, and the text of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.errors import InputFileError
from mem_parser.heapfile.writer import write_heap
from mem_parser.records.linereport import LineReport, aligned, report_of_file
from mem_parser.records.lines import LineBytes, by_line, lines_in_use
from mem_parser.records.own_frames import own_stacks
from mem_parser.symbols.embedded import EmbeddedNames
from python_records import G_TRACKED, STOP, F, G, columns, made


def test_a_block_counts_for_the_innermost_python_line() -> None:
    profile = made((0, G, 2, 1, 100), (0, F, 1, 0, 5000), (1, G, 1, 0, 7), (0, G, 0, 9, 3))
    assert lines_in_use(profile) == [
        LineBytes("/app/s.py", 4, 5000),
        LineBytes("/app/g.py", 8, 207),
    ]


def test_a_line_whose_blocks_are_all_freed_stays_with_nothing() -> None:
    profile = made((0, G, 0, 3, 100), (0, F, 1, 0, 1))
    assert lines_in_use(profile) == [LineBytes("/app/s.py", 4, 1), LineBytes("/app/g.py", 8, 0)]


def test_without_python_it_counts_for_the_line_that_reports_charge_it_to() -> None:
    [line] = lines_in_use(made((2, 0, 1, 1, 100)))
    assert (line.file, line.size_bytes) == ("start.c", 100)
    assert line.line > 0


def test_without_lines_it_counts_for_module_and_function() -> None:
    profile = made((2, 0, 1, 1, 100))
    assert profile.embedded is not None
    frames = {
        key: tuple(dataclasses.replace(one, file="", line=0) for one in found)
        for key, found in profile.embedded.frames.items()
    }
    named = dataclasses.replace(profile, embedded=EmbeddedNames(frames))
    assert lines_in_use(named) == [LineBytes("start", 0, 100)]


def test_blocks_of_our_own_are_left_out_and_those_of_what_we_call_are_not() -> None:
    profile = made((0, STOP, 1, 0, 1000), (0, G_TRACKED, 1, 0, 20), (0, F, 1, 0, 3))
    assert lines_in_use(profile) == [LineBytes("/app/g.py", 9, 20), LineBytes("/app/s.py", 4, 3)]


def test_modules_that_are_imported_meanwhile_are_the_programs() -> None:
    python = columns()
    inside = "<mem_profiler>/tracking/inside.py"
    stats = "<mem_profiler>/driver_stats/own.py"
    python.codes = [
        dataclasses.replace(python.codes[0], file=inside, name="create_module"),
        dataclasses.replace(python.codes[1], file="<frozen importlib>"),
        dataclasses.replace(python.codes[2], file=stats, name="report"),
        *python.codes[3:],
    ]
    assert own_stacks(python).tolist()[:4] == [False, False, False, True]


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 1 << 50)), max_size=40
    ),
    st.lists(
        st.none() | st.tuples(st.sampled_from(["a.c", "b.py"]), st.integers(0, 3)),
        min_size=10, max_size=10,
    ),
)  # fmt: skip
def test_sums_are_those_of_all_blocks_that_have_a_line(
    sites: list[tuple[int, int]], places: list[tuple[str, int] | None]
) -> None:
    stack = np.array([s for s, _ in sites], np.int64)
    size = np.array([b for _, b in sites], np.int64)
    found = by_line(places, stack, size)
    assert {(one.file, one.line) for one in found} == {
        place for s, _ in sites if (place := places[s]) is not None
    }
    for one in found:
        here = [b for s, b in sites if places[s] == (one.file, one.line)]
        assert one.size_bytes == sum(here)
    assert [one.size_bytes for one in found] == sorted((o.size_bytes for o in found), reverse=True)


def test_the_text_has_columns_of_one_width() -> None:
    lines = [
        LineBytes("/src/a.py", 6, 79558144), LineBytes("/src/longer name.cpp", 1109, 32),
        LineBytes("/src/a.py", 12, 0),
    ]  # fmt: skip
    assert aligned(lines) == [
        "/src/a.py                line:6       size:79558144",
        "/src/longer name.cpp     line:1109    size:32",
        "/src/a.py                line:12      size:0",
    ]
    assert LineReport(lines).as_dict() == {"total_size": 79558176, "mem_report": aligned(lines)}
    assert LineReport([]).as_dict() == {"total_size": 0, "mem_report": []}


def test_names_of_files_cannot_break_a_line() -> None:
    [text] = aligned([LineBytes("/a\nline:9 size:9\x1b[31m", 1, 1)])
    assert "\n" not in text
    assert "\x1b" not in text


def test_a_file_gives_its_report(tmp_path: Path) -> None:
    path = tmp_path / "x.heap"
    profile = made((0, F, 1, 0, 5000))
    profile.capture.lost = {"reentry": 3}
    path.write_bytes(write_heap(profile))
    report = report_of_file(path)
    assert (report.total_bytes, report.missing) == (5000, profile.samples_missing)
    path.write_bytes(b"something else")
    with pytest.raises(InputFileError):
        report_of_file(path)
