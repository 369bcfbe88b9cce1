"""The numbers behind the report's tables: by function, module, domain, thread and size.

All of them come from the whole profile, before anything is pruned for drawing. Blocks are charged
to the innermost frame outside the allocator (*own*); a function's *total* is every stack it is on,
once however often it recurs there. In JSON an amount is [value, lower, upper], the latter the
ends of the 95 % interval: null where they are not known; where only the upper one is null, the
number is at least the lower.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from mem_parser.estimate import Estimate, FloatArray
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
        "domains": _grouped(tree, tree.rows.domain, tree.domains, profile),
        "threads": thread_table(tree, profile),
        "sizes": size_table(profile),
        "totals": {
            key: _shown(profile.total(count, unit))
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
    units = {label: unit for label, _, unit in _MEASURES}
    per_stack: list[FloatArray] = []
    for label, count, unit in _MEASURES:
        if profile.has(count):
            labels.append(label)
            weighed = profile.weigh(count, unit)
            per_stack += [_sum_by(profile.sites.stack, c, stacks) for c in weighed]
    own = [_sum_by(leaf, c[ended], names) for c in per_stack]
    all_ = sum_by_key(sums, per_stack)
    columns: dict[str, tuple[Unit, list[FloatArray]]] = {}
    weight = np.zeros(names)
    samples = np.zeros(names)
    for k, label in enumerate(labels):
        value, taken = 3 * k, 3 * k + 2
        unit = units[label]
        columns[f"{label}.own"] = (unit, own[3 * k : 3 * k + 3])
        columns[f"{label}.total"] = (unit, all_[3 * k : 3 * k + 3])
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
            **_amounts(columns, k, profile),
        }
        for k in order[:MOST_FUNCTIONS].tolist()
    ]
    return {"rows": rows, "left_out": max(len(order) - MOST_FUNCTIONS, 0), "keys": list(columns)}


def _named(function: Function | None, name: str) -> dict[str, Any]:
    if function is None:
        return {"name": name, "file": "", "module": ""}
    return {"name": name, "file": function.file, "module": function.module}


def _amounts(
    columns: dict[str, tuple[Unit, list[FloatArray]]], k: int, profile: Profile
) -> dict[str, Any]:
    return {
        label: _amount([float(c[k]) for c in numbers], unit, profile)
        for label, (unit, numbers) in columns.items()
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
    return _group_rows(sums, list(modules), profile)


def _grouped(
    tree: Tree, group: IntArray, labels: list[str], profile: Profile
) -> list[dict[str, Any]]:
    values = tree.rows.counts["inuse"]
    sums = [_sum_by(group, values[:, k], len(labels)) for k in range(5)]
    return _group_rows(sums, labels, profile)


def thread_table(tree: Tree, profile: Profile) -> list[dict[str, Any]]:
    """Return what the blocks in use add up to by the thread that allocated them, the largest
    first.
    """
    rows = tree.thread_rows
    known = rows.thread >= 0
    values = rows.counts["inuse"][known]
    sums = [_sum_by(rows.thread[known], values[:, k], len(tree.threads)) for k in range(5)]
    return _group_rows(sums, tree.threads, profile)


def _group_rows(
    sums: list[FloatArray], labels: list[str], profile: Profile
) -> list[dict[str, Any]]:
    found = [
        {
            "index": k,
            "name": labels[k],
            "bytes": _amount(_at(sums, k, BYTES, BYTES_VARIANCE), Unit.SPACE, profile),
            "objects": _amount(_at(sums, k, OBJECTS, OBJECTS_VARIANCE), Unit.OBJECTS, profile),
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
    columns = (value, variance, objects, objects_variance, blocks)
    sums = [_sum_by(step[present], c[present], 0) for c in columns]
    return [
        {
            "from": 2**k,
            "to": 2 ** (k + 1),
            "bytes": _amount(_at(sums, k, BYTES, BYTES_VARIANCE), Unit.SPACE, profile),
            "objects": _amount(_at(sums, k, OBJECTS, OBJECTS_VARIANCE), Unit.OBJECTS, profile),
        }
        for k in range(len(sums[0]))
    ]


def _sum_by(group: npt.NDArray[Any], weights: npt.NDArray[Any], groups: int) -> FloatArray:
    return np.bincount(group, weights=weights, minlength=groups).astype(np.float64)


def _at(sums: list[FloatArray], k: int, value: int, variance: int) -> list[float]:
    return [float(sums[column][k]) for column in (value, variance, SAMPLES)]


def _amount(numbers: list[float], unit: Unit, profile: Profile) -> list[float | None]:
    value, variance, samples = numbers
    error = math.sqrt(max(variance, 0.0)) if profile.errors_known else math.nan
    return _shown(Estimate(value, error, round(samples), profile.unseen(unit)))


def _shown(estimate: Estimate) -> list[float | None]:
    lower, upper = estimate.known_ends
    value = estimate.value
    return [
        _short(value),
        None if lower is None else _near(value, lower, math.floor),
        None if upper is None else _near(value, upper, math.ceil),
    ]


def _near(value: float, end: float, outward: Callable[[float], int]) -> float:
    """Return an end with as many digits as its distance from ``value`` needs: few, since they
    are most of a table's size.
    """
    distance = abs(end - value)
    if distance <= 1e-7 * abs(value):
        return _short(value)
    step = 10.0 ** (math.floor(math.log10(distance)) - 1)
    return _short(max(outward(end / step), 0) * step)


def _short(value: float) -> float:
    """Return ``value`` with the digits that a page can show."""
    return float(f"{value:.7g}")
