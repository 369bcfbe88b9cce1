"""Records of text profiles as columns: interned stacks, bounded counts, an allowance."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.allowance import AllowanceExceeded, MemoryAllowance
from mem_parser.errors import InputFileError
from mem_parser.readers.build import COUNT_LIMIT, ProfileBuilder


def builder(floor_bytes: int = 1 << 20) -> ProfileBuilder:
    return ProfileBuilder("x.heap", MemoryAllowance("x.heap", 0, floor_bytes))


@given(st.lists(st.lists(st.integers(0, (1 << 64) - 1), max_size=5), max_size=12))
def test_stacks_are_kept_once_and_whole(stacks: list[list[int]]) -> None:
    found = builder()
    texts = [" ".join(f"{address:#x}" for address in stack).encode() for stack in stacks]
    numbers = [found.intern(text) for text in texts]
    table = found.stacks(leaf_exact=True)
    assert len(table) == len(set(texts))
    for number, stack in zip(numbers, stacks, strict=True):
        low, high = table.offsets[number : number + 2]
        assert table.frames[low:high].tolist() == stack


def test_an_address_that_is_none_is_left_out_and_counted() -> None:
    found = builder()
    found.intern(b"0x10 zz -1 0x10000000000000000 20")
    assert found.bad_addresses == 3
    assert found.stacks(leaf_exact=False).frames.tolist() == [0x10, 0x20]


def test_sites_are_in_their_order_and_threads_belong_to_the_latest() -> None:
    found = builder()
    found.add_thread(9, 1, 1)  # before any site
    found.add(0, (1, 2, 3, 4), 1)
    found.add(0, (5, 6, 7, 8), 2)
    found.add_thread(4, 2, 20)
    found.add_thread(5, 0, 20)
    found.add_thread(5, 1, -1)
    sites, threads = found.sites(), found.thread_blocks()
    assert len(found) == len(sites) == 2
    assert [sites.inuse_blocks.tolist(), sites.alloc_bytes.tolist()] == [[1, 5], [4, 8]]
    assert threads is not None
    assert (threads.site.tolist(), threads.row.tolist(), threads.bytes.tolist()) == ([1], [4], [20])


def test_without_threads_there_is_no_table_of_them() -> None:
    assert builder().thread_blocks() is None
    assert len(builder().sites()) == 0


@pytest.mark.parametrize("k", range(4))
@pytest.mark.parametrize("value", [COUNT_LIMIT + 1, -COUNT_LIMIT - 1, 1 << 80])
def test_a_count_that_no_machine_can_have_names_its_line(k: int, value: int) -> None:
    counts = [0, 0, 0, 0]
    counts[k] = value
    with pytest.raises(InputFileError, match=r"x\.heap, line 7: a count is too large"):
        builder().add(0, (counts[0], counts[1], counts[2], counts[3]), 7)


def test_what_is_taken_counts_against_the_allowance() -> None:
    found = builder(floor_bytes=1000)
    with pytest.raises(AllowanceExceeded):
        found.intern(b"0x1 " * 100)
    sites = builder(floor_bytes=1000)
    while len(sites) < 6:
        sites.add(0, (1, 1, 1, 1), len(sites))
    with pytest.raises(AllowanceExceeded):
        sites.add(0, (1, 1, 1, 1), 7)
    assert len(sites) == 6
