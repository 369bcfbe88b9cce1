"""Profiles with made-up names, for tests of reports."""

import numpy as np

from heapfiles import HeapFile, Record
from mem_parser.filters import Filters
from mem_parser.model import Profile
from mem_parser.readers import read_bytes
from mem_parser.reports.view import View, make_view
from mem_parser.symbols.table import Function, Location, Symbols

STACKS = (("malloc net_read serve main", 100), ("malloc db_get serve main", 40),
          ("calloc parse main", 3))  # fmt: skip


def named(
    stacks: tuple[tuple[str, int], ...] = STACKS, rate: int = 1, blocks: int = 1
) -> tuple[Profile, Symbols]:
    """Stacks are spelled innermost first, blanks as `~`; function f is in f.c of /lib/f.so."""
    words = [text.split() for text, _ in stacks]
    names = sorted({w for line in words for w in line})
    records = [
        Record(tuple(0x1000 + names.index(w) for w in line), blocks, size)
        for line, (_, size) in zip(words, stacks, strict=True)
    ]
    profile = read_bytes(HeapFile(records, rate=rate).data, "x.heap")
    symbols = Symbols(
        [Function(n.replace("~", " "), f"{n}(int)", f"/lib/{n}.so", f"{n}.c") for n in names],
        [Location(k, f"{n}.c", k + 1) for k, n in enumerate(names)],
        profile.stacks.offsets,
        (profile.stacks.frames - 0x1000).astype(np.int32),
    )
    return profile, symbols


def view(
    stacks: tuple[tuple[str, int], ...] = STACKS, rate: int = 1, blocks: int = 1, **filters: object
) -> View:
    """The view of `named` stacks through filters."""
    return make_view(*named(stacks, rate, blocks), Filters(**filters))  # type: ignore[arg-type]
