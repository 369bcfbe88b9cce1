"""A batch of events on its way into rows.

A block that lives is known by a number: that of its birth in the batch, or from the end of the
batch on `FIRST_SLOT` minus its slot in the table of live blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mem_parser.memscope.tracks import Batch

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
NOBODY = -1
"""No block was live at the address."""
FIRST_SLOT = -2
ENDS = -1
"""What an event is that begins no block; else it is its own number."""


@dataclass
class BlockBatch:
    """Columns with an entry for each event of the batch, and the events that were done."""

    batch: Batch
    kind: npt.NDArray[np.uint8]
    is_birth: BoolArray
    place: IntArray
    allocation: IntArray
    track: IntArray
    """Of births."""
    file: IntArray
    codes: IntArray
    """The number of the block that each event begins; `ENDS`: none; below `FIRST_SLOT`: one whose
    device is to be asked for.
    """
    of_place: Sequence[dict[int, int]]
    """The live blocks of a place, by address."""
    asks: bool
    """Whether there is a block whose device is to be asked for."""
    refused: list[int]
    splits: list[int]
    """Before these events the lists of begins must be as they are then."""
    low: int = 0
    """The events before are done."""
    high: int = 0
    """The events from here on have not come yet."""
    before: list[int] = field(default_factory=list)
    """Which block was at the address of each event since ``low``."""
    owners: dict[int, str] = field(default_factory=dict)
    """Of births, joined by `@`."""
    late: list[tuple[int, Callable[[int], None]]] = field(default_factory=list)

    # As lists, for events that happen one by one; sorted ones need none.

    @cached_property
    def code(self) -> list[int]:
        """The number of the block that each event begins, as `codes` has it."""
        found: list[int] = self.codes.tolist()
        return found

    @cached_property
    def address(self) -> list[int]:
        """The address of each event."""
        found: list[int] = self.batch.events.address.tolist()
        return found

    @cached_property
    def lives(self) -> list[dict[int, int]]:
        """The live blocks of each event's place."""
        return [self.of_place[k] for k in self.place.tolist()]

    def stops(self, low: int, high: int) -> list[int]:
        """Return which of the events [low, high) cannot be done together with those before."""
        return sorted({k for k in (*self.refused, *self.splits) if low <= k < high})

    def is_refused(self, at: int) -> bool:
        """Whether an event is a block that the program did not get."""
        return at in self._refused

    def __post_init__(self) -> None:
        self._refused = frozenset(self.refused)

    def own(self, at: int, framework: str, component: str, labels: str = "") -> None:
        """Give a birth an owner, or one that has labels its component, too."""
        had = self.owners.get(at, framework)[len(framework) + 1 :]
        parts = [framework, component, had, labels]
        if component or had or labels:
            self.owners[at] = "@".join(filter(None, parts))

    def passed(self, at: int) -> None:
        """An event is done that is of no block."""
        self.before.append(NOBODY)
        self.high = at + 1

    def settled(self) -> None:
        """All that came has its rows."""
        self.late.clear()
        self.before.clear()
        self.owners.clear()
        self.low = self.high
