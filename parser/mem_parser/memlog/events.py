"""Sampled events, as columns.

In the order of `Events.in_order` the events of one address and domain are in their true order,
whatever threads they are of.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mem_parser.memlog.timedrows import TimedRows

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
class Events(TimedRows):
    """Events: all arrays have one entry per event.

    ``thread`` is the row of the thread that made the event. ``stack`` is the number of the stack of
    the block's birth, also where it dies: so sums are right even if the birth is missing; a MARK
    has none. ``domain`` is an index of the capture's domains. ``birth_ns`` is when the block was
    born: exact of a BIRTH, else a multiple of 2^22 ns.
    """

    kind: npt.NDArray[np.uint8]
    address: npt.NDArray[np.uint64]
    size_bytes: npt.NDArray[np.uint64]
    thread: npt.NDArray[np.uint32]
    stack: npt.NDArray[np.uint32]
    domain: npt.NDArray[np.uint8]
    birth_ns: npt.NDArray[np.int64]

    @property
    def order_key(self) -> npt.NDArray[np.int64]:
        """What events are sorted by: time; at one time, what takes blocks away comes first."""
        key = self.time_ns << 1
        key |= (self.kind != Kind.DEATH) & (self.kind != Kind.MOVED)
        return key

    @property
    def sign(self) -> npt.NDArray[np.int8]:
        """The change of live blocks by each event: 1, -1 or 0."""
        return _SIGN[self.kind]


_SIGN = np.zeros(256, dtype=np.int8)
_SIGN[[Kind.BIRTH, Kind.BACK]] = 1
_SIGN[[Kind.DEATH, Kind.MOVED]] = -1
