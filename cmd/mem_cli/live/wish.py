"""What a viewer chose to see, and the rows that it leaves."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

from mem_parser.live.totals import Order, Row, Rows, Totals

HOST = 0


@dataclass(frozen=True)
class Wish:
    """One choice: the order of the rows, the memory, the thread, and which rows.

    ``domain`` is a position in the profiles of a moment; ``thread`` a row of its threads, None: all
    together. ``pattern`` matches anywhere in a function, its file or module; ``module``: only rows
    of it. Both empty: all rows.
    """

    order: Order = Order.TOTAL
    domain: int = HOST
    thread: int | None = None
    pattern: str = ""
    module: str = ""

    @property
    def narrows(self) -> bool:
        """Whether some rows are left out."""
        return bool(self.pattern or self.module)


class Chosen(Sequence[Row]):
    """The rows that a wish leaves, in their order; a look-up builds them."""

    def __init__(self, rows: Rows, places: Sequence[int], names: Sequence[str]) -> None:
        self._rows, self._places = rows, places
        self.names = names

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self._rows[k] for k in self._places[index]]
        return self._rows[self._places[index]]


def chosen(rows: Rows, of: Totals, wish: Wish) -> Chosen:
    """Return those of ``rows`` that ``wish`` leaves; its pattern is one that compiles."""
    names = rows.names
    if not wish.narrows:
        return Chosen(rows, range(len(rows)), names)
    search = re.compile(wish.pattern).search
    kept = {
        name
        for name, module, file in zip(of.names, of.modules, of.files, strict=True)
        if (not wish.module or module == wish.module)
        and (search(name) or search(file) or search(module))
    }
    places = [k for k, name in enumerate(names) if name in kept]
    return Chosen(rows, places, [names[k] for k in places])
