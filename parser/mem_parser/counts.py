"""What a report can count: which blocks, and which part of those in use."""

from __future__ import annotations

import enum


class Count(enum.StrEnum):
    """Which blocks to count."""

    INUSE = "inuse"
    ALLOC = "alloc"
    FREED = "freed"
    PEAK = "peak"
    RESIDENT = "resident"
    HUGE = "huge"
    SWAPPED = "swapped"
    ABSENT = "absent"
    SLOP = "slop"
    PAGES = "pages"
    HELD = "held"
    PINNED = "pinned"

    @property
    def blocks(self) -> Count:
        """The count of the blocks: of those from RESIDENT on, which are parts of them, INUSE."""
        whole = (Count.INUSE, Count.ALLOC, Count.FREED, Count.PEAK)
        return self if self in whole else Count.INUSE

    @property
    def is_waste(self) -> bool:
        """Whether only the report on waste has it."""
        return self.blocks is not self and self not in PRESENCE


PRESENCE = (Count.RESIDENT, Count.HUGE, Count.SWAPPED)
"""The parts that every report can count: in RAM, of it on huge pages, and swapped."""
REPORTED = (Count.INUSE, Count.ALLOC, Count.FREED, Count.PEAK, *PRESENCE)
PARTS = (*PRESENCE, Count.SLOP, Count.PAGES, Count.HELD, Count.PINNED)
PART_COLUMNS = {
    f"{part}_{kind}": of for part in PARTS for kind, of in (("bytes", "<u8"), ("squares", "<f8"))
}
"""Of a `SiteTable`, by the names of its fields, with their types in a file."""
