"""Texts by the columns that they take on a terminal, where a Chinese character takes two."""

from __future__ import annotations

import itertools
import re
import textwrap
import unicodedata
from collections.abc import Sequence

_ENDS = frozenset("，。；：、！？）》”’…%,.;:)")
"""Never first in a line."""
_BEGINS = frozenset("（《“‘(")
"""Never last in a line."""
_SPOT = re.compile(r"\(?([^/()]+)\)?(:[0-9]+)")
_HEAD_SHARE = 3
"""Of the columns of a text that is cut in the middle, its beginning takes one in so many."""
_LEAST_APART = 12
"""In fewer columns a text is cut at its end."""
_LEAST_NAME = 4
"""Columns of a function's name before a spot: where it has fewer, it is left out."""


def width(text: str) -> int:
    """Return the columns of a text of one line."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def ljust(text: str, columns: int) -> str:
    """Return ``text`` with blanks behind it, ``columns`` wide at the least."""
    return text + " " * (columns - width(text))


def rjust(text: str, columns: int) -> str:
    """Return ``text`` with blanks before it, ``columns`` wide at the least."""
    return " " * (columns - width(text)) + text


def shortened(text: str, columns: int) -> str:
    """Return a name that is no wider than ``columns``. What tells it from others stays: the end of
    a path, file and line of `name /path/file:line` and `name (path/file):line`.
    """
    if width(text) <= columns:
        return text
    if text.startswith("/") and " " not in text:
        return f"…{cut(text[::-1], columns - 1)[::-1]}"
    name, _, place = text.rpartition(" ")
    spot = _SPOT.fullmatch(place.rsplit("/", 1)[-1])
    if not name or spot is None:
        return f"{cut(text, columns - 1)}…"
    file, line = spot.groups()
    room = columns - 1 - width(file + line)
    if room < 0:
        return f"{cut(text, columns - 1)}…"
    if room < _LEAST_NAME:
        return f"…{file}{line}"
    if name.endswith((f" ({file})", f"/{file})")):
        name = name.rpartition(" (")[0] or name
    name = name if width(name) <= room else f"{cut(name, room - 1)}…"
    return f"{name} {file}{line}"


def differences(texts: Sequence[str]) -> list[int]:
    """Return for each text where the word begins in which it differs from the one most like it."""
    found = dict.fromkeys(texts, 0)
    for one, other in itertools.pairwise(sorted(found)):
        alike = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
        same = sum(1 for _ in alike)
        for text in (one, other):
            found[text] = max(found[text], text.rfind(" ", 0, same) + 1)
    return [found[text] for text in texts]


def told_apart(text: str, columns: int, differs: int) -> str:
    """Return ``text`` cut to ``columns``, in the middle where else what begins at ``differs`` would
    not be seen.
    """
    if width(text) <= columns:
        return text
    head = columns // _HEAD_SHARE
    rest = text[differs:]
    if width(text[:differs]) <= head or columns < _LEAST_APART:
        return f"{cut(text, columns - 1)}…"
    room = columns - 1 - head
    rest = rest if width(rest) <= room else f"{cut(rest, room - 1)}…"
    return f"{cut(text[:differs], columns - 1 - width(rest))}…{rest}"


def cut(text: str, columns: int) -> str:
    """Return the beginning of ``text`` that fits."""
    end = max(columns, 0)
    while end and width(text[:end]) > columns:
        end -= 1
    return text[:end]


def wrapped(text: str, columns: int, indent: str = "", *, whole_words: bool = False) -> list[str]:
    """Return ``text`` in lines of ``columns``, all but the first behind ``indent``. A line may end
    between Chinese characters; with ``whole_words`` never within a word.
    """
    if width(text) == len(text):
        return textwrap.wrap(
            text,
            columns,
            subsequent_indent=indent,
            break_long_words=not whole_words,
            break_on_hyphens=not whole_words,
        )
    lines, line = [], ""
    for piece in _pieces(text):
        if line.strip() and width(line) + width(piece.rstrip(" ")) > columns:
            lines.append(line.rstrip())
            line = indent
        line += piece
    return [*lines, line.rstrip()]


def _pieces(text: str) -> list[str]:
    """Return the parts between which a line may end, each with the blanks behind it."""
    found: list[str] = []
    for char in text:
        last = found[-1][-1] if found else ""
        apart = last == " " or _columns(char) == 2 or _columns(last or " ") == 2
        glued = char in _ENDS or char == " " or last in _BEGINS
        if found and (glued or not apart):
            found[-1] += char
        else:
            found.append(char)
    return found
