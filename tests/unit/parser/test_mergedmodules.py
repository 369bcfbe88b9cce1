"""One module for every file that merged profiles map: places that mean the same, no overlap."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.mergedmodules import MergedModules
from mem_parser.model import ExecRange, Module


def module(
    start: int, size: int = 0x1000, *, path: str = "/a.so", build_id: str = "", offset: int = 0,
    bias: int | None = None,
) -> Module:  # fmt: skip
    return Module(path, [ExecRange(start, start + size, offset)], build_id, bias)


def place(merged: MergedModules, of: Module, *addresses: int) -> tuple[int, list[int]]:
    found = merged.place(of, np.array(addresses, np.uint64), of.path)
    assert found is not None
    return found[0], found[1].tolist()


def test_one_file_at_two_places_is_one_module_and_one_place() -> None:
    merged = MergedModules()
    first = place(merged, module(0x7000, build_id="aa", bias=0x7000), 0x7010)
    again = place(merged, module(0x9000, build_id="aa", bias=0x9000, path="/b.so"), 0x9010)
    assert first == again == (0, [0x10])
    assert place(merged, module(0x7000, build_id="bb", bias=0x7000), 0x7010)[0] == 1
    assert place(merged, module(0x7000), 0x7010)[0] == 2
    assert place(merged, module(0x5000), 0x5010) == (2, [0x10])


def test_a_module_without_a_build_id_is_that_of_the_callers_name() -> None:
    merged = MergedModules()
    at = np.array([0x7010], np.uint64)
    one, other = module(0x7000, path=""), module(0x7000, build_id="aa")
    unnamed = [merged.place(one, at, name) for name in ("1:", "2:", "1:")]
    built = [merged.place(other, at, name) for name in ("a", "b")]
    assert [found and found[0] for found in unnamed + built] == [0, 1, 0, 2, 2]


def test_a_program_that_is_not_moved_stays_where_it_is() -> None:
    merged = MergedModules()
    fixed = module(0x400000, offset=0x1000, bias=0, path="/prog", build_id="aa")
    index, [at] = place(merged, fixed, 0x400123)
    [found] = merged.finish()
    assert merged.base(index) + at == 0x400123
    assert (found.bias, found.ranges) == (0, [ExecRange(0x400000, 0x401000, 0x1000)])


@pytest.mark.parametrize(
    "of", [module(0x1000, 1 << 37), module(0x1000, offset=1 << 40), module(0x1000, bias=0x9000)]
)
def test_a_range_that_no_file_can_have_is_not_used(of: Module) -> None:
    merged = MergedModules()
    if of.bias is not None:
        of.ranges.append(ExecRange(0x2000, 0x3000, 0x8000))  # two distances: places are addresses
    assert merged.place(of, np.array([0x1000], np.uint64), of.path) is None


starts = st.integers(1, 1 << 30).map(lambda k: k << 12)


@given(
    st.lists(
        st.tuples(starts, st.integers(1, 64), st.sampled_from("abc"), st.sampled_from([0, None])),
        min_size=1, max_size=8,
    )
)  # fmt: skip
def test_no_two_modules_share_an_address_and_every_place_is_in_its_own(
    given_modules: list[tuple[int, int, str, int | None]],
) -> None:
    merged = MergedModules()
    placed = []
    for start, pages, name, bias in given_modules:
        one = module(start, pages << 12, path=f"/{name}", build_id=name * 2, bias=bias)
        found = merged.place(one, np.array([start, start + (pages << 12) - 1], np.uint64), one.path)
        if found is not None:
            placed.append((found[0], found[1].tolist()))
    modules = merged.finish()
    ranges = sorted((r.start, r.end, k) for k, m in enumerate(modules) for r in m.ranges)
    for (_, end, one), (start, _, other) in pairwise(ranges):
        assert one == other or end <= start
    for index, places in placed:
        for at in places:
            address = merged.base(index) + at
            assert any(r.start <= address < r.end for r in modules[index].ranges)
