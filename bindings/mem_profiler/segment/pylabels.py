"""The labels of a segment: records in its arena, read into columns.

Model: a label names the record of its outer label, which was stored before it and so has a smaller
id. Every number is untrusted; see `mem_profiler.segment.arena`. An invalid label is left out, and
its inner labels lose their outer label.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mem_parser.python.labels import MOST_DEPTH, Labels
from mem_profiler.segment import layout
from mem_profiler.segment.arena import Ints, bytes_of
from mem_profiler.segment.file import Words

_MOST = 1 << 16
"""Labels that are read; an honest segment has some hundred for each capture."""


def read_labels(arena: Words, ids: Ints) -> tuple[Labels | None, NDArray[np.uint32]]:
    """The labels with the given ids and their outer labels, and for each id its number among them
    (0: not a label). None if there are no labels.
    """
    rows: dict[int, tuple[int, int, str]] = {}
    wanted, back = np.unique(ids, return_inverse=True)
    for record in wanted.tolist():
        _read(arena, record, rows)
    numbers: dict[int, int] = {0: 0}
    distinct: dict[tuple[int, int, str], int] = {}
    for record in sorted(rows):  # an outer label has a smaller id
        outer, kind, name = rows[record]
        key = (numbers.get(outer, 0), kind, name)
        numbers[record] = distinct.setdefault(key, len(distinct) + 1)
    of_wanted = np.array([numbers.get(record, 0) for record in wanted.tolist()], np.uint32)
    found = of_wanted[np.asarray(back).reshape(-1)]
    if not distinct:
        return None, found
    outers, kinds, names = zip(*distinct, strict=True)
    return Labels(np.array(outers, np.uint32), np.array(kinds, np.uint8), list(names)), found


def _read(arena: Words, record: int, rows: dict[int, tuple[int, int, str]]) -> None:
    """Add a label and its outer labels to `rows`."""
    for _ in range(MOST_DEPTH):
        if record == 0 or record in rows or len(rows) == _MOST:
            return
        data = bytes_of(arena, record, layout.STACK_PYTHON_LABEL)
        head_bytes = layout.PYTHON_LABEL.itemsize
        if len(data) < head_bytes:
            return
        head = np.frombuffer(data[:head_bytes], layout.PYTHON_LABEL)[0]
        outer, kind, size = int(head["outer"]), int(head["kind"]), int(head["bytes"])
        if outer >= record or kind not in layout.LABEL_KINDS:
            return
        name = data[head_bytes : head_bytes + size].decode("utf-8", "replace")
        rows[record] = (outer, kind, name)
        record = outer
