"""Columns of the rows of a dump, from bytes: what rows have in common is read for all at once.

Single rows that differ are read as texts, with the same result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mem_parser.memscope.attributebytes import AttributeBytes, Places
from mem_parser.memscope.attributetexts import KEYS, attributes_of
from mem_parser.memscope.csvblocks import Block
from mem_parser.memscope.csvfile import Chunk
from mem_parser.memscope.fieldbytes import FieldBytes, IntArray, WordTable
from mem_parser.memscope.form import COLUMNS, NOTHING
from mem_parser.memscope.rowcolumns import Part, RowColumns, RowPlaces
from mem_parser.memscope.rows import UNKNOWN

_PLACE = {column: k for k, column in enumerate(COLUMNS)}
_OR_NOTHING = ("Process Id", "Thread Id")
_COMMA, _LINE = ord(","), ord("\n")


class RowBytes(RowColumns):
    """Columns of rows that are taken as bytes, as values of a database, or as texts."""

    def __init__(self, path: str, *, by_row: bool) -> None:
        super().__init__(path, by_row=by_row)
        self._attribute_bytes = AttributeBytes(quotes=by_row)
        self._tables = {
            "Event": WordTable(self._events.__getitem__),
            "Event Type": WordTable(self._type_of.__getitem__),
            "Name": WordTable(self._names.__getitem__),
            "Device Id": WordTable(self._device_of.__getitem__),
        }

    def add_block(self, block: Block, places: IntArray) -> None:
        """Take the rows of a block, which have these places. Raises `DumpError`."""

        def word(column: str) -> npt.NDArray[Any]:
            k = _PLACE[column]
            return self._tables[column].numbers(block.fields, block.begin[:, k], block.end[:, k])

        def number(column: str) -> IntArray:
            return self._decimals(block, column, places)

        k = _PLACE["Ptr"]
        begin, end = block.begin[:, k], block.end[:, k]
        part: Part = {
            "id": number("ID"),
            "event": word("Event").astype(np.int8),
            "type": word("Event Type").astype(np.int32),
            "name": word("Name").astype(np.int32),
            "time_ns": number("Timestamp(ns)"),
            "pid": number("Process Id"),
            "tid": number("Thread Id"),
            "device": word("Device Id").astype(np.int32),
            "address": self._addresses_of(block.fields, begin, end, places),
            "place": places,
        }
        k = _PLACE["Attr"]
        attributes = Places(
            block.fields, block.begin[:, k], block.end[:, k], block.marks,
            block.attr_first, block.attr_last,
        )  # fmt: skip
        self._take(places, {**part, **self._attributes_of(attributes, places)})

    def add_values(self, chunk: Chunk) -> None:
        """Take rows of a database. Raises `DumpError`."""
        raw = {column: chunk.columns[k] for k, column in enumerate(COLUMNS)}
        places = chunk.places
        self._take(places, {
            **self._plain_columns(raw, places),
            "address": self._joined_addresses(raw["Ptr"], places),
            **self._joined_attributes(raw["Attr"], places),
        })  # fmt: skip

    def _decimals(self, block: Block, column: str, places: IntArray) -> IntArray:
        k = _PLACE[column]
        begin, end = block.begin[:, k], block.end[:, k]
        values, are = block.fields.decimals(begin, end)
        for row in np.flatnonzero(~are).tolist():
            text = block.fields.text(int(begin[row]), int(end[row]))
            values[row] = self._number(text, column, places, row, or_nothing=column in _OR_NOTHING)
        return values

    def _addresses_of(
        self, fields: FieldBytes, begin: IntArray, end: IntArray, places: RowPlaces
    ) -> npt.NDArray[np.uint64]:
        values, are = fields.hexadecimals(begin, end)
        none = fields.have(begin, NOTHING.encode()) & (end - begin == len(NOTHING))
        for row in np.flatnonzero(~are & ~none).tolist():
            values[row] = self._address(fields.text(int(begin[row]), int(end[row])), places, row)
        return values

    def _attributes_of(self, where: Places, places: RowPlaces) -> Part:
        found = self._attribute_bytes.read(where)
        owner, words = found.owner, list(found.owners)
        others = found.others.tolist()
        if others:
            told = attributes_of(
                [where.fields.text(int(where.begin[k]), int(where.end[k])) for k in others]
            )
            their = [places[k] for k in others]
            for k, key in enumerate(KEYS):
                found.numbers[k][others] = self._sizes(told.numbers[k], key, their)
            for k, word in told.owners.items():
                owner[others[k]] = len(words)
                words.append(word)
            found.access_pta[others] = told.access_pta
            found.shadow[others] = told.shadow
        allocation, size, used, total = found.numbers
        return {
            "allocation": allocation,
            "size": size,
            "used": used,
            "total": total,
            "owner": self._in_order(owner, words),
            "access_pta": found.access_pta,
            "shadow": found.shadow,
        }

    def _in_order(self, owner: IntArray, words: Sequence[str]) -> npt.NDArray[np.int32]:
        """Return the numbers of owners in the whole dump, where the first one to come is 0."""
        known, first = np.unique(owner, return_index=True)
        numbers = np.full(len(words) + 1, UNKNOWN, dtype=np.int32)
        for k in known[np.argsort(first)].tolist():
            if k != UNKNOWN:
                numbers[k] = self._owners[words[k]]
        found: npt.NDArray[np.int32] = numbers[owner]
        return found

    def _joined_addresses(
        self, texts: Sequence[Any], places: Sequence[int]
    ) -> npt.NDArray[np.uint64]:
        joined = _joined(texts)
        if joined is None:
            return self._addresses(texts, places)
        return self._addresses_of(joined.fields, joined.begin, joined.end, places)

    def _joined_attributes(self, texts: Sequence[Any], places: Sequence[int]) -> Part:
        joined = _joined(texts)
        return (
            self._attributes(texts, places)
            if joined is None
            else self._attributes_of(joined, places)
        )


def _joined(texts: Sequence[Any]) -> Places | None:
    """Return texts as fields of bytes; None: one of them is no text, or has line breaks."""
    try:
        data = "\n".join(texts).encode("utf-8", "surrogateescape") + b"\n"
    except (TypeError, UnicodeEncodeError):
        return None
    fields = FieldBytes(data)
    marks = np.flatnonzero((fields.data == _COMMA) | (fields.data == _LINE))
    line = np.flatnonzero(fields.data[marks] == _LINE)
    if len(line) != len(texts):
        return None
    end = marks[line]
    begin, first = np.zeros_like(end), np.zeros_like(line)
    begin[1:], first[1:] = end[:-1] + 1, line[:-1] + 1
    return Places(fields, begin, end, marks, first, line)
