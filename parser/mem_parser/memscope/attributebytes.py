"""The column Attr of many rows as numbers: the usual layouts by their bytes, others as texts.

The usual layouts, in both forms, begin with numbers at known places:

    {allocation_id:1,addr:0x7f,size:512,used:512,total:1024,owner:PTA@weight}
    {"allocation_id":"1","addr":"0x7f","size":"512","type":"PTA","shape":"[2, 3]"}

What is behind these numbers, the *tail*, is one of few texts, and each is parsed once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mem_parser.memscope.attributetexts import KEYS, attributes_of
from mem_parser.memscope.fieldbytes import (
    WORD_MAX_BYTES,
    BoolArray,
    FieldBytes,
    IntArray,
    WordTable,
)
from mem_parser.memscope.rows import UNKNOWN

_TAILS_MAX = 1 << 15
_EMPTY_BYTES = 2
_BRACE, _QUOTE = ord("}"), ord('"')


class Places(NamedTuple):
    """Where the Attrs of some rows are, and the commas in them."""

    fields: FieldBytes
    begin: IntArray
    end: IntArray
    marks: IntArray
    """Places of commas, and maybe of more, in their order."""
    first: IntArray
    """Number of the first mark in each Attr; all that are in it are commas."""
    last: IntArray
    """Number of the first mark behind it."""


class Found(NamedTuple):
    """What usual Attrs say; `UNKNOWN` in the rows of others."""

    numbers: list[IntArray]
    """For each of `attributetexts.KEYS`."""
    owners: list[str]
    owner: IntArray
    """Number of an owner in that list."""
    access_pta: BoolArray
    shadow: BoolArray
    others: IntArray
    """Rows that have another layout."""


class AttributeBytes:
    """Reads Attrs of one form: that of CSV, or with ``quotes`` that of databases."""

    def __init__(self, *, quotes: bool) -> None:
        self._quote = '"' if quotes else ""
        self._width = int(quotes)
        self._tails = _Tails(self._quote)

    def read(self, places: Places) -> Found:
        """Return what the usual Attrs say."""
        tails = self._tails
        tails.forget_many()
        count = len(places.begin)
        numbers = [np.full(count, UNKNOWN, dtype=np.int64) for _ in KEYS]
        none = np.zeros(count, dtype=bool)
        owner = np.full(count, UNKNOWN, dtype=np.int64)
        found = Found(numbers, tails.owners, owner, none, none.copy(), np.flatnonzero(none))
        length = places.end - places.begin
        row = np.flatnonzero(length > _EMPTY_BYTES)
        if not len(row):
            return found
        chosen = places._replace(
            begin=places.begin[row], end=places.end[row],
            first=places.first[row], last=places.last[row],
        )  # fmt: skip
        usual, values, tail = self._heads(chosen)
        for k, value in enumerate(values):
            numbers[k][row] = np.where(usual, value, UNKNOWN)
        long = places.end[row] - tail > 1
        some = np.flatnonzero(usual & long)
        number = tails.table.numbers(places.fields, tail[some], places.end[row[some]])
        owner[row[some]] = tails.column(tails.owner)[number]
        found.access_pta[row[some]] = tails.column(tails.access_pta)[number].astype(bool)
        found.shadow[row[some]] = tails.column(tails.shadow)[number].astype(bool)
        return found._replace(others=row[~usual & ~self._are_kernels(chosen)])

    def _heads(self, places: Places) -> tuple[BoolArray, list[IntArray], IntArray]:
        """Return which rows are usual, their numbers, and where their tails begin."""
        data, quote = places.fields.data, self._quote
        usual = data[places.end - 1] == _BRACE
        done = np.zeros(len(usual), dtype=np.int64)
        begin = places.begin
        values: dict[str, IntArray] = {}
        for key in ("{allocation_id", "addr", "size"):
            word = f"{key[:1]}{quote}{key[1:]}" if key[0] == "{" else f"{quote}{key}"
            text = f"{word}{quote}:{quote}".encode()
            usual &= places.fields.have(begin, text)
            stop = _ends(places, done)
            low, high = begin + len(text), stop - self._width
            usual &= self._closes(data, high)
            if key == "addr":
                usual &= places.fields.hexadecimals(low, high)[1]
            else:
                values[key.lstrip("{")], are = places.fields.decimals(low, high)
                usual &= are
            done += 1
            begin = stop + 1
        # Where a row is not usual, its places may be anything; only usual rows go on.
        done = np.where(usual, done, 0)
        pinned = f"{quote}pinned{quote}:{quote}true{quote}".encode()
        before = _ends(places, done - 1)
        is_pinned = (
            usual
            & places.fields.have(before + 1, pinned)
            & (_ends(places, done) == before + 1 + len(pinned))
        )
        done += is_pinned
        for key in ("used", "total"):
            text = f"{quote}{key}{quote}:{quote}".encode()
            begin = _ends(places, done - 1) + 1
            stop = _ends(places, done)
            has = usual & (begin < places.end) & places.fields.have(begin, text)
            value, are = places.fields.decimals(
                np.where(has, begin + len(text), 0), np.where(has, stop - self._width, 0)
            )
            usual &= ~has | (are & self._closes(data, np.where(has, stop - self._width, 0)))
            values[key] = np.where(has, value, UNKNOWN)
            done += has
        tail = np.where(usual, _ends(places, done - 1), places.end)
        usual &= places.end - tail <= WORD_MAX_BYTES
        return usual, [values[key] for key in KEYS], tail

    def _closes(self, data: np.ndarray, place: IntArray) -> BoolArray:
        """Whether a value ends with its quote there; in the form of CSV it has none."""
        if not self._quote:
            return np.ones(len(place), dtype=bool)
        found: BoolArray = data[place] == _QUOTE
        return found

    def _are_kernels(self, places: Places) -> BoolArray:
        """Which rows have nothing but a stream and a task, and so nothing that is asked for."""
        quote = self._quote
        stop = _ends(places, np.zeros(len(places.begin), dtype=np.int64))
        found = places.fields.have(places.begin, f"{{{quote}streamId{quote}:".encode())
        found &= places.last - places.first == 1
        found &= places.fields.have(stop + 1, f"{quote}taskId{quote}:".encode())
        return found


def _ends(places: Places, number: IntArray) -> IntArray:
    """Return the end of a value of each row: the comma behind it, or the closing brace."""
    mark = places.first + number
    inside = (mark < places.last) & (number >= 0)
    found: IntArray = np.where(inside, places.marks[np.where(inside, mark, 0)], places.end - 1)
    return found


class _Tails:
    """What tails say."""

    def __init__(self, quote: str) -> None:
        keys = (("allocation_id", "1"), ("addr", "0x1"), ("size", "1"))
        shown = (f"{quote}{key}{quote}:{quote}{value}{quote}" for key, value in keys)
        self._head = "{" + ",".join(shown)
        self._clear()

    def _clear(self) -> None:
        self.table = WordTable(self._number)
        self._known: dict[str, int] = {}
        self._owner_numbers: dict[str, int] = {}
        self.owners: list[str] = []
        self.owner: list[int] = []
        self.access_pta: list[int] = []
        self.shadow: list[int] = []

    def forget_many(self) -> None:
        """Forget all tails where they have become many."""
        if len(self._known) > _TAILS_MAX:
            self._clear()

    def _number(self, tail: str) -> int:
        number = self._known.setdefault(tail, len(self._known))
        if number == len(self.owner):
            told = attributes_of([self._head + tail])
            word = told.owners.get(0)
            owner = UNKNOWN
            if word is not None:
                owner = self._owner_numbers.setdefault(word, len(self.owners))
                if owner == len(self.owners):
                    self.owners.append(word)
            self.owner.append(owner)
            self.access_pta.append(int(told.access_pta[0]))
            self.shadow.append(int(told.shadow[0]))
        return number

    def column(self, values: list[int]) -> IntArray:
        """Return values by the number of a tail."""
        return np.array(values, dtype=np.int64)
