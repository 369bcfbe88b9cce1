"""Sampled events, as columns.

In the order of `Events.in_order` the events of one address and domain are in their true order,
whatever threads they are of.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt

BIRTH_UNIT_BITS = 22
"""`Events.birth_ns` of what is no birth is a multiple of 2^22 ns (4.2 ms)."""


class Kind(enum.IntEnum):
    """What an event is.

    MOVED: realloc took the block away. BACK: realloc, or the device, refused, and the block of the
    MOVED or DEATH before is there as it was. REFUSED: a block that the program did not get. MARK:
    the address is the index of a mark of the program in the facts.
    """

    BIRTH = 1
    DEATH = 2
    MOVED = 3
    BACK = 4
    REFUSED = 5
    MARK = 6


@dataclass(slots=True)
class Events:
    """Events: all arrays have one entry per event.

    ``time_ns`` counts from the start of the capture. ``thread`` is the row of the thread that made
    the event. ``stack`` is the number of the stack of the block's birth, also where it dies: so
    sums are right even if the birth is missing; a MARK has none. ``domain`` is an index of the
    capture's domains. ``birth_ns`` is when the block was born: exact of a BIRTH, else a multiple of
    2^22 ns.
    """

    time_ns: npt.NDArray[np.int64]
    kind: npt.NDArray[np.uint8]
    address: npt.NDArray[np.uint64]
    size_bytes: npt.NDArray[np.uint64]
    thread: npt.NDArray[np.uint32]
    stack: npt.NDArray[np.uint32]
    domain: npt.NDArray[np.uint8]
    birth_ns: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        if any(len(getattr(self, f.name)) != len(self.time_ns) for f in fields(self)):
            raise ValueError("columns of events differ in length")

    def __len__(self) -> int:
        return len(self.time_ns)

    @classmethod
    def of(cls, **columns: npt.ArrayLike) -> Self:
        """Return events of columns of any integer types, each by its name."""
        return cls(**{n: np.ascontiguousarray(columns[n], t) for n, t in DTYPES.items()})

    @classmethod
    def none(cls) -> Self:
        """Return no events."""
        return cls.of(**dict.fromkeys(DTYPES, ()))

    @classmethod
    def joined(cls, parts: Sequence[Events]) -> Self:
        """Return the events of all parts, one part after the other."""
        return cls(*(np.concatenate([getattr(p, n) for p in parts]) for n in DTYPES))

    def take(self, index: npt.NDArray[Any] | slice) -> Events:
        """Return the events that ``index`` (positions, a mask or a slice) selects."""
        return Events(*(getattr(self, name)[index] for name in DTYPES))

    @property
    def order_key(self) -> npt.NDArray[np.int64]:
        """What events are sorted by: time; at one time, what takes blocks away comes first."""
        key = self.time_ns << 1
        key |= (self.kind != Kind.DEATH) & (self.kind != Kind.MOVED)
        return key

    def in_order(self) -> Events:
        """Return the events sorted by `order_key`; those of equal keys stay as they are."""
        key = self.order_key
        if (key[1:] >= key[:-1]).all():
            return self
        return self.take(np.argsort(key, kind="stable"))

    @property
    def sign(self) -> npt.NDArray[np.int8]:
        """What each event adds to the live blocks: 1, -1 or 0."""
        return _SIGN[self.kind]


DTYPES: dict[str, type[np.generic]] = {
    "time_ns": np.int64,
    "kind": np.uint8,
    "address": np.uint64,
    "size_bytes": np.uint64,
    "thread": np.uint32,
    "stack": np.uint32,
    "domain": np.uint8,
    "birth_ns": np.int64,
}
"""The columns of `Events` by name, in their order."""

_SIGN = np.zeros(256, dtype=np.int8)
_SIGN[[Kind.BIRTH, Kind.BACK]] = 1
_SIGN[[Kind.DEATH, Kind.MOVED]] = -1
