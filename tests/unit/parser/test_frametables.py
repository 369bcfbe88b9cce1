"""Stacks and frames as tables, against the names that reports show."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given

from heapfiles import HOOK, HeapFile, Record
from mem_parser.model import Profile
from mem_parser.readers import read_bytes
from mem_parser.tables.source import ProfileSource
from strategies import heap_files
from tabled import log_tables, names, rows
from timelog import write_log


def source(file: HeapFile) -> ProfileSource:
    profile: Profile = read_bytes(file.data, "x.heap")
    return ProfileSource("x.heap", profile, names)


@given(heap_files)
def test_frames_are_the_frames_of_the_profile_with_their_addresses(file: HeapFile) -> None:
    tabled = source(file)
    stacks = tabled.profiles[0].stacks
    found: dict[int, list[tuple[int, int | None, str]]] = {}
    for row in rows(tabled, "frames"):
        frames = found.setdefault(row["stack"], [])
        assert row["frame"] == len(frames)
        frames.append((row["frame"], row["address"], row["function"]))
    depth = {row["stack"]: row["depth"] for row in rows(tabled, "stacks")}
    assert depth == {stack: len(frames) for stack, frames in found.items()}
    for stack, frames in found.items():
        own = stacks.frames[stacks.offsets[stack] : stacks.offsets[stack + 1]].tolist()
        if frames[0][2].startswith("[stack lost"):
            assert frames == [(0, None, frames[0][2])]
        else:
            # A return address is behind its call; the innermost frame has none.
            expected = [address - (k > 0) for k, address in enumerate(own)]
            assert [address or 0 for _, address, _ in frames] == expected


def test_a_stack_that_was_cut_has_a_frame_more_without_an_address() -> None:
    tabled = source(HeapFile([Record((HOOK, 0x5000), 1, 10, cut=True)]))
    [stack] = rows(tabled, "stacks")
    assert (stack["is_cut"], stack["depth"]) == (True, 3)
    assert [row["address"] for row in rows(tabled, "frames")] == [HOOK, 0x4FFF, None]
    assert stack["calls"].split(";")[0] == "[cut]"


def test_a_frame_of_a_module_has_its_byte_in_the_file() -> None:
    maps = ("00400000-00500000 r-xp 00002000 08:01 7  /usr/bin/prog",)
    tabled = source(HeapFile([Record((HOOK, 0x40_1235), 1, 10)], maps=maps))
    frame = rows(tabled, "frames")[1]
    assert (frame["module"], frame["file_offset"]) == ("/usr/bin/prog", 0x3234)


def test_frames_of_python_have_their_lines_and_no_address(tmp_path: Path) -> None:
    with log_tables([write_log(tmp_path / "a.memlog")]) as tables:
        found = [row for row in rows(tables, "frames") if row["python"]]
        stacks = rows(tables, "stacks")
    assert [(r["function"], r["source"], r["line"], r["address"]) for r in found] == [
        ("load (shop.py)", "shop.py", 3, None),
        ("churn (shop.py)", "shop.py", 7, None),
    ]
    assert [row["calls"].split(";")[0] for row in stacks] == ["load (shop.py)", "churn (shop.py)"]
