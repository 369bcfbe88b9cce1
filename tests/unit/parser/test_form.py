"""The two forms of a file: which one is written, and that both say the same."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heapfiles import HeapFile, Record
from mem_parser.heapfile.form import PLAIN_MOST_BYTES, Form, in_form
from mem_parser.heapfile.writer import heap_parts, write_heap
from mem_parser.readers import read_bytes

MIB = 1 << 20


@pytest.mark.parametrize("size", [0, 1, PLAIN_MOST_BYTES])
def test_a_small_file_stays_text(size: int) -> None:
    assert b"".join(in_form([b"x" * size], Form.AUTO)) == b"x" * size


def test_a_file_above_the_limit_is_packed_and_holds_the_same_text() -> None:
    text = [b"x" * PLAIN_MOST_BYTES, b"y", b"z" * MIB]
    packed = b"".join(in_form(text, Form.AUTO))
    assert gzip.decompress(packed) == b"".join(text)
    assert len(packed) < MIB


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_a_chosen_form_holds_whatever_the_size(parts: list[bytes]) -> None:
    assert b"".join(in_form(parts, Form.PLAIN)) == b"".join(parts)
    assert gzip.decompress(b"".join(in_form(parts, Form.GZIP))) == b"".join(parts)


def test_equal_texts_pack_equally() -> None:
    first, second = (b"".join(in_form([b"a" * MIB], Form.GZIP)) for _ in range(2))
    assert first == second


def test_a_file_of_any_size_is_packed_in_little_memory() -> None:
    def text() -> Iterator[bytes]:
        for k in range(200):
            yield bytes([k]) * MIB

    tracemalloc.start()
    try:
        size = sum(len(part) for part in in_form(text(), Form.AUTO))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size < 2 * MIB
    assert most < 3 * PLAIN_MOST_BYTES


def test_a_profile_is_the_same_text_in_both_forms() -> None:
    file = HeapFile([Record((0x1000, 0x2000 + k), 3, 300) for k in range(40_000)])
    profile = read_bytes(file.data, "x")
    packed = b"".join(heap_parts(profile, form=Form.GZIP))
    assert gzip.decompress(packed) == write_heap(profile)
