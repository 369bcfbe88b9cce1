"""What of a report's numbers only the file knows: totals to the last digit, and blocks by size.

All others the page adds up itself, of its tree (``assets/report_tables.js``). In JSON an amount is
[value, lower, upper], the latter the ends of the 95 % interval: null where they are not known;
where only the upper one is null, the number is at least the lower.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mem_parser.estimate import Estimate
from mem_parser.model import Count, Profile, Unit
from mem_parser.web.measures import measures, shown_counts


def tables(profile: Profile) -> dict[str, Any]:
    """Return the block `tables` of a report: totals by measure (see `mem_parser.web.measures`), and
    sizes by count.
    """
    return {
        "totals": {
            name: _amount(profile.total(count, unit)) for name, count, unit in measures(profile)
        },
        "sizes": {str(count): size_table(profile, count) for count in shown_counts(profile)},
    }


def size_table(profile: Profile, count: Count = Count.INUSE) -> list[dict[str, Any]]:
    """Return blocks by size, in powers of two; `from` and `to` are bytes, `to` not included."""
    blocks, size = profile.counts(count)
    present = blocks > 0
    mean = np.divide(size, blocks, out=np.zeros(len(blocks)), where=present)
    step = np.floor(np.log2(np.maximum(mean[present], 1))).astype(np.int64)
    amounts = {}
    for name, unit in (("bytes", Unit.SPACE), ("objects", Unit.OBJECTS)):
        value, variance, _ = profile.weigh(count, unit)
        sums = [np.bincount(step, weights=c[present]) for c in (value, variance, blocks)]
        amounts[name] = [
            _amount(Estimate.of_sums(a, v, n, profile.unseen(unit), exact=profile.errors_known))
            for a, v, n in zip(*(column.tolist() for column in sums), strict=True)
        ]
    return [
        {"from": 2**k, "to": 2 ** (k + 1), "bytes": size, "objects": number}
        for k, (size, number) in enumerate(zip(amounts["bytes"], amounts["objects"], strict=True))
    ]


def _amount(estimate: Estimate) -> list[float | None]:
    return [estimate.value, *estimate.known_ends]
