"""Rows of a dump in columns: one value of numpy per row and column, words as numbers of lists.

Stacks are not held: `reading.stacks_of` gets those of some rows.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from mem_parser.memscope.form import EVENTS, HOST, NOTHING, OP_ENDS, OP_STARTS

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]
UNKNOWN = -1
"""What a row does not say."""


@dataclass(frozen=True)
class Words:
    """The words of a dump, which its columns have numbers of."""

    types: tuple[str, ...]
    """Event types in capitals."""
    names: tuple[str, ...]
    devices: tuple[str, ...]
    owners: tuple[str, ...]
    host: str = HOST
    """The device of the host as the dump spells it: `cpu`, of early releases `host`."""

    def device_text(self, number: int) -> str:
        """Return a device as the dump spells it."""
        name = self.devices[number]
        return self.host if name == HOST else name

    def type_mask(self, *wanted: str) -> BoolArray:
        """Return for each number of a type whether it is one of these; the last one is no type."""
        return np.array([word in wanted for word in (*self.types, "")], dtype=bool)


@dataclass(frozen=True)
class Rows:
    """A dump, or a part of it. All columns have the same length; sizes are in bytes."""

    words: Words
    id: IntArray
    event: npt.NDArray[np.int8]
    """Place in `form.EVENTS`, or `form.OTHER_EVENT`."""
    type: npt.NDArray[np.int32]
    name: npt.NDArray[np.int32]
    time_ns: IntArray
    pid: IntArray
    tid: IntArray
    device: npt.NDArray[np.int32]
    address: npt.NDArray[np.uint64]
    """0 where a row has none."""
    allocation: IntArray
    """allocation_id, or `UNKNOWN`; so are the next three."""
    size: IntArray
    used: IntArray
    total: IntArray
    owner: npt.NDArray[np.int32]
    """Number of an owner, or `UNKNOWN`."""
    access_pta: BoolArray
    """Whether an access was one of PyTorch's operators."""
    shadow: BoolArray
    """Whether the block is from before the collection."""
    place: IntArray
    """Number of the row in a CSV file, from 1 on, or its rowid in a database."""

    def __len__(self) -> int:
        return len(self.id)

    def take(self, index: npt.NDArray[np.generic] | slice) -> Rows:
        """Return some rows, by number or by mask."""
        columns = {f.name: getattr(self, f.name)[index] for f in fields(self) if f.name != "words"}
        return replace(self, **columns)

    def in_order(self) -> Rows:
        """Return the rows in the order of their IDs, equal ones as they stand in the file."""
        if len(self) < 2 or bool(np.all(self.id[1:] >= self.id[:-1])):
            return self
        return self.take(np.argsort(self.id, kind="stable"))

    def is_event(self, *events: int) -> BoolArray:
        """Return which rows are of one of these events."""
        found: BoolArray = self.event == events[0]
        for event in events[1:]:
            found = found | (self.event == event)
        return found

    def is_type(self, *wanted: str) -> BoolArray:
        """Return which rows are of one of these types."""
        found: BoolArray = self.words.type_mask(*wanted)[self.type]
        return found

    def device_rows(self, number: int) -> Rows:
        """Return the rows of one device, given by its number in `words.devices`."""
        return self.take(self.device == number)

    def devices(self) -> list[int]:
        """Return the numbers of devices in the order in which they come, without `N/A`."""
        if not len(self):
            return []
        found, first = np.unique(self.device, return_index=True)
        order = found[np.argsort(first)].tolist()
        return [k for k in order if self.words.devices[k] != NOTHING]

    @property
    def is_start(self) -> BoolArray:
        """Which rows begin an operator."""
        return self.is_type(*OP_STARTS)

    @property
    def is_end(self) -> BoolArray:
        """Which rows end an operator."""
        return self.is_type(*OP_ENDS)


def no_rows() -> Rows:
    """Return a dump without rows."""
    none = np.empty(0, dtype=np.int64)
    columns: dict[str, npt.NDArray[np.generic]] = {
        f.name: none.astype(_DTYPES.get(f.name, np.int64)) for f in fields(Rows)[1:]
    }
    return Rows(Words((), (), (), ()), **columns)  # type: ignore[arg-type]


def device_order(name: str) -> tuple[int, str]:
    """Return a key that sorts devices: numbers by value, then words, the host last."""
    number = int(name) if name.isascii() and name.isdigit() and len(name) < 10 else 1 << 40
    return (number + (name == HOST), name)


_DTYPES: dict[str, type[np.generic]] = {
    "event": np.int8,
    "type": np.int32,
    "name": np.int32,
    "device": np.int32,
    "owner": np.int32,
    "address": np.uint64,
    "access_pta": np.bool_,
    "shadow": np.bool_,
}
assert len(EVENTS) < np.iinfo(np.int8).max
