"""Columns on their way from numpy to Arrow: numbers, numbers that may be missing, and texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]
NO_TEXT = -1


class Maybe(NamedTuple):
    """Numbers of which some are null: those where ``known`` is False."""

    values: npt.NDArray[Any]
    known: Mask


class Words(NamedTuple):
    """Texts of which there are few: row *k* has ``texts[codes[k]]``; `NO_TEXT` is null."""

    codes: Codes
    texts: Sequence[str]


class Texts(NamedTuple):
    """Texts, one for each row."""

    texts: Sequence[str]


Column = npt.NDArray[Any] | Maybe | Words | Texts
Columns = Mapping[str, Column]
"""Columns of equal length by name."""


def same(text: str, rows: int) -> Words:
    """Return the same text in all rows."""
    return Words(np.zeros(rows, dtype=np.int32), (text,))


def words(texts: Iterable[str | None]) -> Words:
    """Return texts of rows as words."""
    index: dict[str, int] = {}
    codes = [NO_TEXT if t is None else index.setdefault(t, len(index)) for t in texts]
    return Words(np.array(codes, dtype=np.int32), tuple(index))


def maybe(values: Iterable[float | None], dtype: type[np.generic]) -> Maybe:
    """Return numbers, None being null."""
    listed = list(values)
    known = np.array([v is not None for v in listed], dtype=np.bool_)
    return Maybe(np.array([0 if v is None else v for v in listed], dtype=dtype), known)


def nothing(rows: int, dtype: type[np.generic]) -> Maybe:
    """Return nulls."""
    return Maybe(np.zeros(rows, dtype=dtype), np.zeros(rows, dtype=np.bool_))


class ThreadWords:
    """Names and numbers of threads by the rows that events give."""

    def __init__(self, threads: Iterable[tuple[int, int, str]]) -> None:
        """``threads``: row, tid and name of each."""
        listed = sorted(threads)
        self._rows = np.array([row for row, _, _ in listed], dtype=np.int64)
        self._tids = np.array([tid for _, tid, _ in listed] or [0], dtype=np.int64)
        self._names = [name for _, _, name in listed]

    def columns(self, rows: npt.NDArray[Any], prefix: str = "") -> dict[str, Column]:
        """Return name, tid and row of the threads in ``rows``; rows that no thread has are those of
        unknown ones, which have null for name and tid.
        """
        wanted = rows.astype(np.int64)
        place = np.searchsorted(self._rows, wanted)
        inside = np.minimum(place, max(len(self._rows) - 1, 0))
        known = np.zeros(len(wanted), dtype=np.bool_)
        if len(self._rows):
            known = self._rows[inside] == wanted
        codes = np.where(known, inside, NO_TEXT).astype(np.int32)
        return {
            f"{prefix}thread": Words(codes, self._names),
            f"{prefix}tid": Maybe(self._tids[inside], known),
            f"{prefix}thread_row": rows.astype(np.uint32),
        }
