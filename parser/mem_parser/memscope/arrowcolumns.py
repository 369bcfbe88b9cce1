"""Columns of rows of a dump by Arrow: what usual rows say is taken from all of them at once.

A value in another spelling is read as `RowColumns` reads it, with the same result or error. Of a
database, SQLite joins the columns of some thousand rows: short rows of numbers and texts alone,
each of the type that its column has. A block with anything else comes as values.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from mem_parser.memscope import csvfile
from mem_parser.memscope.attributes import KEYS, attributes_of
from mem_parser.memscope.database import FIRST_ROWID, LAST_ROWID, Table, connected, values
from mem_parser.memscope.form import COLUMNS, NOTHING, REQUIRED, SQL_TYPES
from mem_parser.memscope.rowcolumns import OR_NOTHING, Known, Part, RowColumns, RowPlaces
from mem_parser.memscope.rows import UNKNOWN, BoolArray, IntArray

BLOCK_BYTES = 1 << 20
ROW_MAX_BYTES = 8 << 20
"""A row that is longer is left to the standard library's reader."""
_LAST_ID = secrets.token_hex(8).encode()
"""Of a row of ours behind the others, which nobody can foresee: an open quote would take it in."""
_LAST_ROW = _LAST_ID + b"," * (len(COLUMNS) - 1) + b"\n"
_TAILS_MAX = 1 << 15
_EMPTY_BYTES = 2
_HEX_BYTES = 3, 18
"""The fewest and the most: `0x` and up to 16 digits."""
_NAMES = COLUMNS[:REQUIRED]
_DECIMALS = ("ID", "Timestamp(ns)", *OR_NOTHING)
_Bytes = Any
"""An array of Arrow's: bytes, which may be no UTF-8."""


def batches(file: BinaryIO) -> Iterator[Any]:
    """Yield the rows behind a header as columns of bytes, some at a time, without their stacks.

    Raises `pyarrow.ArrowException` for the first of them that Arrow does not read as Python's
    reader does: one of another width, a very long one, a quote that is never closed.
    """
    held = b""
    while data := file.read(BLOCK_BYTES):
        held += data
        if len(data) < BLOCK_BYTES:
            break
        end = csvfile.end_of_rows(held)
        if end:
            yield _batch(held[:end])
            held = held[end:]
        elif len(held) >= ROW_MAX_BYTES:
            raise pa.ArrowInvalid("a long row")
    if held:
        yield _batch(held if held.endswith(b"\n") else held + b"\n")


def _batch(data: bytes) -> Any:
    """Return whole rows. Raises `pyarrow.ArrowException` also where a row goes on behind them."""
    data += _LAST_ROW
    table = arrow_csv.read_csv(
        pa.BufferReader(data),
        arrow_csv.ReadOptions(use_threads=False, block_size=len(data), column_names=list(COLUMNS)),
        arrow_csv.ParseOptions(newlines_in_values=True),
        arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(_NAMES, pa.binary()),
            include_columns=list(_NAMES),
            null_values=[],
            check_utf8=False,
        ),
    )
    batch = table.combine_chunks().to_batches()[0]
    if batch.column(0)[-1].as_py() != _LAST_ID:
        raise pa.ArrowInvalid("a row without an end")
    return batch.slice(0, len(batch) - 1)


class ArrowColumns(RowColumns):
    """Columns of rows that are taken as arrays of bytes, or as values of a database."""

    def __init__(self, path: str, *, by_row: bool) -> None:
        super().__init__(path, by_row=by_row)
        self._layout, self._kernel = _layouts('"' if by_row else "")
        self._tails = _Tails('"' if by_row else "")

    def add_file(self, file: BinaryIO) -> tuple[int, bool]:
        """Take the rows of a CSV file behind its header, up to one that is not as all others are.

        Returns how many were taken, and whether these are all: none, where Arrow may not start the
        thread that reads ahead. Raises `DumpError`.
        """
        done = 0
        try:
            for batch in batches(file):
                self.add_batch(batch, np.arange(done + 1, done + 1 + len(batch)))
                done += len(batch)
        except pa.ArrowException:
            return done, False
        return done, True

    def add_batch(self, batch: Any, places: IntArray) -> None:
        """Take rows as columns of bytes. Raises `DumpError`."""
        column = dict(zip(_NAMES, batch.columns))  # noqa: B905 - Python 3.9
        numbers = {name: self._decimals(column[name], name, places) for name in _DECIMALS}
        self._take(places, {
            "id": numbers["ID"],
            "event": _numbered(column["Event"], self._events, np.int8),
            "type": _numbered(column["Event Type"], self._type_of),
            "name": _numbered(column["Name"], self._names),
            "time_ns": numbers["Timestamp(ns)"],
            "pid": numbers["Process Id"],
            "tid": numbers["Thread Id"],
            "device": _numbered(column["Device Id"], self._device_of),
            "address": self._hexadecimals(column["Ptr"], places),
            "place": places,
            **self._taken_apart(column["Attr"], places),
        })  # fmt: skip

    def _decimals(self, column: _Bytes, name: str, places: RowPlaces) -> IntArray:
        or_nothing = name in OR_NOTHING
        texts = column.view(pa.string())
        usual = pc.ascii_is_decimal(texts)
        try:
            values = _with(usual, texts).cast(pa.int64()).to_numpy().copy()
        except pa.ArrowInvalid:  # more than 63 bits
            return self._numbers(_texts(column), name, places, or_nothing=or_nothing)
        for row in _rows_of(pc.invert(usual)).tolist():
            values[row] = self._number(
                _text(column[row].as_py()), name, places, row, or_nothing=or_nothing
            )
        found: IntArray = values
        return found

    def _hexadecimals(self, column: _Bytes, places: RowPlaces) -> npt.NDArray[np.uint64]:
        length = pc.binary_length(column)
        fewest, most = _HEX_BYTES
        fits = pc.and_(pc.greater_equal(length, fewest), pc.less_equal(length, most))
        usual = pc.and_(pc.starts_with(column, "0x"), fits)
        try:
            values = _with(usual, column.view(pa.string())).cast(pa.uint64()).to_numpy().copy()
        except pa.ArrowInvalid:  # no digit
            return self._addresses(_texts(column), places)
        none = pc.equal(column, pa.scalar(NOTHING.encode()))
        for row in _rows_of(pc.invert(pc.or_(usual, none))).tolist():
            values[row] = self._address(_text(column[row].as_py()), places, row)
        found: npt.NDArray[np.uint64] = values
        return found

    def _attributes(self, texts: Sequence[Any], places: RowPlaces) -> Part:
        try:
            column = pa.array(texts, pa.binary()) if set(map(type, texts)) == {str} else None
        except UnicodeEncodeError:  # a byte that is no UTF-8
            column = None
        if column is None:
            return super()._attributes(texts, places)
        return self._taken_apart(column, places)

    def _taken_apart(self, column: _Bytes, places: RowPlaces) -> Part:
        """Return the columns of Attr. Equal texts, such as those of accesses, are read once."""
        encoded = column.dictionary_encode()
        which, texts = encoded.indices.to_numpy(), encoded.dictionary
        count, words = len(texts), Known()
        numbers = np.full((len(KEYS), count), UNKNOWN, dtype=np.int64)
        owner = np.full(count, UNKNOWN, dtype=np.int64)
        access_pta, shadow = np.zeros(count, dtype=bool), np.zeros(count, dtype=bool)
        found = pc.extract_regex(texts, self._layout)
        usual = _rows_of(found.is_valid())
        found = found.drop_null()
        for k, key in enumerate(KEYS):
            shown = found.field(key).view(pa.string())
            numbers[k, usual] = _with(pc.not_equal(shown, ""), shown, "-1").cast(pa.int64())
        tail = found.field("tail").dictionary_encode()
        told = [self._tails[text] for text in tail.dictionary.to_pylist()]
        facts = np.array(
            [(UNKNOWN if one.owner is None else words[one.owner], *one[1:]) for one in told],
            dtype=np.int64,
        ).reshape(-1, len(_Tail._fields))[tail.indices.to_numpy()]
        owner[usual] = facts[:, 0]
        access_pta[usual], shadow[usual] = facts[:, 1] != 0, facts[:, 2] != 0
        is_odd = _mask(pc.greater(pc.binary_length(texts), _EMPTY_BYTES))
        is_odd &= ~_mask(pc.match_substring_regex(texts, self._kernel))
        is_odd[usual] = facts[:, 3] != 0
        odd = np.flatnonzero(is_odd)
        if len(odd):
            said = attributes_of(_texts(texts.take(pa.array(odd))))
            _, first = np.unique(which, return_index=True)
            their = [places[k] for k in first[odd].tolist()]
            for k, key in enumerate(KEYS):
                numbers[k, odd] = self._sizes(said.numbers[k], key, their)
            owner[odd] = UNKNOWN
            for k, word in said.owners.items():
                owner[odd[k]] = words[word]
            access_pta[odd], shadow[odd] = said.access_pta, said.shadow
        allocation, size, used, total = numbers[:, which]
        return {
            "allocation": allocation,
            "size": size,
            "used": used,
            "total": total,
            "owner": self._in_order(owner[which], tuple(words)),
            "access_pta": access_pta[which],
            "shadow": shadow[which],
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


class _Tail(NamedTuple):
    """What an Attr says behind its numbers."""

    owner: str | None
    access_pta: bool
    shadow: bool
    has_numbers: bool
    """Whether more of them are in it: the whole Attr is read as a text."""


class _Tails(dict[bytes, _Tail]):
    """What tails say: a dump has few of them."""

    def __init__(self, quote: str) -> None:
        super().__init__()
        pairs = (("allocation_id", "1"), ("addr", "0x1"), ("size", "1"))
        self._head = "{" + ",".join(f"{quote}{k}{quote}:{quote}{v}{quote}" for k, v in pairs)

    def __missing__(self, tail: bytes) -> _Tail:
        if len(self) > _TAILS_MAX:
            self.clear()
        told = attributes_of([self._head + _text(tail)])
        found = self[tail] = _Tail(
            told.owners.get(0),
            bool(told.access_pta[0]),
            bool(told.shadow[0]),
            any(told.numbers[k][0] for k in (2, 3)),
        )
        return found


def _layouts(quote: str) -> tuple[str, str]:
    """Return the patterns of the usual Attrs, of the form of CSV, or with quotes of databases.

    The first are those of blocks, which begin with numbers at known places. Those of kernels have
    nothing that is asked for.
    """

    def pair(key: str, value: str) -> str:
        return f"{quote}{key}{quote}:{quote}{value}{quote}"

    number = {key: pair(key, f"(?P<{key}>[0-9]{{1,18}})") for key in KEYS}
    address, pinned = pair("addr", '[^,"\n]*'), pair("pinned", "true")
    block = (
        rf"^\{{{number['allocation_id']},{address},{number['size']}(?:,{pinned})?"
        rf"(?:,{number['used']})?(?:,{number['total']})?(?P<tail>(?:,[^\n]*)?\}})$"
    )
    return block, rf"^\{{{quote}streamId{quote}:[^,\n]*,{quote}taskId{quote}:[^,\n]*$"


def _with(usual: Any, texts: Any, otherwise: str = "0") -> Any:
    """Return texts, another one in place of those that are not usual."""
    return texts if pc.all(usual).as_py() else pc.if_else(usual, texts, otherwise)


def _numbered(
    column: _Bytes, known: Mapping[str, int], dtype: type[np.generic] = np.int32
) -> npt.NDArray[Any]:
    """Return the numbers of words; ``known`` is asked in the order in which they come."""
    words = column.dictionary_encode()
    numbers = [known[_text(word)] for word in words.dictionary.to_pylist()]
    found: npt.NDArray[Any] = np.array(numbers, dtype=dtype)[words.indices.to_numpy()]
    return found


def _mask(mask: Any) -> BoolArray:
    found: BoolArray = mask.to_numpy(zero_copy_only=False)
    return found


def _rows_of(mask: Any) -> IntArray:
    return np.flatnonzero(_mask(mask))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _texts(column: _Bytes) -> list[str]:
    return list(map(_text, column.to_pylist()))


BLOCK_ROWS = 16384
FIRST_ROWS = 256
"""So few after a block of values: SQLite looks through every byte of them in vain."""
BLOCK_MAX_BYTES = 8 << 20
FIELD_MAX_BYTES = 1024
"""Far more than usual fields have. SQL cuts a longer one, so that no block takes much memory."""
_BETWEEN = "\x1f"
"""What is between two fields of a row."""
_TYPES = [kind.lower() for kind in SQL_TYPES[:REQUIRED]]


def blocks(path: str) -> Iterator[Any]:
    """Yield all rows of a database in the order of their rowids: as a batch of Arrow's, whose last
    column has the rowids, or as a `Chunk` of values. Raises `DumpError`.
    """
    with connected(path) as connection:
        table = Table(connection, path)
        names = table.columns[:REQUIRED]
        joining = _joining(table.name, names)
        decoded = connection.text_factory
        first, most = FIRST_ROWID, FIRST_ROWS
        while True:
            connection.text_factory = bytes
            lines, high, count, usual = connection.execute(joining, (first, most)).fetchone()
            if not count:
                return
            batch = _joined_batch(lines, count) if usual == count else None
            if batch is not None:
                table.take(count, len(lines))
                most = min(4 * most, BLOCK_ROWS)
                yield batch
            else:
                connection.text_factory = decoded
                yield from values(table, names, first, high)
                most = FIRST_ROWS
            if high == LAST_ROWID:
                return
            first = high + 1


def _joining(table: str, names: Sequence[str]) -> str:
    """Return the statement that joins these columns of the next rows, and the rowid."""
    typed = list(zip(names, _TYPES))  # noqa: B905 - Python 3.9
    usual = [f"typeof({name}) = '{kind}'" for name, kind in typed]
    # What `printf` writes of a text ends at a NUL.
    usual += [f"instr({name}, char(0)) = 0" for name, kind in typed if kind == "text"]
    forms = ["%d" if kind == "integer" else f"%.{FIELD_MAX_BYTES + 1}s" for kind in _TYPES]
    text = f"printf('{_BETWEEN.join([*forms, '%d'])}', {', '.join(names)}, rowid)"
    return (
        f"SELECT group_concat(shown, char(10)), max(place), count(*), "  # noqa: S608
        f"count(shown) FROM (SELECT CASE WHEN {' AND '.join(usual)} THEN {text} END AS shown, "
        f'rowid AS place FROM "{table}" WHERE rowid >= ? ORDER BY rowid LIMIT ?)'
    )


def _joined_batch(lines: bytes, count: int) -> Any:
    """Return so many rows; None where a text has what is between fields or rows, or is long."""
    if (
        len(lines) > BLOCK_MAX_BYTES
        or lines.count(b"\n") != count - 1
        or lines.count(_BETWEEN.encode()) != count * REQUIRED
        or b"\r" in lines
    ):
        return None
    names = [*COLUMNS[:REQUIRED], "place"]
    kinds = {**dict.fromkeys(names, pa.binary()), "place": pa.int64()}
    try:
        found = arrow_csv.read_csv(
            pa.BufferReader(lines),
            arrow_csv.ReadOptions(use_threads=False, block_size=len(lines) + 1, column_names=names),
            arrow_csv.ParseOptions(delimiter=_BETWEEN, quote_char=False),
            arrow_csv.ConvertOptions(column_types=kinds, null_values=[], check_utf8=False),
        )
    except pa.ArrowException:
        return None  # no thread may start
    batch = found.to_batches()[0]
    longest = max(pc.max(pc.binary_length(column)).as_py() for column in batch.columns[:-1])
    rowids = batch.column(REQUIRED).to_numpy()
    is_odd = longest > FIELD_MAX_BYTES or len(batch) != count or (np.diff(rowids) <= 0).any()
    return None if is_odd else batch
