"""Sizes as people write them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser import sizes


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("4096", 4096), ("1K", 1024), ("512k", 512 << 10), ("3MiB", 3 << 20),
     ("2gb", 2 << 30), ("1T", 1 << 40), ("7b", 7)],
)  # fmt: skip
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
