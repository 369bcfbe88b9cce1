"""Moments of a run at which windows may begin and end: few, and so that no peak is between them.

The time is cut at the moments that are asked for, and evenly in between. Of each interval the
moment at which most was live is one of the edges. So the highest of the edges within a window of
two of them is the highest moment of that window: any other is in an interval whose own highest
moment is in the window too. This holds for the domain of which they are chosen.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mem_parser.memlog.run import Run
from mem_parser.memlog.running import Task, scan_all
from mem_parser.memlog.segments import segments_of
from mem_parser.memlog.timeline import stretch_of

MOST_EDGES = 400
"""Moments that `edges` returns at most."""
_MOST_NAMED = 60
_MOST_SEGMENTS = 20
Ints = npt.NDArray[np.int64]


def edges(
    run: Run,
    first_ns: int,
    last_ns: int,
    *,
    named_ns: Sequence[int] = (),
    domain: int = 0,
    jobs: int = 1,
) -> Ints:
    """Return moments from ``first_ns`` to ``last_ns``, both included, in ascending order.

    ``named_ns``: moments that are among them (at most 60, the first ones). ``domain``: whose
    highest moments. Raises InputFileError.
    """
    wanted = [t for t in named_ns if first_ns <= t <= last_ns][:_MOST_NAMED]
    known = [s.from_ns for s in segments_of(run) if s.base is not None]
    anew = [t for t in known if first_ns < t <= last_ns][:_MOST_SEGMENTS]
    fixed = sorted({first_ns, last_ns, *wanted, *anew})
    # An interval has one moment, and each fixed moment cuts one interval in two.
    room = max(MOST_EDGES - 2 * len(fixed), 1)
    even = np.linspace(first_ns, last_ns, room + 1).astype(np.int64).tolist()
    cuts = sorted({*fixed, *even})
    tasks = [
        Task(
            stretch_of(run, low, high, stacks=False),
            last_ns + 1,  # one interval for all
            run.file_facts.rates_bytes,
            last_ns + 1,
        )
        for low, high in itertools.pairwise(cuts)
    ]
    found = set(fixed)
    for rows in scan_all([task for task in tasks if task.stretch.blocks], jobs):
        if domain in rows:
            found.add(int(rows[domain].top_at_ns[0]))
    return np.array(sorted(found), dtype=np.int64)


def nearest(moments: Ints, time_ns: int) -> int:
    """Return the position of the moment nearest to a time; of two the earlier."""
    after = bisect.bisect_left(moments, time_ns)
    near = [k for k in (after - 1, after) if 0 <= k < len(moments)]
    return min(near, key=lambda k: abs(int(moments[k]) - time_ns))
