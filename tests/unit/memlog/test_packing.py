"""Packed columns and blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.memlog.blocks import (
    HEAD_BYTES,
    BadBlockError,
    BlockKind,
    Codec,
    pack_block,
    parse_head,
    unpack,
)
from mem_parser.memlog.packing import (
    HEAD,
    MOST_ENTRIES,
    BadColumnError,
    Mode,
    pack_column,
    unpack_column,
)
from mem_parser.memlog.sizeclasses import size_classes

numbers = st.integers(0, (1 << 64) - 1) | st.integers(0, 300)


@given(st.lists(numbers, max_size=40), st.sampled_from(Mode), st.binary(max_size=9))
def test_a_column_reads_back_as_it_was(values: list[int], mode: Mode, behind: bytes) -> None:
    packed = pack_column(np.array(values, dtype=np.uint64), mode)
    found, end = unpack_column(b"head" + packed + behind, 4, len(values))
    assert found.tolist() == values
    assert end == 4 + len(packed)


@pytest.mark.parametrize(("values", "width"), [
    ([7, 7, 7], 0), ([0, 16, 4096], 2), ([0, 1, 255], 1), ([5, 5 + 256 * 3], 1),
])  # fmt: skip
def test_a_column_is_as_narrow_as_its_numbers_allow(values: list[int], width: int) -> None:
    packed = pack_column(np.array(values, dtype=np.uint64))
    assert len(packed) == HEAD.size + width * len(values)


@given(st.binary(max_size=80))
def test_any_bytes_are_a_column_or_an_error(data: bytes) -> None:
    try:
        values, end = unpack_column(data, 0)
    except BadColumnError:
        return
    assert len(values) <= MOST_ENTRIES
    assert end <= len(data)


def test_a_column_that_costs_nothing_in_the_file_is_bounded() -> None:
    with pytest.raises(BadColumnError):
        unpack_column(HEAD.pack(0, 0, 0, MOST_ENTRIES + 1, 7), 0)


@given(st.binary(max_size=3000), st.integers(0, 9), st.integers(-5, 1 << 62))
def test_a_block_reads_back_as_it_was(payload: bytes, rows: int, first: int) -> None:
    block = pack_block(BlockKind.END, payload, rows=rows, first=first, last=1 << 62)
    head = parse_head(block)
    assert head is not None
    assert (head.kind, head.rows, head.first, head.last) == (9, rows, first, 1 << 62)
    assert unpack(head, block[HEAD_BYTES:]) == payload


def test_every_flipped_bit_of_a_block_is_noticed() -> None:
    block = pack_block(BlockKind.END, b"some text some text some text", rows=1, first=0, last=0)
    for at in range(len(block) * 8):
        changed = bytearray(block)
        changed[at // 8] ^= 1 << at % 8
        head = parse_head(bytes(changed))
        if head is not None:
            with pytest.raises(BadBlockError):
                unpack(head, bytes(changed[HEAD_BYTES:]))


def test_a_forged_block_cannot_grow() -> None:
    block = pack_block(BlockKind.END, bytes(1 << 20), rows=1, first=0, last=0)
    head = parse_head(block)
    assert head is not None
    assert head.codec == Codec.ZSTD
    assert head.stored_bytes < 1000
    for raw in (10, (1 << 20) - 1, (1 << 20) + 1, 1 << 31):
        with pytest.raises(BadBlockError):
            unpack(head._replace(raw_bytes=raw), block[HEAD_BYTES:])


def sampler_class(size: int) -> int:
    """As sampler/core/site_key.h computes it."""
    if size < 128:
        return size
    shift = size.bit_length() - 1 - 6
    return 64 * shift + (size >> shift)


edges = st.builds(lambda e, d: max((1 << e) + d, 0), st.integers(0, 63), st.integers(-3, 3))


@given(st.lists(numbers | edges, max_size=30))
def test_size_classes_are_those_of_the_sampler(sizes: list[int]) -> None:
    found = size_classes(np.array(sizes, dtype=np.uint64)).tolist()
    assert found == [sampler_class(size) for size in sizes]
