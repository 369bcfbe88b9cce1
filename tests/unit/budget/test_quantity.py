"""Amounts as people write them in budgets."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.budget import parse_bytes, parse_rate
from mem_parser.budget.quantity import Allowance, parse_allowance, parse_peak, parse_share

MIB = 1 << 20


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("256 MiB", 256 * MIB), ("24 MB", 24 * MIB), ("1.5K", 1536), ("7", 7), (4096, 4096),
        ("1_000 b", 1000), ("2 gib", 2 << 30), ("3 bytes", 3), (" 1  KiB ", 1024), ("1e3", 1000),
    ],
)  # fmt: skip
def test_sizes(text: str, value: float) -> None:
    assert parse_bytes(text) == value


@pytest.mark.parametrize("text", ["", "MiB", "1 MoB", "-1", "1,5 MiB", "inf", "nan", "1e999", "٣"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_bytes(text)


def test_rates_and_allowances() -> None:
    assert parse_rate("60 MiB/min") == parse_rate("1 MiB/s") == MIB
    assert math.isclose(parse_rate("3600 KiB / h"), 1024)
    assert parse_allowance("5 % + 2 MiB") == Allowance(0.05, 2 * MIB)
    assert parse_allowance("2 MiB").raised(10) == 2 * MIB + 10
    for text in ("5 % +", "MiB", "5 % 2 MiB"):
        with pytest.raises(ValueError, match="is not a share"):
            parse_allowance(text)


@given(st.floats(0, 2.0**60), st.sampled_from(["", "K", "k", " MiB", "gb", " T"]))
def test_a_size_is_its_number_times_its_prefix(value: float, unit: str) -> None:
    power = " kmgt".find(unit.strip()[:1].lower() or " ")
    text = f"{value:f}{unit}"
    try:
        assert parse_bytes(text) == pytest.approx(float(f"{value:f}") * 1024.0**power)
    except ValueError:
        assert value * 1024.0**power > 2.0**63


@pytest.mark.parametrize("value", [True, None, [1], -1, math.inf, math.nan, 2.0**64])
def test_a_number_that_is_no_size_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_bytes(value)


@pytest.mark.parametrize("text", ["1 MiB", "1 MiB/", "1 MiB/fortnight", "/s", "x/s", 5])
def test_a_rate_needs_a_size_and_a_time(text: Any) -> None:
    with pytest.raises(ValueError, match="is not bytes per time"):
        parse_rate(text)


@pytest.mark.parametrize(("text", "share"), [("5 %", 0.05), ("0.5%", 0.005), ("1e2 %", 1.0)])
def test_a_share_is_a_hundredth(text: str, share: float) -> None:
    assert parse_share(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["5", "%", "-5 %", "5 % %", "1e999 %", 5])
def test_what_is_no_share_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match="is not a share"):
        parse_share(text)


def test_a_plain_number_of_a_few_bytes_lacks_its_unit() -> None:
    for peak in (4, "512", 1023.0):
        with pytest.raises(ValueError, match=r"write .* MiB, or .* B"):
            parse_peak(peak)
    assert [parse_peak(text) for text in (0, "4 B", 1024, "24 MB")] == [0, 4, 1024, 24 << 20]
    for growth in (5, "5", "5 % + 2"):
        with pytest.raises(ValueError, match=r"write . %, or . B"):
            parse_allowance(growth)
    assert parse_allowance("5 B") == Allowance(0.0, 5)


def test_parts_of_an_allowance_add_up() -> None:
    assert parse_allowance("1 KiB + 2 % + 3 KiB + 3 %") == Allowance(pytest.approx(0.05), 4096)
    assert parse_allowance(4096).raised(1) == 4097


def test_an_error_shows_no_more_than_the_beginning_of_a_text() -> None:
    with pytest.raises(ValueError, match="is not a size") as raised:
        parse_bytes("x" * 10_000)
    assert len(str(raised.value)) < 150
