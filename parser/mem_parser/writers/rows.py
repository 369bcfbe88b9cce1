"""Write one row per stack, as CSV or JSON, with estimates, standard errors and 95 % intervals.

A row has the estimates of every count in the profile; errors are empty (CSV) or null (JSON) where
the file's counts are not numbers of samples. An upper end alone is so where there is only a lower
one: at least.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from typing import Any

from mem_parser.escape import csv_cell, json_text
from mem_parser.estimate import interval95
from mem_parser.model import Count, Profile, Unit
from mem_parser.names import FrameRule
from mem_parser.reports.aggregate import StackSums, sum_stacks
from mem_parser.symbols.table import Symbols
from mem_parser.writers.collapsed import frame_text

_PARTS = ("_std_error", "_lower95", "_upper95", "_samples")


def _columns(profile: Profile, symbols: Symbols, rule: FrameRule) -> dict[str, StackSums]:
    counts = [c for c in Count if not (c is Count.FREED or c.is_waste) and profile.has(c)]
    return {
        f"{count}_{unit}": sum_stacks(profile, symbols, count=count, unit=unit, rule=rule)
        for count in counts
        for unit in Unit
    }


def _end(value: float) -> float | None:
    return round(value, 1) if math.isfinite(value) else None


def _rows(columns: dict[str, StackSums]) -> Iterator[tuple[list[str], dict[str, Any]]]:
    """Yield the frames of each stack, outermost first, with its numbers."""
    first = next(iter(columns.values()))
    ends = {
        name: interval95(sums.values, sums.variances, sums.samples, sums.unseen)
        for name, sums in columns.items()
    }
    lower = {name: found.lower.tolist() for name, found in ends.items()}
    upper = {name: found.upper.tolist() for name, found in ends.items()}
    keys, bounds = first.keys.tolist(), first.offsets.tolist()
    for k in range(len(bounds) - 1):
        numbers: dict[str, Any] = {}
        for name, sums in columns.items():
            error = math.sqrt(float(sums.variances[k])) if sums.exact_samples else None
            numbers[name] = round(float(sums.values[k]))
            numbers[f"{name}_std_error"] = None if error is None else round(error, 1)
            numbers[f"{name}_lower95"] = None if error is None else _end(lower[name][k])
            numbers[f"{name}_upper95"] = None if error is None else _end(upper[name][k])
            numbers[f"{name}_samples"] = int(sums.samples[k])
        if any(numbers[name] for name in columns):
            frames = [first.names[x] for x in reversed(keys[bounds[k] : bounds[k + 1]])]
            yield frames, numbers


def write_csv(profile: Profile, symbols: Symbols, rule: FrameRule = FrameRule.OWN) -> str:
    """Return the file's text: a header line, then one line per stack."""
    columns = _columns(profile, symbols, rule)
    names = [f"{c}{part}" for c in columns for part in ("", *_PARTS)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*names, "stack"])
    for frames, numbers in _rows(columns):
        stack = ";".join(frame_text(f) for f in frames)
        writer.writerow([*(numbers[n] for n in names), csv_cell(stack)])
    return text.getvalue()


def write_json(profile: Profile, symbols: Symbols, rule: FrameRule = FrameRule.OWN) -> str:
    """Return the file's text: one object whose `stacks` are in the order of the profile."""
    stacks = [n | {"stack": f} for f, n in _rows(_columns(profile, symbols, rule))]
    capture = profile.capture
    document = {
        "format": profile.format,
        "rate_bytes": profile.rate_bytes,
        "sampling": profile.sampling or None,
        "host": capture.host,
        "pid": capture.pid,
        "command": capture.command,
        "duration_s": capture.duration_s,
        "exact_samples": profile.exact_samples,
        "incomplete": profile.incomplete,
        "stacks": stacks,
    }
    return json_text(document) + "\n"
