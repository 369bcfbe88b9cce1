"""The numbers behind the report's tables: by function, module, domain, thread and size.

All of them come from the whole profile, before anything is pruned for drawing. Blocks are charged
to the innermost frame outside the allocator (*own*); a function's *total* is every stack it is on,
once however often it recurs there. In JSON an amount is the pair [value, half width of the 95 %
interval], the latter null where it is not known.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from mem_parser.estimate import Z95, FloatArray
from mem_parser.model import Count, IntArray, Profile, Unit
from mem_parser.names import FrameRule
from mem_parser.reports.aggregate import sum_by_key, sum_stacks, without_allocators
from mem_parser.symbols.table import Function, Symbols
from mem_parser.tree import BYTES, BYTES_VARIANCE, OBJECTS, OBJECTS_VARIANCE, SAMPLES, Tree

MOST_FUNCTIONS = 3000
"""Rows of the function table that reach the page."""
_MEASURES = (
    ("inuse", Count.INUSE, Unit.SPACE),
    ("objects", Count.INUSE, Unit.OBJECTS),
    ("alloc", Count.ALLOC, Unit.SPACE),
    ("allocations", Count.ALLOC, Unit.OBJECTS),
)


def tables(profile: Profile, symbols: Symbols, tree: Tree) -> dict[str, Any]:
    """Return the block `tables` of a report: functions, modules, domains, threads, sizes."""
    return {
        "functions": function_table(profile, symbols),
        "modules": module_table(profile, symbols),
        "domains": _grouped(tree, tree.rows.domain, tree.domains, exact=profile.errors_known),
        "threads": thread_table(tree, exact=profile.errors_known),
        "sizes": size_table(profile),
        "totals": {
            key: _amount(*_total(profile, count, unit))
            for key, count, unit in _MEASURES
            if profile.has(count)
        },
    }


def function_table(profile: Profile, symbols: Symbols) -> dict[str, Any]:
    """Return rows by function, the heaviest first, and how many were left out.

    A row is {name, file, module, samples} and, for each of in use and allocated, `own`, `total`,
    `objects` amounts.
    """
    sums = sum_stacks(profile, symbols)
    depth = np.diff(sums.offsets)
    ended = np.flatnonzero(depth > 0)
    leaf = sums.keys[sums.offsets[:-1][ended]]
    names, stacks = len(sums.names), len(depth)
    labels: list[str] = []
    per_stack: list[FloatArray] = []
    for label, count, unit in _MEASURES:
        if profile.has(count):
            labels.append(label)
            weighed = profile.weigh(count, unit)
            per_stack += [_sum_by(profile.sites.stack, c, stacks) for c in weighed]
    own = [_sum_by(leaf, c[ended], names) for c in per_stack]
    all_ = sum_by_key(sums, per_stack)
    columns: dict[str, tuple[FloatArray, FloatArray]] = {}
    weight = np.zeros(names)
    samples = np.zeros(names)
    for k, label in enumerate(labels):
        value, variance, taken = range(3 * k, 3 * k + 3)
        columns[f"{label}.own"] = (own[value], own[variance])
        columns[f"{label}.total"] = (all_[value], all_[variance])
        whole = max(float(per_stack[value].sum()), 1e-300)
        weight = np.maximum(weight, all_[value] / whole)
        samples = np.maximum(samples, all_[taken])
    order = np.argsort(-weight, kind="stable")
    order = order[weight[order] > 0]
    first = {f.name: f for f in reversed(symbols.functions)}
    rows = [
        {
            **_named(first.get(sums.names[k]), sums.names[k]),
            "samples": round(float(samples[k])),
            **_amounts(columns, k, exact=profile.errors_known),
        }
        for k in order[:MOST_FUNCTIONS].tolist()
    ]
    return {"rows": rows, "left_out": max(len(order) - MOST_FUNCTIONS, 0), "keys": list(columns)}


def _named(function: Function | None, name: str) -> dict[str, Any]:
    if function is None:
        return {"name": name, "file": "", "module": ""}
    return {"name": name, "file": function.file, "module": function.module}


def _amounts(
    columns: dict[str, tuple[FloatArray, FloatArray]], k: int, *, exact: bool
) -> dict[str, Any]:
    return {
        label: _amount(float(value[k]), float(variance[k]), exact=exact)
        for label, (value, variance) in columns.items()
    }


def module_table(profile: Profile, symbols: Symbols) -> list[dict[str, Any]]:
    """Return what the functions of each module own, the largest first."""
    modules: dict[str, int] = {}
    of_function = [modules.setdefault(f.module, len(modules)) for f in symbols.functions]
    none = modules.setdefault("", len(modules))
    of_location = np.array([of_function[x.function] for x in symbols.locations], dtype=np.int64)
    offsets, locations = without_allocators(symbols, FrameRule.PROGRAM)
    of_stack = np.full(len(offsets) - 1, none, dtype=np.int64)
    ended = np.diff(offsets) > 0
    of_stack[ended] = of_location[locations[offsets[:-1][ended]]]
    group = of_stack[profile.sites.stack]
    columns = (
        column
        for unit in (Unit.SPACE, Unit.OBJECTS)
        for column in profile.weigh(Count.INUSE, unit)[:2]
    )
    weights = [*columns, profile.counts(Count.INUSE)[0]]
    sums = [_sum_by(group, c, len(modules)) for c in weights]
    return _group_rows(sums, list(modules), exact=profile.errors_known)


def _grouped(
    tree: Tree, group: IntArray, labels: list[str], *, exact: bool
) -> list[dict[str, Any]]:
    values = tree.rows.counts["inuse"]
    sums = [_sum_by(group, values[:, k], len(labels)) for k in range(5)]
    return _group_rows(sums, labels, exact=exact)


def thread_table(tree: Tree, *, exact: bool) -> list[dict[str, Any]]:
    """Return what the blocks in use add up to by the thread that allocated them, the largest
    first.
    """
    rows = tree.thread_rows
    known = rows.thread >= 0
    values = rows.counts["inuse"][known]
    sums = [_sum_by(rows.thread[known], values[:, k], len(tree.threads)) for k in range(5)]
    return _group_rows(sums, tree.threads, exact=exact)


def _group_rows(sums: list[FloatArray], labels: list[str], *, exact: bool) -> list[dict[str, Any]]:
    found = [
        {
            "index": k,
            "name": labels[k],
            "bytes": _amount(float(sums[BYTES][k]), float(sums[BYTES_VARIANCE][k]), exact=exact),
            "objects": _amount(
                float(sums[OBJECTS][k]), float(sums[OBJECTS_VARIANCE][k]), exact=exact
            ),
            "samples": round(float(sums[SAMPLES][k])),
        }
        for k in range(len(labels))
        if sums[SAMPLES][k] > 0
    ]
    return sorted(found, key=lambda row: -row["bytes"][0])


def size_table(profile: Profile) -> list[dict[str, Any]]:
    """Return blocks in use by size, in powers of two; `from` and `to` are bytes, the latter not
    included.
    """
    blocks, size = profile.counts(Count.INUSE)
    value, variance, _ = profile.weigh(Count.INUSE, Unit.SPACE)
    objects, objects_variance, _ = profile.weigh(Count.INUSE, Unit.OBJECTS)
    present = blocks > 0
    mean = np.divide(size, blocks, out=np.zeros(len(blocks)), where=present)
    step = np.zeros(len(blocks), dtype=np.int64)
    step[present] = np.floor(np.log2(np.maximum(mean[present], 1))).astype(np.int64)
    sums = [
        _sum_by(step[present], c[present], 0) for c in (value, variance, objects, objects_variance)
    ]
    exact = profile.errors_known
    return [
        {
            "from": 2**k,
            "to": 2 ** (k + 1),
            "bytes": _amount(float(sums[0][k]), float(sums[1][k]), exact=exact),
            "objects": _amount(float(sums[2][k]), float(sums[3][k]), exact=exact),
        }
        for k in range(len(sums[0]))
    ]


def _sum_by(group: npt.NDArray[Any], weights: npt.NDArray[Any], groups: int) -> FloatArray:
    return np.bincount(group, weights=weights, minlength=groups).astype(np.float64)


def _total(profile: Profile, count: Count, unit: Unit) -> tuple[float, float]:
    total = profile.total(count, unit)
    return total.value, total.std_error**2


def _amount(value: float, variance: float, *, exact: bool = True) -> list[float | None]:
    margin = Z95 * math.sqrt(max(variance, 0.0)) if math.isfinite(variance) else math.nan
    known = exact and math.isfinite(margin)
    return [_short(value), _short(margin) if known else None]


def _short(value: float) -> float:
    """Return ``value`` with the digits that a page can show."""
    return float(f"{value:.7g}")
