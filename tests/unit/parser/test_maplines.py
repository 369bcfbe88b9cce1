"""Modules as lines of /proc/PID/maps."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mem_parser.heapfile.maplines import module_lines
from mem_parser.maps import parse_maps
from mem_parser.model import ExecRange, Module

RANGES = st.tuples(st.integers(0, 60), st.integers(1, 12)).map(lambda r: (r[0], r[0] + r[1]))


def module(path: str, *ranges: tuple[int, int]) -> Module:
    return Module(path, [ExecRange(a << 12, b << 12, 0x1000) for a, b in ranges])


def read_back(lines: list[bytes]) -> list[Module]:
    return parse_maps(line.decode("utf-8", "surrogateescape") for line in lines)


def test_a_line_is_one_that_the_kernel_could_have_written() -> None:
    [line] = module_lines([module("/opt/a b.so", (4, 6))])
    assert line == b"4000-6000 r-xp 00001000 00:00 0".ljust(73) + b"/opt/a b.so"


def test_the_module_that_was_loaded_last_gets_a_range_that_two_had() -> None:
    lines = module_lines([module("/old.so", (1, 3), (8, 9)), module("/new.so", (2, 4))])
    assert [m.path for m in read_back(lines)] == ["/new.so", "/old.so"]
    assert b"8000-9000" in lines[1]


def test_ranges_that_are_taken_are_left_out() -> None:
    assert module_lines([module("/a.so", (1, 3))], [(0x2FFF, 0x3000)]) == []
    assert len(module_lines([module("/a.so", (1, 3))], [(0x3000, 0x4000)])) == 1


def test_paths_with_newlines_and_bytes_of_any_kind_are_one_line() -> None:
    path = "/a\nb\x1b[31m\udcff.so"
    [line] = module_lines([module(path, (1, 2))])
    assert b"\n" not in line
    assert b"\x1b" not in line
    assert line.endswith(b"\xff.so")


@given(st.lists(RANGES, max_size=12), st.lists(st.lists(RANGES, max_size=4), max_size=8))
def test_no_line_touches_another_or_what_is_taken(
    taken: list[tuple[int, int]], every: list[list[tuple[int, int]]]
) -> None:
    modules = [module(f"/{k}.so", *ranges) for k, ranges in enumerate(every)]
    busy = [(a << 12, b << 12) for a, b in taken]
    found = [r for m in read_back(module_lines(modules, busy)) for r in m.ranges]
    assert found == sorted(found, key=lambda r: r.start)
    pages = [page for r in found for page in range(r.start >> 12, r.end >> 12)]
    assert len(pages) == len(set(pages))
    assert not any(a <= page << 12 < b for page in pages for a, b in busy)
    # A range is left out only where something else is.
    covered = set(pages) | {page for a, b in taken for page in range(a, b)}
    assert all(covered & set(range(a, b)) for ranges in every for a, b in ranges)
