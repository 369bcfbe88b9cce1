"""Leaks of a range between marks."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mem_parser.memscope.analyzers import LeaksAnalyzer, analyze, check_leaks
from mem_parser.memscope.configs import LeaksConfig
from mem_parser.memscope.errors import DumpError
from mem_parser.memscope.leaks import find_leaks
from memscope_dumps import Story, line, printed, text_file

MIB = 1 << 20


def leaking() -> Story:
    """A block before the range, one that is freed in time, one too late, one never."""
    story = Story()
    story.malloc(0x1000, MIB)
    story.mark()
    story.malloc(0x2000, MIB)
    story.malloc(0x3000, 2 * MIB)
    story.malloc(0x4000, MIB // 2, python_stack="a.py(1): f\nb.py(2): g", c_stack="lib.so(+0x1)")
    story.malloc(0x5000, 3 * MIB, "PTA", 5)
    story.mark()
    story.malloc(0x6000, MIB)
    story.free(0x2000, MIB)
    story.mark()
    story.free(0x3000, 2 * MIB)
    return story


def test_the_text_is_that_of_the_tool(tmp_path: Path) -> None:
    path = leaking().csv(tmp_path)
    expected = [
        "INFO: Starting to analyze data for device 0...",
        "",
        "Leak Analysis Results for the Custom Range:",
        "====== ERROR: Detected memory leaks on device 0 ======",
        "Direct Hal memory leak of 2.0 Mb(s) at 0x3000 in Index 4.",
        "Direct Hal memory leak of 0.5 Mb(s) at 0x4000 in Index 5.",
    ]
    assert printed(check_leaks, input_path=path, mstx_info="test", start_index=0) == expected
    assert printed(analyze, "leaks", input_path=path, mstx_info="test", start_index=0) == expected
    config = LeaksConfig(input_path=path, mstx_info="test", start_index=0)
    assert printed(LeaksAnalyzer().analyze, config) == expected


def test_a_database_has_the_same_leaks(tmp_path: Path) -> None:
    story = leaking()
    assert printed(check_leaks, story.db(tmp_path), "test", 0) == printed(
        check_leaks, story.csv(tmp_path), "test", 0
    )


def test_rows_in_the_order_of_frees_are_sorted_by_their_ids(tmp_path: Path) -> None:
    story = leaking()
    expected = printed(check_leaks, story.csv(tmp_path), "test", 0)
    story.rows.reverse()
    assert printed(check_leaks, story.csv(tmp_path), "test", 0) == expected


def test_no_leak_says_so(tmp_path: Path) -> None:
    story = Story()
    for _ in range(3):
        story.mark("only")
    assert printed(check_leaks, story.csv(tmp_path), "only", 0)[-1] == (
        "No hal memory leaks detected on device 0."
    )


def test_too_few_marks_say_how_many_there_are(tmp_path: Path) -> None:
    story = Story()
    story.mark()
    story.mark()
    story.mark("other")
    said = printed(check_leaks, story.csv(tmp_path), "test", 0)
    assert said[1] == (
        "ERROR: Device 0 has fewer than 3 data points (2 with this message)."
        " Please re-collect the data points."
    )
    assert len(said) == 2


def test_an_index_behind_the_marks_says_how_many_there_are(tmp_path: Path) -> None:
    said = printed(check_leaks, leaking().csv(tmp_path), "test", 1)
    assert said[1] == (
        "INFO: Start index 1 is out of bounds. Device 0 has a total of 3 MSTX events."
    )


def test_each_device_has_its_own_result_and_rows_of_none_have_no_part(tmp_path: Path) -> None:
    rows = [
        line(id=str(k), event="MSTX", type="Mark", name='"t"', device=device, ptr="N/A", attr="{}")
        for k, device in enumerate(["1", "0", "1", "0", "1", "0", "N/A"])
    ]
    said = printed(check_leaks, text_file(tmp_path / "x.csv", *rows), "t", 0)
    assert said == [
        "INFO: Starting to analyze data for device 1...",
        "INFO: Starting to analyze data for device 0...",
        "",
        "Leak Analysis Results for the Custom Range:",
        "No hal memory leaks detected on device 1.",
        "No hal memory leaks detected on device 0.",
    ]


def test_pools_stacks_and_a_sum_where_they_are_asked_for(tmp_path: Path) -> None:
    said = printed(check_leaks, leaking().csv(tmp_path), "test", 0, pools=True, stacks=True)
    assert said[4:] == [
        "Direct Hal memory leak of 2.0 Mb(s) at 0x3000 in Index 4.",
        "Direct Hal memory leak of 0.5 Mb(s) at 0x4000 in Index 5.",
        "    a.py(1): f",
        "    b.py(2): g",
        "    lib.so(+0x1)",
        "Direct Pytorch Caching memory pool leak of 3.0 Mb(s) at 0x5000 in Index 6.",
        "====== SUMMARY: 5.5 Mb(s) leaked in 3 allocation(s) ======",
    ]


def test_a_broken_file_prints_nothing_and_names_the_row(tmp_path: Path) -> None:
    path = text_file(tmp_path / "x.csv", line(id="?"))
    with pytest.raises(DumpError, match="line 2: ID"):
        check_leaks(path, "test", 0)


def test_a_hostile_name_does_nothing_to_the_terminal(tmp_path: Path) -> None:
    path = text_file(tmp_path / "x.csv", line(device="\x1b[2J"))
    assert not any("\x1b" in said for said in printed(check_leaks, path, "test", 0))


event = st.tuples(st.sampled_from(["malloc", "free", "mark"]), st.integers(1, 3))


@settings(deadline=None)
@given(st.lists(event, max_size=40), st.integers(0, 2), st.randoms())
def test_leaks_are_those_of_the_definition(
    tmp_path_factory: pytest.TempPathFactory,
    events: list[tuple[str, int]],
    start_index: int,
    random: object,
) -> None:
    story = Story()
    marks: list[int] = []
    for what, address in events:
        if what == "mark":
            marks.append(story.mark())
        elif what == "malloc":
            story.malloc(address, 8)
        else:
            story.free(address, 8)
    expected: list[int] = []
    known = len(marks) >= 3 and start_index + 3 <= len(marks)
    if known:
        begin, end, last = marks[start_index : start_index + 3]
        expected = [
            row.id
            for row in story.rows
            if row.event == "MALLOC"
            and begin <= row.id <= end
            and not any(
                other.event == "FREE" and other.address == row.address and row.id < other.id <= last
                for other in story.rows
            )
        ]
    random.shuffle(story.rows)  # type: ignore[attr-defined]
    rows = story.read(tmp_path_factory.mktemp("x"))
    found = find_leaks(rows, "test", start_index)
    assert [rows.id[one.blocks].tolist() for one in found] == ([expected] if events else [])
    assert all((one.range is not None) is known for one in found)
