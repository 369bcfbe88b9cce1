"""The dumps of one process while rows come: a file of each device, made with its first row.

Rows that belong to no device (marks, steps) are in the file of every one, with the same ID: those
from before a device's first row come at the begin of its file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import chain, repeat
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from mem_parser.memscope.attributes import as_csv, as_json, safe
from mem_parser.memscope.csvfile import plain_or_quoted, quoted
from mem_parser.memscope.form import COLUMNS, NOTHING, Folders
from mem_parser.memscope.kept import Kept
from mem_parser.memscope.linetext import Choice, Constant, Decimal, Hexadecimal, Piece, joined
from mem_parser.memscope.writing import Column, CsvWriter, DatabaseWriter, encoded

HELD_MAX = 1 << 20
"""So many rows without a device are kept for devices that come later."""
_SHORT_BYTES = 64
IntArray = npt.NDArray[np.int64]
Values = tuple[Any, ...]
"""The columns of a row without Attr."""
Tail = Any
"""Both stacks of a row, as a file has them."""


class Form(NamedTuple):
    """What rows of blocks of one kind have in common; ``keys`` are those of Attr behind the size,
    with at most one place for a number: `used:%d`.
    """

    event: str
    kind: str
    device: str
    pid: int
    keys: str


@dataclass
class BlockRows:
    """Rows of blocks, in the order of their IDs: columns of one length.

    ``form`` is a number that `Sink.form` gave, ``tail`` a place in the list of tails.
    """

    id: IntArray
    form: IntArray
    time_ns: IntArray
    tid: IntArray
    address: npt.NDArray[np.uint64]
    allocation: IntArray
    size: npt.NDArray[np.uint64]
    used: npt.NDArray[np.uint64]
    tail: IntArray
    suffix: IntArray
    """Place in ``suffixes``."""
    suffixes: Sequence[str] = ("",)
    """Further keys and values of Attr, as CSV has them."""
    owners: dict[int, str] = field(default_factory=dict)
    """By place in the columns."""

    def __len__(self) -> int:
        return len(self.id)

    def take(self, index: IntArray) -> BlockRows:
        """Return some rows, by their places in ascending order."""
        owners = {}
        if self.owners:
            places = {place: k for k, place in enumerate(index.tolist())}
            owners = {places[k]: name for k, name in self.owners.items() if k in places}
        columns = {f.name: getattr(self, f.name)[index] for f in fields(self)[:-2]}
        return BlockRows(**columns, suffixes=self.suffixes, owners=owners)

    @property
    def has_suffixes(self) -> bool:
        """Whether any row has further keys."""
        return len(self.suffixes) > 1


def no_blocks() -> BlockRows:
    """Return no rows."""
    none = np.zeros(0, dtype=np.int64)
    unsigned = none.astype(np.uint64)
    return BlockRows(none, none, none, none, unsigned, none, unsigned, unsigned, none, none)


class Sink(Protocol):
    """One file. ``count`` is the number of its rows, with those that wait."""

    path: str
    count: int

    def form(self, form: Form) -> int:
        """Return the number of a form of rows of blocks."""
        ...

    def add(self, number: int, row: Values, attributes: Mapping[str, object]) -> None:
        """Take a row of any kind, whose ID is higher than those before; ``row`` begins with it."""
        ...

    def write_blocks(self, blocks: BlockRows, tails: Sequence[Tail]) -> IntArray:
        """Write rows of blocks, and those that wait, in the order of their IDs. Returns the number
        in the file of each row of a block, from 1 on.
        """
        ...

    def flush(self) -> None:
        """Write the rows that wait."""
        ...

    def kept(self) -> Kept:
        """Return what the file has after a failure. Raises OSError, sqlite3.Error."""
        ...

    def close(self) -> None:
        """Write them, and close."""
        ...


class _Waiting:
    """The forms of a file, and its rows of other kinds that wait: IDs and what is written."""

    def __init__(self) -> None:
        self.count = 0
        self.forms: list[Form] = []
        self._ids: list[int] = []
        self._rows: list[Any] = []

    def form(self, form: Form) -> int:
        """Return the number of a form."""
        self.forms.append(form)
        return len(self.forms) - 1

    def _wait(self, number: int, row: Any) -> None:
        self.count += 1
        self._ids.append(number)
        self._rows.append(row)

    def _places(self, ids: IntArray) -> tuple[IntArray, list[int]]:
        """Return the number in the file of each row of a block, and before which of these the rows
        that wait come.
        """
        before = self.count - len(self._ids)
        self.count += len(ids)
        waiting = np.array(self._ids, dtype=np.int64)
        numbers = before + 1 + np.arange(len(ids)) + np.searchsorted(waiting, ids)
        return numbers, np.searchsorted(ids, waiting).tolist()

    def _merged(self, rows: Sequence[Any], places: Sequence[int], width: int = 1) -> Iterable[Any]:
        """Yield rows, of ``width`` parts each, with those that wait between them."""
        waiting, self._rows = self._rows, []
        self._ids = []
        parts: list[Iterable[Any]] = []
        low = 0
        for place, row in zip(places, waiting, strict=True):
            if place > low:
                parts.append(rows[low * width : place * width])
                low = place
            parts.append((row,))
        parts.append(rows[low * width :])
        return chain.from_iterable(parts)


def _halves(keys: str) -> tuple[str, str]:
    """Return the keys before and behind the number, if they have one."""
    before, _, behind = keys.partition("%d")
    return before, behind


class CsvSink(CsvWriter, _Waiting):
    """A CSV file. Raises `MemError`, OSError."""

    def __init__(self, path: str) -> None:
        CsvWriter.__init__(self, path)
        _Waiting.__init__(self)

    @staticmethod
    def tail(python: str, c: str) -> bytes:
        """Return what is behind the keys of Attr."""
        return encoded(f'}}",{plain_or_quoted(python)},{plain_or_quoted(c)}\n')

    def add(self, number: int, row: Values, attributes: Mapping[str, object]) -> None:
        """Take a row of any kind."""
        _, event, kind, name, time_ns, pid, tid, device, address, python, c = row
        shown = quoted(name) if event == "MSTX" else plain_or_quoted(name)
        ptr = NOTHING if address is None else f"0x{address:016x}"
        line = (
            f"{number},{event},{plain_or_quoted(kind)},{shown},{time_ns},{pid},{tid},{device},{ptr},"
            f"{quoted(as_csv(attributes))},{plain_or_quoted(python)},{plain_or_quoted(c)}\n"
        )
        self._wait(number, encoded(line))

    def write_blocks(self, blocks: BlockRows, tails: Sequence[bytes]) -> IntArray:
        """Write rows of blocks, and those that wait."""
        numbers, places = self._places(blocks.id)
        if not len(blocks):
            self._put(b"".join(self._merged([], places)))
            return numbers
        pieces = self._pieces(blocks)
        only = tails[int(blocks.tail[0])]
        if not places and not blocks.owners and _is_short(only) and _is_constant(blocks.tail):
            self._put(joined(pieces, len(blocks), only))
            return numbers
        lines = joined(pieces, len(blocks), b"\n").split(b"\n")
        parts: list[bytes] = [b""] * (2 * len(blocks))
        parts[::2] = lines[:-1]
        parts[1::2] = [tails[k] for k in blocks.tail.tolist()]
        for k, owner in blocks.owners.items():
            parts[2 * k] += encoded(quoted(f",owner:{safe(owner)}")[1:-1])
        self._put(b"".join(self._merged(parts, places, 2)))
        return numbers

    def _pieces(self, blocks: BlockRows) -> list[Piece]:
        forms, form = self.forms, blocks.form
        halves = [_halves(one.keys) for one in forms]
        numbered = np.array(["%d" in one.keys for one in forms])
        return [
            Decimal(blocks.id),
            Choice([f",{one.event},{one.kind},{NOTHING}," for one in forms], form),
            Decimal(blocks.time_ns),
            Choice([f",{one.pid}," for one in forms], form),
            Decimal(blocks.tid),
            Choice([f",{one.device},0x" for one in forms], form),
            Hexadecimal(blocks.address, full=True),
            Constant(',"{allocation_id:'),
            Decimal(blocks.allocation),
            Constant(",addr:0x"),
            Hexadecimal(blocks.address, full=False),
            Constant(",size:"),
            Decimal(blocks.size),
            Choice([f",{before}" for before, _ in halves], form),
            Decimal(blocks.used, numbered[form]),
            *_suffix_pieces(blocks, lambda keys: keys),
        ]

    def flush(self) -> None:
        """Write the rows that wait."""
        if self._rows:
            self.write_blocks(no_blocks(), ())

    def close(self) -> None:
        """Write them, and close; a second call does nothing."""
        if self._handle >= 0:
            self.flush()
        super().close()


def _is_short(tail: bytes) -> bool:
    """Whether a tail can be a piece of lines."""
    return len(tail) <= _SHORT_BYTES and b"\0" not in tail


def _is_constant(column: IntArray) -> bool:
    return bool((column == column[0]).all())


class DatabaseSink(DatabaseWriter, _Waiting):
    """A database. Raises `MemError`, sqlite3.Error."""

    def __init__(self, path: str) -> None:
        DatabaseWriter.__init__(self, path)
        _Waiting.__init__(self)

    @staticmethod
    def tail(python: str, c: str) -> tuple[str, str]:
        """Return both stacks."""
        return python, c

    def add(self, number: int, row: Values, attributes: Mapping[str, object]) -> None:
        """Take a row of any kind."""
        address = NOTHING if row[8] is None else f"0x{row[8]:016x}"
        self._wait(number, (*row[:8], address, as_json(attributes), *row[9:]))

    def write_blocks(self, blocks: BlockRows, tails: Sequence[tuple[str, str]]) -> IntArray:
        """Write rows of blocks, and those that wait, in one transaction."""
        numbers, places = self._places(blocks.id)
        if len(blocks) and not places:
            self._columns(self._columns_of(blocks, tails), len(blocks))
            return numbers
        rows: list[Values] = []
        if len(blocks):
            every = (
                c if isinstance(c, list) else repeat(c) for c in self._columns_of(blocks, tails)
            )
            rows = list(zip(*every))  # noqa: B905 - constants have no end
        self._many(self._insert, self._merged(rows, places))
        return numbers

    def _columns_of(self, blocks: BlockRows, tails: Sequence[tuple[str, str]]) -> list[Column]:
        texts = joined(self._pieces(blocks), len(blocks), b"").decode("ascii").split("\n")
        attributes = texts[1::2]
        for k, owner in blocks.owners.items():
            attributes[k] = f"{attributes[k][:-1]},{as_json({'owner': owner})[1:]}"
        python, c = (_chosen([tail[k] for tail in tails], blocks.tail) for k in (0, 1))
        event, kind, device, pid = (
            _chosen([form[k] for form in self.forms], blocks.form) for k in range(4)
        )
        return [
            blocks.id.tolist(), event, kind, NOTHING, blocks.time_ns.tolist(), pid,
            blocks.tid.tolist(), device, texts[:-1:2], attributes, python, c,
        ]  # fmt: skip

    def _pieces(self, blocks: BlockRows) -> list[Piece]:
        """Two lines for each row: its address, and its Attr."""
        forms, form = self.forms, blocks.form
        halves = [_halves(_json_pairs(one.keys)) for one in forms]
        numbered = np.array(["%d" in one.keys for one in forms])
        return [
            Constant("0x"),
            Hexadecimal(blocks.address, full=True),
            Constant('\n{"allocation_id":"'),
            Decimal(blocks.allocation),
            Constant('","addr":"0x'),
            Hexadecimal(blocks.address, full=False),
            Constant('","size":"'),
            Decimal(blocks.size),
            Choice([f'",{before}' for before, _ in halves], form),
            Decimal(blocks.used, numbered[form]),
            Choice([behind for _, behind in halves], form),
            *_suffix_pieces(blocks, _json_pairs),
            Constant("}\n"),
        ]

    def flush(self) -> None:
        """Write the rows that wait."""
        if self._rows:
            self.write_blocks(no_blocks(), ())

    def close(self) -> None:
        """Write them, and close; a second call does nothing."""
        self.flush()
        super().close()


def _chosen(values: Sequence[Any], numbers: IntArray) -> Column:
    """Return a column of values, by their numbers: one value where all are the same short one."""
    present = [values[k] for k in np.flatnonzero(np.bincount(numbers)).tolist()]
    first: str | int = present[0]
    short = isinstance(first, int) or (len(first) <= _SHORT_BYTES and "\0" not in first)
    if short and present.count(first) == len(present):
        return first
    return [values[k] for k in numbers.tolist()]


def _suffix_pieces(blocks: BlockRows, spell: Callable[[str], str]) -> list[Piece]:
    """Return the piece of the further keys, in the form of a file, where there are any."""
    if not blocks.has_suffixes:
        return []
    texts = [f",{spell(keys)}" if keys else "" for keys in blocks.suffixes]
    return [Choice(texts, blocks.suffix)]


def _json_pairs(keys: str) -> str:
    pairs = (part.partition(":") for part in keys.split(","))
    return ",".join(f'"{key}":"{value}"' for key, _, value in pairs)


MARKS = "MSTX"
_DEVICE = COLUMNS.index("Device Id")


class Dumps:
    """The files of one process: in the tree of ``places``, or one file for all devices."""

    def __init__(self, form: str, places: Folders | None = None, *, path: str = "") -> None:
        """``path``: the one file, instead of a tree."""
        self._make: type[CsvSink | DatabaseSink]
        self._make = DatabaseSink if form == "db" else CsvSink
        self._form, self._places, self._path = form, places, path
        self._sinks: dict[str, Sink] = {}
        self._held: list[tuple[int, Values, Mapping[str, object]]] = []
        self._unheld = 0
        self.missing = 0
        """Rows without a device that the files of later devices have not: they were too many."""

    def tail(self, python: str, c: str) -> Tail:
        """Return both stacks of a row, as the files have them."""
        return self._make.tail(python, c)

    @property
    def sinks(self) -> Mapping[str, Sink]:
        """The files that were made, by device."""
        return self._sinks

    @property
    def paths(self) -> dict[str, str]:
        """Their names."""
        return {device: sink.path for device, sink in self._sinks.items()}

    def sink(self, device: str) -> Sink:
        """Return the file of a device, made where it is new. Raises `MemError`, OSError."""
        found = self._sinks.get(device)
        if found is None:
            found = self._sinks[device] = self._made(device)
        return found

    def _made(self, device: str) -> Sink:
        if self._path:
            if self._sinks:
                return next(iter(self._sinks.values()))
            sink: Sink = self._make(self._path)
        else:
            assert self._places is not None
            path = self._places.dump(device, self._form)
            self._places.make_dump_folder(device)
            sink = self._make(path)
        self.missing += self._unheld
        for number, row, attributes in self._held:
            sink.add(number, self._of_file(row, device), attributes)
        return sink

    def _of_file(self, row: Values, device: str) -> Values:
        """Return a row of no device as the file of one has it.

        msMemScope's marks have the device that their thread uses, and its search for leaks takes
        them by their device: so marks of a device's own file are of that device.
        """
        if row[1] != MARKS or self._path or not device.isdecimal():
            return row
        return (*row[:_DEVICE], device, *row[_DEVICE + 1 :])

    def everywhere(self, number: int, row: Values, attributes: Mapping[str, object]) -> None:
        """Add a row that belongs to no device."""
        if len(self._held) < HELD_MAX:
            self._held.append((number, row, attributes))
        else:
            self._unheld += 1
        for device, sink in {id(s): (d, s) for d, s in self._sinks.items()}.values():
            sink.add(number, self._of_file(row, device), attributes)

    def flush(self) -> None:
        """Write the rows that wait."""
        for sink in self._sinks.values():
            sink.flush()

    def close(self) -> None:
        """Write and close."""
        for sink in self._sinks.values():
            sink.close()
