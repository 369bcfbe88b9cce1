"""Columns of the rows of a dump, from texts: any spelling, and the error of a row that is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Union

import numpy as np
import numpy.typing as npt

from mem_parser.memscope import csvfile
from mem_parser.memscope.attributes import KEYS, attributes_of
from mem_parser.memscope.form import (
    COLUMNS,
    FREE,
    HOST,
    NOTHING,
    DumpError,
    canonical_device,
    canonical_event,
    canonical_type,
)
from mem_parser.memscope.rows import UNKNOWN, Rows, Words, no_rows

Part = dict[str, npt.NDArray[Any]]
"""Columns of some rows, by their names in `Rows`."""
RowPlaces = Union[Sequence[int], npt.NDArray[np.int64]]  # noqa: UP007 - Python 3.9 evaluates it
OR_NOTHING = ("Process Id", "Thread Id")
"""Columns of numbers that a row may leave out."""
_MOST = (1 << 63) - 1
_ADDRESS_MAX = (1 << 64) - 1


class Known(dict[str, int]):
    """Words and their numbers; a new word gets the next one."""

    def __missing__(self, word: str) -> int:
        number = self[word] = len(self)
        return number


class Spelled(dict[str, int]):
    """Numbers of words in any spelling."""

    def __init__(self, how: Any, known: Known | None) -> None:
        super().__init__()
        self._how = how
        self._known = known

    def __missing__(self, word: str) -> int:
        spelled = self._how(word)
        number: int = spelled if self._known is None else self._known[spelled]
        self[word] = number
        return number


class RowColumns:
    """Columns of rows that are taken as texts."""

    def __init__(self, path: str, *, by_row: bool) -> None:
        """``by_row``: errors name a row of a database, not a line."""
        self._path, self._by_row = path, by_row
        self._held: dict[str, bytearray] = {}
        self._kinds: dict[str, np.dtype[Any]] = {}
        types, devices = Known(), Known()
        self._names, self._owners = Known(), Known()
        self._events = Spelled(canonical_event, None)
        self._types, self._devices = types, devices
        self._type_of = Spelled(canonical_type, types)
        self._device_of = Spelled(canonical_device, devices)

    def add(self, chunk: csvfile.Chunk) -> None:
        """Take the rows of a chunk. Raises `DumpError`."""
        raw = {column: chunk.columns[k] for k, column in enumerate(COLUMNS)}
        self._take(chunk.places, {
            **self._plain_columns(raw, chunk.places),
            "address": self._addresses(raw["Ptr"], chunk.places),
            **self._attributes(raw["Attr"], chunk.places),
        })  # fmt: skip

    def _take(self, places: RowPlaces, part: Part) -> None:
        """Keep rows. Early releases write a minus before the size of a free."""
        size = part["size"]
        part["size"] = np.where((part["event"] == FREE) & (size < UNKNOWN), -size, size)
        self._refuse_below(part["size"], "size", places)
        for name, column in part.items():
            # A bytearray grows in its place: no column is in memory twice.
            self._held.setdefault(name, bytearray()).extend(np.ascontiguousarray(column).data)
            self._kinds[name] = column.dtype

    def _plain_columns(self, raw: Mapping[str, Sequence[Any]], places: RowPlaces) -> Part:
        """Return all columns but Ptr and Attr."""
        devices = raw["Device Id"]
        if set(map(type, devices)) - {str}:
            devices = list(map(str, devices))
        return {
            "id": self._numbers(raw["ID"], "ID", places),
            "event": self._words(raw["Event"], self._events, "Event", places, np.int8),
            "type": self._words(raw["Event Type"], self._type_of, "Event Type", places),
            "name": self._words(raw["Name"], self._names, "Name", places),
            "time_ns": self._numbers(raw["Timestamp(ns)"], "Timestamp(ns)", places),
            "pid": self._numbers(raw["Process Id"], "Process Id", places, or_nothing=True),
            "tid": self._numbers(raw["Thread Id"], "Thread Id", places, or_nothing=True),
            "device": self._words(devices, self._device_of, "Device Id", places),
            "place": np.array(places, dtype=np.int64),
        }

    def rows(self) -> Rows:
        """Return all rows that were taken."""
        if not self._held:
            return no_rows()
        hosts = (word.strip() for word in self._device_of if canonical_device(word) == HOST)
        words = Words(
            tuple(self._types),
            tuple(self._names),
            tuple(self._devices),
            tuple(self._owners),
            next(hosts, HOST),
        )
        columns = {
            name: np.frombuffer(held, self._kinds[name]) for name, held in self._held.items()
        }
        return Rows(words, **columns)

    def _at(self, places: RowPlaces, k: int) -> str:
        if self._by_row:
            return f"{self._path}: row {places[k]}"
        return f"{self._path}: line {csvfile.line_of(self._path, int(places[k]))}"

    def _numbers(
        self, texts: Sequence[Any], column: str, places: RowPlaces, *, or_nothing: bool = False
    ) -> npt.NDArray[np.int64]:
        try:
            return np.fromiter(map(int, texts), dtype=np.int64, count=len(texts))
        except (ValueError, TypeError, OverflowError):
            return np.array(
                [
                    self._number(text, column, places, k, or_nothing=or_nothing)
                    for k, text in enumerate(texts)
                ],
                dtype=np.int64,
            )

    def _number(
        self, text: Any, column: str, places: RowPlaces, k: int, *, or_nothing: bool
    ) -> int:
        if or_nothing and (text is None or str(text).strip() in {"", NOTHING}):
            return UNKNOWN
        number = None
        if isinstance(text, (int, str)) and len(str(text)) < 40:
            try:
                number = int(text)
            except ValueError:
                number = None
        if number is None:
            raise DumpError(f"{self._at(places, k)}: {column} is {_cut(text)}, not a number")
        # Numbers without a sign of 64 bits, such as -1 of a thread that is not known.
        if _MOST < number <= _ADDRESS_MAX:
            number -= 1 << 64
        if not -_MOST <= number <= _MOST:
            raise DumpError(f"{self._at(places, k)}: {column} is {_cut(text)}, out of range")
        return number

    def _words(
        self,
        texts: Sequence[Any],
        known: dict[str, int],
        column: str,
        places: RowPlaces,
        dtype: type[np.generic] = np.int32,
    ) -> npt.NDArray[Any]:
        try:
            return np.fromiter(map(known.__getitem__, texts), dtype=dtype, count=len(texts))
        except (TypeError, AttributeError) as error:
            k = next(k for k, text in enumerate(texts) if not isinstance(text, str))
            raise DumpError(
                f"{self._at(places, k)}: {column} is {_cut(texts[k])}, not a text"
            ) from error

    def _addresses(self, texts: Sequence[Any], places: RowPlaces) -> npt.NDArray[np.uint64]:
        found = np.zeros(len(texts), dtype=np.uint64)
        some = [(k, text) for k, text in enumerate(texts) if text != NOTHING]
        if not some:
            return found
        index = [k for k, _ in some]
        try:
            digits = "".join([text[2:] for _, text in some])
            if len(digits) != 16 * len(some) or {text[:2] for _, text in some} != {"0x"}:
                raise ValueError
            found[index] = np.frombuffer(bytes.fromhex(digits), dtype=">u8")
        except (ValueError, TypeError):
            found[index] = [self._address(text, places, k) for k, text in some]
        return found

    def _address(self, text: Any, places: RowPlaces, k: int) -> int:
        """Return an address in any spelling; early releases wrote decimal numbers."""
        shown = str(text).strip()
        if text is None or not shown:
            return 0
        try:
            number = int(shown, 0) if len(shown) < 40 else -1
        except ValueError:
            number = -1
        if not 0 <= number <= _ADDRESS_MAX:
            raise DumpError(f"{self._at(places, k)}: Ptr is {_cut(text)}, not an address")
        return number

    def _attributes(self, texts: Sequence[Any], places: RowPlaces) -> Part:
        if set(map(type, texts)) - {str}:
            texts = [self._text_or_nothing(text, places, k) for k, text in enumerate(texts)]
        told = attributes_of(texts)
        numbers = {key: self._sizes(told.numbers[k], key, places) for k, key in enumerate(KEYS)}
        owner = np.full(len(texts), UNKNOWN, dtype=np.int32)
        for k, word in told.owners.items():
            owner[k] = self._owners[word]
        return {
            "allocation": numbers["allocation_id"],
            "size": numbers["size"],
            "used": numbers["used"],
            "total": numbers["total"],
            "owner": owner,
            "access_pta": told.access_pta,
            "shadow": told.shadow,
        }

    def _text_or_nothing(self, text: Any, places: RowPlaces, k: int) -> str:
        if text is None:
            return ""
        if not isinstance(text, str):
            raise DumpError(f"{self._at(places, k)}: Attr is {_cut(text)}, not a text")
        return text

    def _sizes(self, texts: Sequence[str], column: str, places: RowPlaces) -> npt.NDArray[np.int64]:
        """Return sizes in bytes, or numbers of blocks; `UNKNOWN` for an empty text. A size may be
        below zero.
        """
        try:
            found = np.array([int(text) if text else UNKNOWN for text in texts], dtype=np.int64)
        except (ValueError, OverflowError):
            found = self._numbers(texts, column, places, or_nothing=True)
        if column != "size":
            self._refuse_below(found, column, places)
        return found

    def _refuse_below(self, found: npt.NDArray[np.int64], column: str, places: RowPlaces) -> None:
        wrong = np.flatnonzero(found < UNKNOWN)
        if len(wrong):
            k = int(wrong[0])
            raise DumpError(f"{self._at(places, k)}: {column} is '{found[k]}', not a size")


def _cut(text: object) -> str:
    """Return the beginning of a wrong value, quoted."""
    shown = str(text)
    return repr(shown if len(shown) <= 40 else shown[:37] + "...")
