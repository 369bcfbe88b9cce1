"""Sales by customer, read from CSV text."""

from __future__ import annotations

import csv
import io
from collections import defaultdict

_cache: dict[str, dict[str, float]] = {}


def totals(text: str) -> dict[str, float]:
    """The sum of each customer's sales."""
    found: dict[str, float] = defaultdict(float)
    for customer, amount in csv.reader(io.StringIO(text)):
        found[customer] += float(amount)
    return dict(found)


def cached_totals(name: str, text: str) -> dict[str, float]:
    """The same, computed once for each name. The cache is never emptied."""
    if name not in _cache:
        _cache[name] = totals(text)
    return _cache[name]
