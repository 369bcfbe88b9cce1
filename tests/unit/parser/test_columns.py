"""Packed columns: unpacked at a look-up, within an allowance, and refused where forged."""

from __future__ import annotations

import base64
import zlib
from typing import NoReturn

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.allowance import AllowanceExceeded, MemoryAllowance
from mem_parser.heapfile.columns import DTYPES, Columns, PackedColumn


class Damaged(Exception):
    """What `fail` raises here."""


def fail(what: str) -> NoReturn:
    raise Damaged(what)


def columns(
    text: bytes, kind: bytes = b"<u8", count: int = 3, floor_bytes: int = 1 << 20
) -> Columns:
    """One column "x" that is all of ``text``."""
    found = Columns(text, MemoryAllowance("f", 0, floor_bytes), fail)
    found.add("x", PackedColumn(DTYPES[kind], count, 0, len(text)))
    return found


def packed(raw: bytes) -> bytes:
    return base64.b64encode(zlib.compress(raw))


@pytest.mark.parametrize("kind", DTYPES)
def test_a_column_is_what_was_packed_however_its_lines_are_cut(kind: bytes) -> None:
    values = np.array([0, 1, 200], DTYPES[kind])
    text = packed(values.tobytes())
    lines = b"\n".join(b"%| " + text[k : k + 5] for k in range(0, len(text), 5))
    assert columns(lines.rstrip(b"="), kind)["x"].tolist() == values.tolist()


@given(st.lists(st.integers(0, (1 << 64) - 1), max_size=50), st.integers(-3, 3))
def test_only_the_number_of_entries_that_it_says_is_accepted(values: list[int], more: int) -> None:
    found = columns(packed(np.array(values, "<u8").tobytes()), count=max(len(values) + more, 0))
    if (
        more == 0
        or len(values) + more < 0 == len(values)
        or max(len(values) + more, 0) == len(values)
    ):
        assert found["x"].tolist() == values
    else:
        with pytest.raises(Damaged, match="column x"):
            found["x"]


@pytest.mark.parametrize("text", [b"!!!!", b"AAAA", b"A", packed(b"12345678" * 3)[:-6]])
def test_what_cannot_be_unpacked_is_damaged(text: bytes) -> None:
    with pytest.raises(Damaged, match="column x"):
        columns(text)["x"]


def test_a_claim_that_no_packing_can_meet_costs_nothing() -> None:
    with pytest.raises(Damaged, match="cannot have"):
        columns(packed(bytes(24)), count=1 << 40)["x"]


def test_a_column_that_is_never_asked_for_costs_nothing() -> None:
    allowance = MemoryAllowance("f", 0, 1 << 20)
    found = Columns(b"nonsense", allowance, fail)
    found.add("x", PackedColumn(DTYPES[b"<u8"], 1 << 60, 0, 8))
    assert allowance.left_bytes == 1 << 20
    assert ("x" in found, "y" in found, list(found), len(found)) == (True, False, ["x"], 1)
    with pytest.raises(KeyError):
        found["y"]


def test_zeros_that_unpack_to_more_than_the_file_may_are_refused() -> None:
    text = packed(bytes(8 << 17))
    assert len(columns(text, count=1 << 17, floor_bytes=1 << 24)["x"]) == 1 << 17
    with pytest.raises(AllowanceExceeded):
        columns(text, count=1 << 17, floor_bytes=1 << 20)["x"]


def test_of_two_columns_with_one_name_the_later_counts() -> None:
    found = columns(packed(np.array([7], "<u8").tobytes()), count=1)
    found.add("x", PackedColumn(DTYPES[b"<u8"], 0, 0, 0))
    assert len(found) == 1
    with pytest.raises((Damaged, AssertionError)):
        assert found["x"].tolist() == [7]
