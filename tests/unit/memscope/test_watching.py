"""The check sum of watched blocks, and names of operators."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_profiler.memscope import watching as checksum
from mem_profiler.memscope.watching import by_table, crc64, is_operator


def by_division(data: bytes) -> int:
    """The definition: the rest of a division of polynomials, by bits."""
    value = (1 << 64) - 1
    for byte in data:
        for bit in range(7, -1, -1):
            top = value >> 63 ^ byte >> bit & 1
            value = value << 1 & (1 << 64) - 1
            value ^= 0x42F0E1EBA9EA3693 if top else 0
    return value ^ (1 << 64) - 1


def test_the_sum_of_the_nine_digits_is_the_published_one() -> None:
    assert by_division(b"123456789") == 0x62EC59E3F1A4F00A
    assert crc64(b"123456789") == by_table(b"123456789") == 0x62EC59E3F1A4F00A


@given(st.binary(max_size=200), st.integers(1, 50))
def test_library_and_table_and_definition_agree(data: bytes, piece: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checksum, "_PIECE_BYTES", piece)
        assert crc64(data) == by_table(data) == by_division(data)


def test_without_the_library_the_table_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksum, "_library", lambda: None)
    assert crc64(b"123456789") == 0x62EC59E3F1A4F00A


@pytest.mark.parametrize(
    "wanted", ["aten.add.Tensor", "aten::add", "aten.add", "add", "add.Tensor"]
)
def test_an_operator_may_be_named_in_several_ways(wanted: str) -> None:
    assert is_operator(wanted, "aten.add.Tensor")
    assert not is_operator(wanted, "aten.addmm.default")
    assert not is_operator(wanted, "aten.radd.Tensor")
