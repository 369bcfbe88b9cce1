"""Lines of /proc/PID/maps as modules: one per loading of a file, whatever its name."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.allowance import AllowanceExceeded, MemoryAllowance
from mem_parser.maps import clean_path, parse_maps, undeleted


def line(
    start: int, end: int, path: str, *, offset: int = 0, perms: str = "r-xp", inode: int = 7
) -> str:
    return f"{start:x}-{end:x} {perms} {offset:08x} 08:01 {inode}     {path}"


def test_the_mappings_of_this_process_are_its_files() -> None:
    lines = Path("/proc/self/maps").read_text().splitlines()
    found = parse_maps(lines)
    expected = {x.split(maxsplit=5)[5] for x in lines if "x" in x.split()[1] and "/" in x}
    assert {m.path for m in found if m.path.startswith("/")} == expected
    assert sum(len(m.ranges) for m in found) == sum(
        "x" in x.split()[1] and len(x.split()) > 5 for x in lines
    )


def test_ranges_of_one_loading_are_one_module_and_a_second_loading_another() -> None:
    found = parse_maps(
        [
            line(0x1000, 0x2000, "/a.so", offset=0x1000), line(0x2000, 0x3000, "/b.so"),
            line(0x5000, 0x6000, "/a.so", offset=0x4000),
            line(0x9000, 0xA000, "/a.so", offset=0x1000),
            line(0xB000, 0xC000, "/a.so", offset=0x1000, inode=8),
        ]
    )  # fmt: skip
    assert [(m.path, [r.start for r in m.ranges]) for m in found] == [
        ("/a.so", [0x1000, 0x5000]), ("/b.so", [0x2000]), ("/a.so", [0x9000]), ("/a.so", [0xB000]),
    ]  # fmt: skip


@pytest.mark.parametrize("text", [
    line(0x1000, 0x2000, "/a.so", perms="rw-p"), line(0x1000, 0x2000, ""),
    line(0x1000, 0x2000, "//anon"), line(0x2000, 0x1000, "/a.so"), line(0x1000, 0x1000, "/a.so"),
    "no line of maps at all", "1000-2000: ", "12345678901234567-2 r-xp 0 0:0 0 /a.so",
])  # fmt: skip
def test_what_maps_no_code_of_a_file_is_no_module(text: str) -> None:
    assert parse_maps([text]) == []


def test_brief_lines_of_jemalloc_are_modules_too() -> None:
    [module] = parse_maps(["400000-401000: /opt/a program"])
    assert (module.path, module.ranges[0].start, module.ranges[0].end) == (
        "/opt/a program", 0x400000, 0x401000)  # fmt: skip


@given(st.text(st.characters(exclude_characters="\\", min_codepoint=33), min_size=1, max_size=20))
def test_a_path_is_whole_whatever_is_in_it(name: str) -> None:
    path = f"/x {name}"
    escaped = path.replace("\n", "\\012")
    assert clean_path(escaped) == (path.removesuffix(" (deleted)"), path.endswith(" (deleted)"))


def test_one_mark_of_deletion_is_taken_off_and_kept_as_a_fact() -> None:
    [module] = parse_maps([line(0x1000, 0x2000, "/a\\012b.so (deleted)")])
    assert (module.path, module.deleted) == ("/a\nb.so", True)
    assert undeleted("/a (deleted) (deleted)") == ("/a (deleted)", True)
    assert undeleted("/a") == ("/a", False)


def test_lines_without_end_cost_no_more_than_their_allowance() -> None:
    lines = (line(k * 4096, (k + 1) * 4096, f"/{k}.so") for k in range(1 << 20))
    with pytest.raises(AllowanceExceeded):
        parse_maps(lines, MemoryAllowance("x", 0, floor_bytes=1 << 16))
