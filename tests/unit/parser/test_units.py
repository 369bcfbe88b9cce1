"""Numbers as reports print them: no digit lost, no exponent, a margin in the value's own unit."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mem_parser.estimate import Estimate, unseen_bytes, unseen_objects
from mem_parser.model import Unit
from mem_parser.units import (
    counted,
    format_bytes,
    format_change,
    format_total,
    format_value,
    percent,
    significant,
)

POWERS = {name: 1024.0**k for k, name in enumerate(("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"))}


@pytest.mark.parametrize(("value", "text"), [
    (0, "0.000"), (1.5, "1.500"), (9.9999, "10.00"), (999.96, "1,000"), (123456.7, "123,457"),
    (0.012344, "0.01234"), (-2.5, "-2.500"), (math.nan, "?"), (math.inf, "?"),
])  # fmt: skip
def test_four_digits_count(value: float, text: str) -> None:
    assert significant(value) == text


@given(st.floats(1e-8, 1e15))
def test_what_is_printed_is_the_number_to_four_digits(value: float) -> None:
    text = significant(value)
    assert "e" not in text
    assert float(text.replace(",", "")) == pytest.approx(value, rel=5.1e-4)


@given(st.floats(0, 2.0**69))
def test_a_size_reads_back_and_is_below_a_thousand_and_24(value: float) -> None:
    number, unit = format_bytes(value).split(" ")
    size = float(number.replace(",", ""))
    assert size * POWERS[unit] == pytest.approx(value, rel=5.1e-4, abs=0.5)
    assert size < 1024 or unit == "EiB"


@pytest.mark.parametrize(("value", "text"), [
    (17, "17 B"), (1023, "1,023 B"), (1023.99, "1.000 KiB"), (1536, "1.500 KiB"),
    (1048570, "1.000 MiB"), (-2048, "-2.000 KiB"), (2.0**80, "1,048,576 EiB"), (math.nan, "?"),
])  # fmt: skip
def test_sizes_change_their_unit_where_they_would_round_to_the_next(
    value: float, text: str
) -> None:
    assert format_bytes(value) == text


def test_objects_are_whole_and_changes_have_a_sign() -> None:
    assert format_value(1e6, Unit.OBJECTS) == "1,000,000"
    assert format_change(3 << 20, Unit.SPACE) == "+3.000 MiB"
    assert format_change(-17, Unit.OBJECTS) == "-17"
    assert format_change(0, Unit.OBJECTS) == "+0"


@pytest.mark.parametrize(("estimate", "unit", "text"), [
    (Estimate(225 << 20, 1 << 18, 9), Unit.SPACE, "225.0 MiB"),
    (Estimate(5000, 0.2, 9), Unit.SPACE, "4.883 KiB"),
    (Estimate(5000, math.nan, 9), Unit.SPACE, "4.883 KiB"),
    (Estimate(225 << 20, 1 << 21, 9), Unit.SPACE, "225.0 MiB ± 3.9 MiB (95 %)"),
    (Estimate(7, 2, 7), Unit.OBJECTS, "7 blocks ± 5 blocks (95 %)"),
    (Estimate(1, 0.0, 1, unseen_objects(4096)), Unit.OBJECTS, "1 block (at least 1, 95 %)"),
    (Estimate(30 << 20, 0.0, 1, unseen_bytes(1000)), Unit.SPACE, "30.00 MiB"),
    (Estimate(1 << 20, 0.0, 1, unseen_bytes(1 << 15)), Unit.SPACE,
     "1.000 MiB (1.00–1.11 MiB, 95 %)"),
    (Estimate(5 * 4096.0, 5**0.5 * 4096, 5, unseen_bytes(4096)), Unit.SPACE,
     "20.00 KiB (6.4–44 KiB, 95 %)"),
    (Estimate(0.0, 1.0, 3, unseen_bytes(1000)), Unit.SPACE, "0 B"),
])  # fmt: skip
def test_a_total_has_its_margin_in_its_own_unit(estimate: Estimate, unit: Unit, text: str) -> None:
    assert format_total(estimate, unit) == text


@example(656774945658198.0, 2.220446049250313e-16)
@given(st.floats(1, 1e15), st.floats(0, 1))
def test_an_error_reads_back_unless_it_is_below_one_percent(value: float, share: float) -> None:
    estimate = Estimate(value, value * share, 9)
    _, _, *error = format_total(estimate, Unit.SPACE).split(" ", 2)
    assert bool(error) == (estimate.margin95 > 0.5 and estimate.margin95 >= 0.01 * value)
    if not error:
        return
    found = re.fullmatch(r"(?:± |\(([\d.,]+)–)([\d.,]+) (\w+)(?:, | \()95 %\)", error[0])
    assert found is not None, error
    ends = (float((end or "0").replace(",", "")) for end in found.groups()[:2])
    least, most = (end * POWERS[found[3]] for end in ends)
    lower, upper = estimate.interval95
    if error[0].startswith("±"):
        assert most == pytest.approx(estimate.margin95, rel=0.051)
    else:
        assert (least, most) == pytest.approx((lower, upper), rel=0.051, abs=0.6)


def test_a_noun_takes_an_s_and_a_share_of_nothing_is_none() -> None:
    assert [counted(n, "row") for n in (0, 1, 2000)] == ["0 rows", "1 row", "2,000 rows"]
    assert (percent(1, 3), percent(1, 0), percent(0, 5)) == ("33.3 %", "0.0 %", "0.0 %")
