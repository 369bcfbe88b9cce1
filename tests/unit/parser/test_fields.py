"""Typed look-ups in JSON objects of unknown origin."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.heapfile.fields import Fields

ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.integers()),
    st.dictionaries(st.text(), st.integers()),
)  # fmt: skip


@given(ANYTHING)
def test_a_value_has_its_type_or_is_absent(value: Any) -> None:
    fields = Fields({"x": value})
    whole, number = fields.optional_int("x"), fields.optional_float("x")
    assert whole is None or (type(whole) is int and abs(whole) < 1 << 64)
    assert number is None or (type(number) is float and math.isfinite(number))
    assert fields.optional_bool("x") in (None, True, False)
    assert isinstance(fields.text("x"), str)
    assert isinstance(fields.items("x"), list)
    assert isinstance(fields.mapping("x"), dict)


@pytest.mark.parametrize("value", [True, "1", 1.5, None, 1 << 64, -(1 << 64), [1]])
def test_what_is_no_whole_number_counts_as_absent(value: Any) -> None:
    assert Fields({"x": value}).optional_int("x") is None
    assert Fields({"x": value}).integer("x") == 0


@pytest.mark.parametrize("value", [math.nan, math.inf, True, "2", 1 << 64])
def test_what_is_no_finite_number_counts_as_absent(value: Any) -> None:
    assert Fields({"x": value}).optional_float("x") is None
    assert Fields({"x": value}).real("x") == 0.0


@pytest.mark.parametrize(("text", "found"), [("AbCd", "abcd"), ("abc", ""), ("zz", ""), ("", "")])
def test_a_build_id_is_whole_bytes(text: str, found: str) -> None:
    assert Fields({"x": text}).hex_text("x") == found
