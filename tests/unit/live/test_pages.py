"""Lines of the screens above the table, in little room."""

from __future__ import annotations

import pytest

from mem_cli.live.pages import _folded, key_lines


@pytest.mark.parametrize("width", [30, 40, 60, 80])
def test_texts_that_break_keep_their_words_below_their_column(width: int) -> None:
    for line in key_lines():
        parts = _folded(line, width)
        assert max(map(len, parts)) <= width
        assert " ".join(parts).split() == line.split()
        assert all(part.startswith(" ") for part in parts[1:])
