"""A viewer's choices: filters, order, measure."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from mem_parser.live.totals import Order, Totals
from mem_parser.model import BoolArray

HOST = 0


@dataclass(frozen=True)
class ViewOptions:
    """One choice: the order of the rows, the memory, the thread, and which functions.

    ``domain`` is a position in the profiles of a moment; ``thread`` a row of its threads, None: all
    together. ``pattern`` matches anywhere in a function, its file or module; ``module``: only those
    of it. Both empty: all.
    """

    order: Order = Order.OWN
    domain: int = HOST
    thread: int | None = None
    pattern: str = ""
    module: str = ""

    @property
    def narrows(self) -> bool:
        """Whether some rows are left out."""
        return bool(self.pattern or self.module)


def matching(of: Totals, options: ViewOptions) -> BoolArray:
    """Return which functions ``options`` leaves; its pattern is one that compiles."""
    search = re.compile(options.pattern).search
    kept = [
        (not options.module or module == options.module)
        and bool(search(name) or search(file) or search(module))
        for name, module, file in zip(of.names, of.modules, of.files, strict=True)
    ]
    return np.array(kept, dtype=np.bool_)
