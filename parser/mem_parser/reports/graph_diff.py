"""The call graph of a profile with changes since an older one, the *base*.

Functions are the same if they have the same name, whatever build they are of. Nodes and calls are
chosen by their weight in both profiles together, so that removed functions are drawn as well as new
ones; the numbers in a node are those of the new profile, with the change below.
"""

from __future__ import annotations

import dataclasses
import math
from functools import partial

import numpy as np

from mem_parser.changed import amounts_of, judged
from mem_parser.diff import variance_between
from mem_parser.estimate import Estimate, FloatArray, added_up
from mem_parser.model import BoolArray, Count, Profile, Unit
from mem_parser.reports.aggregate import Row, StackSums, rows_of, sum_by_key
from mem_parser.reports.edges import calls_between, choose_edges, left_out_lines
from mem_parser.reports.graph import CallGraph, choose_nodes, heading_of, pruned_lines, total_line
from mem_parser.reports.grid import amount
from mem_parser.reports.header import header_lines
from mem_parser.reports.view import View


def graph_of_change(base: View, view: View, title: str) -> CallGraph:
    """Return the graph of ``view`` with its changes since ``base``."""
    count, unit = view.filters.count, view.filters.unit
    profile, new, old = view.profile, view.sums(), base.sums()
    # Of two snapshots of one capture blocks alive in both cancel.
    between = variance_between(base.profile, profile, unit) if count is Count.INUSE else None
    both, is_new = _join(new, old)
    now, before = _only(both, is_new), _only(both, ~is_new)
    rows = [row for row in rows_of(both) if row.cum.value > 0]
    chosen, limit = choose_nodes(rows, both.total.value)
    new_rows = {row.name: row for row in rows_of(now)}
    base_rows = {row.name: row for row in rows_of(before)}
    nodes = [_row(row.name, new_rows) for row in chosen]
    error_of = _errors_between(new, between)
    changes = [
        _paired(node.cum - _row(node.name, base_rows).cum, error_of.get(node.name))
        for node in nodes
    ]
    own = [node.flat.value - _row(node.name, base_rows).flat.value for node in nodes]
    beyond = _beyond_noise((base, view), both, is_new, between)
    whole = _paired(new.total - old.total, None if between is None else _root(between.sum()))
    position = np.full(max(len(both.names), 1), -1, dtype=np.int64)
    key_of_name = {name: k for k, name in enumerate(both.names)}
    position[[key_of_name[node.name] for node in nodes]] = np.arange(len(nodes))
    weighed = {
        which: {
            (e.caller, e.callee): e.value for e in calls_between(sums, position, len(nodes)).edges
        }
        for which, sums in (("new", now), ("base", before))
    }
    edges = choose_edges(calls_between(both, position, len(nodes)), both.total.value)
    drawn = [
        dataclasses.replace(
            e,
            value=weighed["new"].get((e.caller, e.callee), 0.0),
            change=weighed["new"].get((e.caller, e.callee), 0.0)
            - weighed["base"].get((e.caller, e.callee), 0.0),
        )
        for e in edges.drawn
    ]
    now_line, header = heading_of("now", header_lines(profile, new.total, count, unit))
    heading = f"{title}, change since the base: {change_text(whole, unit)}"
    legend = [total_line(new.total.value, unit), now_line, *header]
    if between is not None:
        legend.append("snapshots of one capture: blocks that are live in both cancel out")
    told = "grey and ~: inside the noise" if both.exact_samples else "these files carry no errors"
    legend.append(f"red and +: grew; blue and -: shrank; {told}")
    legend += pruned_lines(len(rows) - len(nodes), limit)
    legend += left_out_lines(edges, unit)
    return CallGraph(nodes, drawn, new.total.value, unit, heading, legend, changes, own,
                     [beyond[node.name] for node in nodes])  # fmt: skip


def _beyond_noise(
    views: tuple[View, View], both: StackSums, is_new: BoolArray, between: FloatArray | None
) -> dict[str, bool]:
    """Tell of every function whether its change is more than chance: of those that only own, as the
    table of the difference judges their own blocks, of callers with what they call.
    """
    base, new = (view.profile for view in views)
    count, unit = views[1].filters.count, views[1].filters.unit
    sides = []
    for one, other, mine in ((base, new, ~is_new), (new, base, is_new)):
        found = amounts_of(one, other, count, unit)
        sides.append(found.added(partial(_of_stacks, one, mine)))
    came = None
    if between is not None:
        came = np.zeros(len(is_new))
        came[is_new] = between.sum(axis=1)
    verdicts = []
    samples = []
    for add in (partial(_own, both), partial(_total, both)):
        before, after = (side.added(add) for side in sides)
        exact = base.errors_known and new.errors_known
        _, stands = judged(
            before, after, both.unseen, None if came is None else add(came), exact=exact
        )
        verdicts.append(stands)
        samples.append(before.samples + after.samples)
    only_own = samples[0] == samples[1]
    return dict(zip(both.names, np.where(only_own, *verdicts).tolist(), strict=True))


def _of_stacks(profile: Profile, mine: BoolArray, column: FloatArray) -> FloatArray:
    """Return a column of the sites of ``profile`` by stack of both, of which some are its own."""
    result = np.zeros(len(mine))
    result[mine] = added_up(profile.sites.stack, column, int(mine.sum()))
    return result


def _own(sums: StackSums, column: FloatArray) -> FloatArray:
    some = np.diff(sums.offsets) > 0
    return added_up(sums.keys[sums.offsets[:-1][some]], column[some], len(sums.names))


def _total(sums: StackSums, column: FloatArray) -> FloatArray:
    return sum_by_key(sums, [column])[0]


def _errors_between(new: StackSums, between: FloatArray | None) -> dict[str, float]:
    """Return by name the standard error of births and frees below each function."""
    if between is None:
        return {}
    (variance,) = sum_by_key(new, [between.sum(axis=1)])
    return {name: _root(v) for name, v in zip(new.names, variance.tolist(), strict=True)}


def _root(variance: float) -> float:
    return math.sqrt(max(float(variance), 0.0))


def _paired(change: Estimate, error: float | None) -> Estimate:
    """Return ``change`` with the smaller of its own standard error and ``error``."""
    if error is None or not error < change.std_error:
        return change
    return dataclasses.replace(change, std_error=error)


def change_text(change: Estimate, unit: Unit) -> str:
    """Return `+3.000 MiB ± 0.49`."""
    return ("+" if change.value > 0 else "") + amount(change, unit)


def _row(name: str, rows: dict[str, Row]) -> Row:
    nothing = Estimate(0.0)
    return rows.get(name) or Row(name, nothing, nothing)


def _join(new: StackSums, base: StackSums) -> tuple[StackSums, BoolArray]:
    """Return the stacks of both in one table of names, and which of them are of ``new``."""
    index = {name: k for k, name in enumerate(new.names)}
    of_base = [index.setdefault(name, len(index)) for name in base.names]
    keys = np.array(of_base, dtype=np.int32)[base.keys]
    is_new = np.zeros(len(new.values) + len(base.values), dtype=np.bool_)
    is_new[: len(new.values)] = True
    both = StackSums(
        names=list(index),
        offsets=np.concatenate((new.offsets, base.offsets[1:] + new.offsets[-1])),
        keys=np.concatenate((new.keys, keys)),
        values=np.concatenate((new.values, base.values)),
        variances=np.concatenate((new.variances, base.variances)),
        samples=np.concatenate((new.samples, base.samples)),
        exact_samples=new.exact_samples and base.exact_samples,
        unseen=max(new.unseen, base.unseen),
    )
    return both, is_new


def _only(sums: StackSums, stacks: BoolArray) -> StackSums:
    """Return ``sums`` in which all other stacks weigh nothing."""
    return dataclasses.replace(
        sums,
        values=sums.values * stacks,
        variances=sums.variances * stacks,
        samples=sums.samples * stacks,
    )
