"""Read a dump, CSV or database, into columns."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt

from mem_parser.memscope import csvfile, database
from mem_parser.memscope.attributes import parse
from mem_parser.memscope.errors import DumpError
from mem_parser.memscope.form import (
    COLUMNS,
    NOTHING,
    PTA,
    canonical_device,
    canonical_event,
    canonical_type,
)
from mem_parser.memscope.rows import UNKNOWN, Rows, Words, no_rows

# The layouts of allocations, frees and accesses in both forms: numbers at known places. It matches
# at the begin of each line, with empty groups where a line has another layout.
_USUAL = re.compile(
    r'^(?:\{"?allocation_id"?:"?(\d+)"?,"?addr"?:[^,\n]*,"?size"?:"?(\d+)"?(?=[,}])'
    r'(?:,"?pinned"?:"?true"?)?(?:,"?used"?:"?(\d+)"?(?=[,}]))?'
    r'(?:,"?total"?:"?(\d+)"?(?=[,}]))?(,"?type"?:"?PTA)?)?',
    re.ASCII | re.MULTILINE,
)
_OWNER = re.compile(r',"?owner"?:"?([^,"{}\\]*)"?(?:\}|,\s*"?[A-Za-z_][\w ]*"?:)')
_KEYS = ("allocation_id", "size", "used", "total")
_MOST = (1 << 63) - 1
_ADDRESS_MAX = (1 << 64) - 1


class _Known(dict[str, int]):
    """Words and their numbers; a new word gets the next one."""

    def __missing__(self, word: str) -> int:
        number = self[word] = len(self)
        return number


class _Spelled(dict[str, int]):
    """Numbers of words in any spelling."""

    def __init__(self, how: Any, known: _Known | None) -> None:
        super().__init__()
        self._how = how
        self._known = known

    def __missing__(self, word: str) -> int:
        spelled = self._how(word)
        number: int = spelled if self._known is None else self._known[spelled]
        self[word] = number
        return number


def read_rows(path: str | os.PathLike[str]) -> Rows:
    """Return a dump in columns, in the order of the file.

    Raises `DumpError` that names the file and the row for anything that is no dump.
    """
    name = os.fspath(path)
    reader = _Reader(name)
    for chunk in chunks_of(name, stacks=False):
        reader.add(chunk)
    return reader.rows()


def chunks_of(path: str, *, stacks: bool) -> Iterator[csvfile.Chunk]:
    """Yield the rows of a dump as texts, in its order. Raises `DumpError`."""
    if database.is_database(path):
        yield from database.chunks(path, stacks=stacks)
    else:
        yield from csvfile.chunks(path)


def stacks_of(path: str, places: Iterable[int]) -> dict[int, tuple[str, str]]:
    """Return the stacks (Python, C) of the rows with these places. Raises `DumpError`."""
    wanted = set(places)
    if not wanted:
        return {}
    found: dict[int, tuple[str, str]] = {}
    if database.is_database(path):
        for place in wanted:
            row = database.row_of(path, place)
            found[place] = (_shown(row[-2]), _shown(row[-1]))
        return found
    for chunk in csvfile.chunks(path):
        here = [place for place in wanted if place in chunk.places]
        for place in here:
            k = place - chunk.places[0]
            found[place] = (chunk.columns[-2][k], chunk.columns[-1][k])
        wanted.difference_update(here)
        if not wanted:
            break
    return found


def _shown(value: object) -> str:
    return "" if value is None else str(value)


class _Reader:
    """Makes columns of chunks of texts."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._by_row = database.is_database(path)
        self._parts: list[dict[str, npt.NDArray[Any]]] = []
        types, devices = _Known(), _Known()
        self._names, self._owners = _Known(), _Known()
        self._events = _Spelled(canonical_event, None)
        self._types, self._devices = types, devices
        self._type_of = _Spelled(canonical_type, types)
        self._device_of = _Spelled(canonical_device, devices)

    def add(self, chunk: csvfile.Chunk) -> None:
        """Take the rows of a chunk. Raises `DumpError`."""
        raw = {column: chunk.columns[k] for k, column in enumerate(COLUMNS)}
        places = chunk.places
        part: dict[str, npt.NDArray[Any]] = {
            "id": self._numbers(raw["ID"], "ID", places),
            "event": self._words(raw["Event"], self._events, "Event", places, np.int8),
            "type": self._words(raw["Event Type"], self._type_of, "Event Type", places),
            "name": self._words(raw["Name"], self._names, "Name", places),
            "time_ns": self._numbers(raw["Timestamp(ns)"], "Timestamp(ns)", places),
            "pid": self._numbers(raw["Process Id"], "Process Id", places, or_nothing=True),
            "tid": self._numbers(raw["Thread Id"], "Thread Id", places, or_nothing=True),
            "device": self._words(
                list(map(str, raw["Device Id"])), self._device_of, "Device Id", places
            ),
            "address": self._addresses(raw["Ptr"], places),
            "place": np.array(places, dtype=np.int64),
        }
        self._parts.append({**part, **self._attributes(raw["Attr"], places)})

    def rows(self) -> Rows:
        """Return all rows that were taken."""
        if not self._parts:
            return no_rows()
        words = Words(
            tuple(self._types), tuple(self._names), tuple(self._devices), tuple(self._owners)
        )
        columns = {}
        for field in fields(Rows)[1:]:
            columns[field.name] = np.concatenate([part.pop(field.name) for part in self._parts])
        return Rows(words, **columns)

    def _at(self, places: Sequence[int], k: int) -> str:
        if self._by_row:
            return f"{self._path}: row {places[k]}"
        return f"{self._path}: line {csvfile.line_of(self._path, places[k])}"

    def _numbers(
        self, texts: Sequence[Any], column: str, places: Sequence[int], *, or_nothing: bool = False
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
        self, text: Any, column: str, places: Sequence[int], k: int, *, or_nothing: bool
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
        places: Sequence[int],
        dtype: type[np.generic] = np.int32,
    ) -> npt.NDArray[Any]:
        try:
            return np.fromiter(map(known.__getitem__, texts), dtype=dtype, count=len(texts))
        except (TypeError, AttributeError) as error:
            k = next(k for k, text in enumerate(texts) if not isinstance(text, str))
            raise DumpError(
                f"{self._at(places, k)}: {column} is {_cut(texts[k])}, not a text"
            ) from error

    def _addresses(self, texts: Sequence[Any], places: Sequence[int]) -> npt.NDArray[np.uint64]:
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

    def _address(self, text: Any, places: Sequence[int], k: int) -> int:
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

    def _attributes(
        self, texts: Sequence[Any], places: Sequence[int]
    ) -> dict[str, npt.NDArray[Any]]:
        count = len(texts)
        try:
            whole = "\n".join(texts)
        except TypeError:
            texts = [self._text_or_nothing(text, places, k) for k, text in enumerate(texts)]
            whole = "\n".join(texts)
        found: list[Any] = _USUAL.findall(whole)
        if len(found) != count:
            texts = [text.replace("\n", " ") for text in texts]
            found = _USUAL.findall("\n".join(texts))
        owner = np.full(count, UNKNOWN, dtype=np.int32)
        access_pta = np.zeros(count, dtype=bool)
        shadow = np.zeros(count, dtype=bool)
        columns = [list(column) for column in zip(*found)]  # noqa: B905 - Python 3.9
        access_pta[:] = list(map(bool, columns[-1]))
        unusual = [k for k, first in enumerate(columns[0]) if not first]
        for k in unusual:
            if len(texts[k]) > 2:
                held = parse(texts[k])
                for number, key in enumerate(_KEYS):
                    columns[number][k] = held.get(key, "")
                shadow[k] = held.get("shadow", "").lower() == "true"
                access_pta[k] = held.get("type", "").upper().startswith(PTA)
        if "owner" in whole:
            for k, text in enumerate(texts):
                if "owner" in text:
                    owner[k] = self._owner(text)
        if "shadow" in whole:
            for k, text in enumerate(texts):
                if "shadow" in text:
                    shadow[k] = parse(text).get("shadow", "").lower() == "true"
        numbers = {key: self._sizes(columns[k], key, places) for k, key in enumerate(_KEYS)}
        return {
            "allocation": numbers["allocation_id"],
            "size": numbers["size"],
            "used": numbers["used"],
            "total": numbers["total"],
            "owner": owner,
            "access_pta": access_pta,
            "shadow": shadow,
        }

    def _text_or_nothing(self, text: Any, places: Sequence[int], k: int) -> str:
        if text is None:
            return ""
        if not isinstance(text, str):
            raise DumpError(f"{self._at(places, k)}: Attr is {_cut(text)}, not a text")
        return text

    def _owner(self, text: str) -> int:
        found = _OWNER.search(text)
        word = parse(text).get("owner") if found is None else found[1]
        return UNKNOWN if word is None else self._owners[word]

    def _sizes(
        self, texts: Sequence[str], column: str, places: Sequence[int]
    ) -> npt.NDArray[np.int64]:
        """Return sizes in bytes, or numbers of blocks; `UNKNOWN` for an empty text."""
        try:
            found = np.array([int(text) if text else UNKNOWN for text in texts], dtype=np.int64)
        except (ValueError, OverflowError):
            found = self._numbers(texts, column, places, or_nothing=True)
        wrong = np.flatnonzero(found < UNKNOWN)
        if len(wrong):
            k = int(wrong[0])
            raise DumpError(f"{self._at(places, k)}: {column} is {_cut(texts[k])}, not a size")
        return found


def _cut(text: object) -> str:
    """Return the beginning of a wrong value, quoted."""
    shown = str(text)
    return repr(shown if len(shown) <= 40 else shown[:37] + "...")
