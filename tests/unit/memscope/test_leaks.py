"""Leaks of a range between marks."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mem_parser.memscope.analyzers import LeaksAnalyzer, LeaksConfig, analyze, check_leaks
from mem_parser.memscope.form import DumpError
from mem_parser.memscope.leaks import find_leaks
from mem_parser.memscope.reading import read_rows
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
        "Direct Hal memory leak of 2.0 Mb(s) at 0x0000000000003000 in Index 4.",
        "Direct Hal memory leak of 0.5 Mb(s) at 0x0000000000004000 in Index 5.",
    ]
    assert printed(check_leaks, input_path=path, mstx_info="test", start_index=0) == expected
    assert printed(analyze, "leaks", input_path=path, mstx_info="test", start_index=0) == expected
    config = LeaksConfig(input_path=path, mstx_info="test", start_index=0)
    assert printed(LeaksAnalyzer().analyze, config) == expected


@pytest.mark.parametrize("form", ["csv", "db"])
def test_addresses_are_as_the_file_has_them(tmp_path: Path, form: str) -> None:
    path = leaking().csv(tmp_path) if form == "csv" else leaking().db(tmp_path)
    if form == "csv":
        Path(path).write_text(Path(path).read_text().replace("0x000000000000", "0x"))
    else:
        with contextlib.closing(sqlite3.connect(path)) as held, held:
            held.execute("UPDATE memscope_dump SET Ptr = replace(Ptr, '0x000000000000', '0x')")
    said = printed(check_leaks, path, "test", 0)
    assert said[-1] == "Direct Hal memory leak of 0.5 Mb(s) at 0x4000 in Index 5."


def test_dumps_of_early_releases_are_read(tmp_path: Path) -> None:
    path = Path(leaking().csv(tmp_path))
    expected = printed(check_leaks, str(path), "test", 0)
    lines = path.read_text().splitlines()
    frees = [k for k, text in enumerate(lines) if ",FREE," in text]
    for k in frees:
        lines[k] = lines[k].replace("size:", "size:-")
    lines = [text + (",More" if k == 0 else ",7") for k, text in enumerate(lines)]
    lines[0] = lines[0].replace("Device Id", "Device ID")
    path.write_bytes("".join(text + "\r\n" for text in lines).encode())
    assert frees
    assert ":-" in path.read_text()
    assert printed(check_leaks, str(path), "test", 0) == expected


@pytest.mark.parametrize("word", ["host", "cpu"])
def test_the_host_is_called_as_the_file_calls_it(tmp_path: Path, word: str) -> None:
    path = Path(leaking().csv(tmp_path))
    expected = [
        text.replace("device 0", f"device {word}")
        for text in printed(check_leaks, str(path), "test", 0)
    ]
    path.write_text(re.sub(r",0,(?=0x|N/A)", f",{word},", path.read_text()))
    assert printed(check_leaks, str(path), "test", 0) == expected


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
    assert said[1:] == [
        "ERROR: Device 0 has fewer than 3 data points. Please re-collect the data points.",
        "INFO: 2 of 3 marks with this message.",
    ]


def test_an_index_behind_the_marks_says_how_many_there_are(tmp_path: Path) -> None:
    said = printed(check_leaks, leaking().csv(tmp_path), "test", 1)
    assert said[1] == (
        "INFO: Start index 1 is out of bounds. Device 0 has a total of 3 MSTX events."
    )


def test_each_device_has_its_own_result_and_no_device_has_none(tmp_path: Path) -> None:
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
        "Direct Hal memory leak of 2.0 Mb(s) at 0x0000000000003000 in Index 4.",
        "Direct Hal memory leak of 0.5 Mb(s) at 0x0000000000004000 in Index 5.",
        "    a.py(1): f",
        "    b.py(2): g",
        "    lib.so(+0x1)",
        "Direct Pytorch Caching memory pool leak of 3.0 Mb(s) at 0x0000000000005000 in Index 6.",
        "====== SUMMARY: 5.5 Mb(s) leaked in 3 allocation(s) ======",
    ]


def test_a_broken_file_prints_nothing_and_names_the_row(tmp_path: Path) -> None:
    path = text_file(tmp_path / "x.csv", line(id="?"))
    with pytest.raises(DumpError, match="line 2: ID"):
        check_leaks(path, "test", 0)


def test_a_hostile_name_does_nothing_to_the_terminal(tmp_path: Path) -> None:
    path = text_file(tmp_path / "x.csv", line(device="\x1b[2J"))
    assert not any("\x1b" in said for said in printed(check_leaks, path, "test", 0))


class Told(NamedTuple):
    """An event of the definition."""

    what: str
    address: int
    kind: str
    pid: int
    device: str


some_events = st.lists(
    st.builds(
        Told,
        what=st.sampled_from(["malloc", "malloc", "free", "free", "shadow", "other"]),
        address=st.integers(1, 2),
        kind=st.sampled_from(["HAL", "HAL", "HAL", "PTA", "PTA_WORKSPACE", "ATB", "HOST"]),
        pid=st.sampled_from([100, 101]),
        device=st.sampled_from(["0", "0", "0", "1"]),
    ),
    max_size=12,
)
MARK = Told("mark", 1, "HAL", 100, "0")
told_events = st.lists(some_events, min_size=1, max_size=6).map(
    lambda parts: [one for part in parts for one in (*part, MARK)]
)
POOLS = {"PTA", "PTA_WORKSPACE", "ATB", "MINDSPORE"}


def as_rows(told: list[Told]) -> Story:
    """The events as rows; a mark is one of each device, with the same ID, or of none."""
    story = Story()
    for number, one in enumerate(told, 1):
        marked = ("0", "1") if number % 2 else ("N/A",)
        extra: dict[str, object] = {"shadow": "true"} if one.what == "shadow" else {}
        where = {"device": one.device, "pid": one.pid, "id": number}
        if one.what in {"mark", "other"}:
            for device in marked:
                story.add("MSTX", "Mark", "test" if one.what == "mark" else "testing",
                          **{**where, "device": device})  # fmt: skip
        elif one.what == "free":
            story.free(one.address, 8, one.kind)
        else:
            story.malloc(one.address, 8, one.kind, **extra)
        story.rows[-1] = story.rows[-1]._replace(**(
            where if one.what not in {"mark", "other"} else {"id": number}
        ))  # fmt: skip
    return story


def by_definition(told: list[Told], device: str, start: int, *, pools: bool) -> list[int] | None:
    """IDs of the leaks of a device; None: there is no such range."""
    marks = [k for k, one in enumerate(told, 1) if one.what == "mark"]
    if len(marks) < 3 or start + 3 > len(marks):
        return None
    begin, end, last = marks[start : start + 3]
    kinds = {"HAL"} | (POOLS if pools else set())
    return [
        k
        for k, one in enumerate(told, 1)
        if one.what == "malloc" and one.kind in kinds and one.device == device and begin <= k <= end
        and not any(
            other.what == "free" and k < j <= last and other[1:] == one[1:]
            for j, other in enumerate(told, 1)
        )
    ]  # fmt: skip


HELD = MARK._replace(what="malloc")
OF_BEFORE, FREED = HELD._replace(what="shadow"), HELD._replace(what="free")


@example([MARK, HELD, HELD._replace(kind="PTA"), MARK, FREED._replace(kind="PTA"), MARK],
         (0, True), "csv", Random(1))  # fmt: skip
@example([MARK, HELD, MARK, FREED._replace(pid=101), MARK], (0, False), "db", Random(1))
@example([MARK, OF_BEFORE, MARK, MARK], (0, False), "csv", Random(1))
@given(
    told_events,
    st.tuples(st.integers(0, 2), st.booleans()),
    st.sampled_from(["csv", "db"]),
    st.randoms(),
)
def test_leaks_are_those_of_the_definition(
    tmp_path_factory: pytest.TempPathFactory,
    told: list[Told],
    asked: tuple[int, bool],
    form: str,
    random: Random,
) -> None:
    """Pools, addresses that come again, blocks from before, devices and processes in one file."""
    start_index, pools = asked
    story = as_rows(told)
    random.shuffle(story.rows)
    rows = read_rows(getattr(story, form)(tmp_path_factory.mktemp("x")))
    found = {
        one.device: None if one.range is None else rows.id[one.blocks].tolist()
        for one in find_leaks(rows, "test", start_index, pools=pools)
    }
    assert found == {
        device: by_definition(told, device, start_index, pools=pools) for device in found
    }
    assert set(found) == {row.device for row in story.rows} - {"N/A"}
