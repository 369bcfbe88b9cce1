"""Numbers of many fields at once are those that Python reads of each."""

from __future__ import annotations

import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.memscope.fieldbytes import DECIMAL_DIGITS, FieldBytes

_HEX = re.compile(rb"0x[0-9a-fA-F]{1,16}")
_DECIMAL = re.compile(rb"[0-9]{1,%d}" % DECIMAL_DIGITS)


def places(fields: list[bytes]) -> tuple[FieldBytes, np.ndarray, np.ndarray]:
    end = np.cumsum([len(field) for field in fields], dtype=np.int64)
    begin = end - np.array([len(field) for field in fields], dtype=np.int64)
    return FieldBytes(b"".join(fields)), begin, end


def check_hexadecimals(fields: list[bytes]) -> None:
    held, begin, end = places(fields)
    values, are = held.hexadecimals(begin, end)
    assert are.tolist() == [_HEX.fullmatch(field) is not None for field in fields]
    assert values.tolist() == [int(field, 16) if _HEX.fullmatch(field) else 0 for field in fields]


def test_every_byte_is_a_digit_or_none() -> None:
    every = [bytes([byte]) for byte in range(256)]
    for before, behind in ((b"", b""), (b"1", b""), (b"", b"f" * 7), (b"Ab", b"0" * 13)):
        check_hexadecimals([b"0x" + before + byte + behind for byte in every])


def test_a_wrong_byte_does_not_hide_behind_its_neighbour() -> None:
    every = [bytes([one, two]) for one in range(0, 256, 3) for two in range(256)]
    check_hexadecimals([b"0x00" + pair + b"00" for pair in every])


@given(st.lists(st.one_of(
    st.integers(0, (1 << 64) - 1).map(lambda number: hex(number).encode()),
    st.integers(0, (1 << 64) - 1).map(lambda number: b"0x%016X" % number),
    st.text("0123456789abcdefgxAFG:/@`", max_size=20).map(str.encode),
    st.binary(max_size=20),
), max_size=30))  # fmt: skip
def test_addresses_are_those_of_python(fields: list[bytes]) -> None:
    check_hexadecimals(fields)


@given(st.lists(st.one_of(
    st.integers(0, 10**19).map(lambda number: b"%d" % number), st.binary(max_size=20)
), max_size=30))  # fmt: skip
def test_decimals_are_those_of_python(fields: list[bytes]) -> None:
    held, begin, end = places(fields)
    values, are = held.decimals(begin, end)
    assert are.tolist() == [_DECIMAL.fullmatch(field) is not None for field in fields]
    assert values.tolist() == [int(field) if _DECIMAL.fullmatch(field) else 0 for field in fields]
