"""Lines of the screens above the table, in little room."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_cli.live.pages import _folded, fitted, key_lines

PLACE = "Cache::put /srv/build/service/src/cache.cc:417"


@pytest.mark.parametrize(
    ("width", "text"),
    [
        (60, PLACE),
        (30, "Cache::put …/src/cache.cc:417"),
        (24, "Cache::put …cache.cc:417"),
        (23, "Cache::pu… cache.cc:417"),
        (10, "Cache::put"),
    ],
)
def test_the_line_of_a_function_stays_longer_than_its_folder(width: int, text: str) -> None:
    assert fitted(PLACE, width) == text


@given(
    st.text(st.characters(codec="ascii", exclude_characters="\n"), max_size=60), st.integers(1, 50)
)
def test_nothing_is_longer_than_its_room(text: str, width: int) -> None:
    assert len(fitted(text, width)) <= width


@pytest.mark.parametrize("width", [30, 40, 60, 80])
def test_texts_that_break_keep_their_words_below_their_column(width: int) -> None:
    for line in key_lines():
        parts = _folded(line, width)
        assert max(map(len, parts)) <= width
        assert " ".join(parts).split() == line.split()
        assert all(part.startswith(" ") for part in parts[1:])
