"""The numbers behind the report's tables: by function, module, domain, thread and size.

All of them come from the whole profile, before anything is pruned for drawing, and there is one set
for every count that the file has: the reader chooses between them. Only threads are known for
blocks in use alone. Blocks are charged to the innermost frame outside the allocator (*own*); a
function's *total* is every stack it is on, once however often it recurs there. In JSON an amount is
[value, lower, upper], the latter the ends of the 95 % interval: null where they are not known;
where only the upper one is null, the number is at least the lower.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mem_parser.estimate import Estimate, FloatArray, Unseen
from mem_parser.model import Count, Profile, Unit
from mem_parser.names import FrameRule
from mem_parser.reports.aggregate import sum_by_key, sum_stacks, without_allocators
from mem_parser.symbols.table import Function, Symbols
from mem_parser.tree import (
    BYTES,
    BYTES_VARIANCE,
    COLUMNS,
    OBJECTS,
    OBJECTS_VARIANCE,
    SAMPLES,
    Tree,
)
from mem_parser.web.measures import measures, shown_counts

MOST_FUNCTIONS = 3000
"""Rows of the function table that reach the page."""
_PARTS = {Count.ALLOC: (Count.INUSE, Count.FREED)}
"""Counts that a tree does not keep, and what they add up from."""


def tables(
    profile: Profile, symbols: Symbols, tree: Tree, most_functions: int = MOST_FUNCTIONS
) -> dict[str, Any]:
    """Return the block `tables` of a report: functions and totals by measure (see
    `mem_parser.web.measures`), modules, domains and sizes by count, and threads.
    """
    counts = shown_counts(profile)
    return {
        "functions": function_table(profile, symbols, most_functions),
        "modules": module_tables(profile, symbols, counts),
        "domains": domain_tables(tree, profile, counts),
        "threads": thread_table(tree, profile),
        "sizes": {str(count): size_table(profile, count) for count in counts},
        "totals": {
            name: _shown(profile.total(count, unit)) for name, count, unit in measures(profile)
        },
    }


def function_table(
    profile: Profile, symbols: Symbols, most: int = MOST_FUNCTIONS
) -> dict[str, Any]:
    """Return rows by function, the heaviest of any measure first, and how many were left out.

    A row is {name, file, module}; `amounts` has for each measure the numbers `own` and `total` of
    all rows (`inuse.space.own`), as [value, distance to the lower end, distance to the upper end].
    """
    sums = sum_stacks(profile, symbols)
    depth = np.diff(sums.offsets)
    ended = np.flatnonzero(depth > 0)
    leaf = sums.keys[sums.offsets[:-1][ended]]
    names, stacks = len(sums.names), len(depth)
    counts = shown_counts(profile)
    per_stack = [
        _sum_by(profile.sites.stack, column, stacks)
        for count in counts
        for column in _five_columns(profile, count)
    ]
    own = [_sum_by(leaf, column[ended], names) for column in per_stack]
    total = sum_by_key(sums, per_stack)
    columns: dict[str, tuple[Unit, Sequence[FloatArray]]] = {}
    weight = np.zeros(names)
    for k, (name, _, unit) in enumerate(measures(profile)):
        first = COLUMNS * (k // len(Unit))
        value = first + (BYTES if unit is Unit.SPACE else OBJECTS)
        for part, found in (("own", own), ("total", total)):
            taken = (found[value], found[value + 1], found[first + SAMPLES])
            columns[f"{name}.{part}"] = (unit, taken)
        whole = max(float(per_stack[value].sum()), 1e-300)
        weight = np.maximum(weight, total[value] / whole)
    order = np.argsort(-weight, kind="stable")
    order = order[weight[order] > 0]
    of_name = {f.name: f for f in reversed(symbols.functions)}
    kept = order[:most].tolist()
    unseen = {unit: profile.unseen(unit) for unit in Unit}
    known = profile.errors_known
    return {
        "rows": [_named(of_name.get(sums.names[k]), sums.names[k]) for k in kept],
        "amounts": {
            name: [
                _with_margins(_estimated([float(c[k]) for c in numbers], unseen[unit], known=known))
                for k in kept
            ]
            for name, (unit, numbers) in columns.items()
        },
        "left_out": max(len(order) - most, 0),
    }


def _five_columns(profile: Profile, count: Count) -> list[FloatArray]:
    """Return bytes, objects, their variances and the samples of every site, as a tree has them."""
    size, size_variance, samples = profile.weigh(count, Unit.SPACE)
    objects, objects_variance, _ = profile.weigh(count, Unit.OBJECTS)
    return [size, size_variance, objects, objects_variance, samples.astype(np.float64)]


def _named(function: Function | None, name: str) -> dict[str, Any]:
    if function is None:
        return {"name": name, "file": "", "module": ""}
    return {"name": name, "file": function.file, "module": function.module}


def module_tables(
    profile: Profile, symbols: Symbols, counts: Sequence[Count]
) -> dict[str, list[dict[str, Any]]]:
    """Return for each count what the functions of each module own, the largest first."""
    modules: dict[str, int] = {}
    of_function = [modules.setdefault(f.module, len(modules)) for f in symbols.functions]
    none = modules.setdefault("", len(modules))
    of_location = np.array([of_function[x.function] for x in symbols.locations], dtype=np.int64)
    offsets, locations = without_allocators(symbols, FrameRule.PROGRAM)
    of_stack = np.full(len(offsets) - 1, none, dtype=np.int64)
    ended = np.diff(offsets) > 0
    of_stack[ended] = of_location[locations[offsets[:-1][ended]]]
    group = of_stack[profile.sites.stack]
    found = {}
    for count in counts:
        sums = [_sum_by(group, c, len(modules)) for c in _five_columns(profile, count)]
        found[str(count)] = _group_rows(sums, list(modules), profile)
    return found


def domain_tables(
    tree: Tree, profile: Profile, counts: Sequence[Count]
) -> dict[str, list[dict[str, Any]]]:
    """Return what each domain holds, for the counts that all of the tree's domains have."""
    found = {}
    for count in counts:
        parts = _PARTS.get(count, (count,))
        if not all(part in tree.rows.counts for part in parts):
            continue
        first, *others = [tree.rows.counts[part] for part in parts]
        values = sum(others, start=first)
        sums = [_sum_by(tree.rows.domain, values[:, k], len(tree.domains)) for k in range(COLUMNS)]
        found[str(count)] = _group_rows(sums, tree.domains, profile)
    return found


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


def size_table(profile: Profile, count: Count = Count.INUSE) -> list[dict[str, Any]]:
    """Return blocks by size, in powers of two; `from` and `to` are bytes, `to` not included."""
    blocks, size = profile.counts(count)
    value, variance, _ = profile.weigh(count, Unit.SPACE)
    objects, objects_variance, _ = profile.weigh(count, Unit.OBJECTS)
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
    return _shown(_estimate(numbers, unit, profile))


def _estimate(numbers: list[float], unit: Unit, profile: Profile) -> Estimate:
    return _estimated(numbers, profile.unseen(unit), known=profile.errors_known)


def _estimated(numbers: list[float], unseen: Unseen, *, known: bool) -> Estimate:
    value, variance, samples = numbers
    error = math.sqrt(max(variance, 0.0)) if known else math.nan
    return Estimate(value, error, round(samples), unseen)


def _with_margins(estimate: Estimate) -> list[float | None]:
    """Return the value and how far its ends are, which takes fewer digits than the ends."""
    lower, upper = estimate.known_ends
    value = estimate.value
    return [
        _short(value),
        None if lower is None else _margin(value, value - lower),
        None if upper is None else _margin(value, upper - value),
    ]


def _margin(value: float, distance: float) -> float:
    """Return a distance with two digits, rounded up."""
    if distance <= 1e-7 * abs(value):
        return 0
    step = 10.0 ** (math.floor(math.log10(distance)) - 1)
    return _short(math.ceil(distance / step) * step)


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
