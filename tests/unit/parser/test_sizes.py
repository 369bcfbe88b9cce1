"""Sizes as people write them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser import sizes


@pytest.mark.parametrize(("text", "size"), [
    ("0", 0), ("4096", 4096), ("1K", 1024), ("512k", 512 << 10), ("3MiB", 3 << 20),
    ("2gb", 2 << 30), ("1T", 1 << 40), ("7b", 7),
])  # fmt: skip
def test_whole_sizes(text: str, size: int) -> None:
    assert sizes.parse_whole(text) == size
    assert sizes.parse_amount(text) == size


@pytest.mark.parametrize("text", ["1.5 GiB", "1_000", "2e3", "  64 KB "])
def test_amounts_may_be_written_more_freely(text: str) -> None:
    assert sizes.parse_amount(text) > 0
    with pytest.raises(ValueError, match=r"^$"):
        sizes.parse_whole(text)


@pytest.mark.parametrize("text", ["", "K", "-1", "1X", "1 2", "٣", "1" * 30, "1KiK", "nan", "inf"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^$"):
        sizes.parse_whole(text)
    assert sizes.whole_or(text, 77) == 77


@given(st.text(max_size=12))
def test_any_text_is_a_size_or_refused(text: str) -> None:
    for parse in (sizes.parse_whole, sizes.parse_amount):
        with contextlib.suppress(ValueError):
            assert parse(text) >= 0


def test_an_unset_variable_gives_the_default() -> None:
    assert sizes.whole_or(None, 5) == 5
    assert sizes.whole_or(" 2K ", 5) == 2048


@pytest.mark.parametrize(("text", "seconds"), [
    ("60", 60.0), ("0.2", 0.2), (" 5 ", 5.0), ("1e3", 1000.0), ("-3", -3.0), ("90s", 90.0),
    ("1m", 60.0), ("5 min", 300.0), ("1.5h", 5400.0), ("1H", 3600.0), ("1h30m", 5400.0),
    ("1h 30m 5s", 5405.0), ("2m30s", 150.0), ("500ms", 0.5), ("1.5 ms", 0.0015), ("2us", 2e-6),
])  # fmt: skip
def test_a_time_is_seconds_or_has_units(text: str, seconds: float) -> None:
    assert sizes.parse_seconds(text) == seconds


@pytest.mark.parametrize(
    "text", ["", " ", "s", "m", "soon", "5x", "1m1h", "-1m", "5d", "5MS", "1s5ms", "1:30", "١m"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^$"):
        sizes.parse_seconds(text)


@given(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99))
def test_the_parts_of_a_time_add_up(hours: int, minutes: int, seconds: int) -> None:
    text = f"{hours}h{minutes}m{seconds}s"
    assert sizes.parse_seconds(text) == hours * 3600 + minutes * 60 + seconds
