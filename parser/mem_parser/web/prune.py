"""Leaving out the narrowest parts of a tree, and saying so.

A node's share is the largest part it has of any total that the page can show (bytes or objects, of
any count). The nodes with the largest shares stay. A parent's share is never below its child's, so
what stays is a tree. What was left out below a node becomes one child of it, named by `LEFT_OUT`:
no byte is lost from any total.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mem_parser.estimate import FloatArray
from mem_parser.model import BoolArray, IntArray
from mem_parser.symbols.table import Function
from mem_parser.tree import BYTES, LEFT_OUT, LIVE, OBJECTS, Rows, Tree, regroup
from mem_parser.words import phrase


@dataclass(slots=True)
class Pruned:
    """A tree small enough to draw, and what that cost."""

    tree: Tree
    left_out: int = 0
    """Branches that are not in the tree any more."""
    widest: float = 0.0
    """Share of the widest of them, 0 to 1."""

    @property
    def sentence(self) -> str:
        """A note for the reader about omitted parts; empty without any."""
        if not self.left_out:
            return ""
        return phrase(
            "{number} branches, each at most {share} % of the total, are drawn as “{frame}” under "
            "their callers to keep the file small; totals include them",
            number=f"{self.left_out:,}",
            share=f"{100 * self.widest:.2g}",
            frame=LEFT_OUT,
        )


def shares(tree: Tree) -> FloatArray:
    """Return each node's largest part of any total, 0 to 1."""
    result = np.zeros(len(tree))
    for kind in tree.rows.counts:
        total = tree.total(kind)[:, (BYTES, OBJECTS)]
        whole = total[0]
        part = np.divide(total, whole, out=np.zeros_like(total), where=whole > 0)
        np.maximum(result, part.max(axis=1), out=result)
    if tree.time_rows is not None:
        np.maximum(result, _shares_of_live(tree, tree.time_rows), out=result)
    return result


def _shares_of_live(tree: Tree, rows: Rows) -> FloatArray:
    """Return for each node at least the largest part that it has of what was in use when most was:
    the sum of the highest values of all rows below it.
    """
    order = np.lexsort((rows.thread, rows.domain, rows.node))
    node, value = rows.node[order], rows.counts[LIVE][order][:, (BYTES, OBJECTS)]
    pair = node * (int(rows.domain.max(initial=0)) + 1) + rows.domain[order]
    first = np.flatnonzero(np.diff(pair, prepend=-1))
    if not len(first):
        return np.zeros(len(tree))
    total = np.cumsum(value, axis=0)
    before = (total - value)[first]
    highest = np.maximum(np.maximum.reduceat(total, first, axis=0) - before, 0.0)
    own = np.zeros((len(tree), 2))
    np.add.at(own, node[first], highest)
    moments = int(rows.thread.max()) + 1
    at_moments = [
        np.cumsum(np.bincount(rows.thread, rows.counts[LIVE][:, k], moments)).max()
        for k in (BYTES, OBJECTS)
    ]
    whole = np.maximum(np.array(at_moments), 1e-300)
    return np.asarray(np.minimum(tree.sum_up(own) / whole, 1.0).max(axis=1))


def prune(tree: Tree, most_nodes: int, share: FloatArray | None = None) -> Pruned:
    """Return ``tree`` with ``most_nodes`` nodes at most, those for what was left out included.

    ``share`` saves computing `shares` again. The root always stays, and one node below it.
    """
    share = shares(tree) if share is None else share
    rest = tree.left_out > 0
    present = (share > 0) & ~rest
    present[0] = True
    if (present | rest).all() and len(tree) <= most_nodes:
        return Pruned(tree, int(tree.left_out.sum()), tree.widest)
    rank = np.empty(len(tree), dtype=np.int64)
    rank[np.argsort(-np.where(rest, -1.0, share), kind="stable")] = np.arange(len(tree))
    # A root of nothing ties with its children, and the stable sort still puts it first.
    last = _last_child(tree, np.where(present | rest, rank, -1))
    kept = rank < _how_many(rank, last, int(present.sum()), most_nodes)
    holder = np.flatnonzero(kept & (last >= int(kept.sum())))
    return _cut(tree, kept, holder, share)


def _within(tree: Tree, target: IntArray) -> IntArray:
    """Return ``target``, where a node that has none gets its parent's."""
    result = target.copy()
    for low, high in zip(tree.levels[1:-1], tree.levels[2:], strict=True):
        missing = low + np.flatnonzero(result[low:high] < 0)
        result[missing] = result[tree.parent[missing]]
    return result


def _last_child(tree: Tree, rank: IntArray) -> IntArray:
    """Return for each node the largest of its children's ranks, -1 without children."""
    result = np.full(len(tree), -1, dtype=np.int64)
    first = np.flatnonzero(np.diff(tree.parent[1:], prepend=-1))
    if len(first):
        result[tree.parent[1:][first]] = np.maximum.reduceat(rank[1:], first)
    return result


def _how_many(rank: IntArray, last: IntArray, present: int, most_nodes: int) -> int:
    """Return how many nodes of the lowest ranks may stay.

    With *k* of them, every node of rank below *k* whose last child has rank *k* or above gets one
    child for what it lost; the sum of both must not pass ``most_nodes``.
    """
    parents = last > rank
    change = np.bincount(rank[parents] + 1, minlength=len(rank) + 2)
    change -= np.bincount(last[parents] + 1, minlength=len(rank) + 2)
    nodes = np.arange(len(rank) + 2) + np.cumsum(change)
    fitting = np.flatnonzero(nodes[: present + 1] <= most_nodes)
    return max(int(fitting[-1]), 1)


def _cut(tree: Tree, kept: BoolArray, holder: IntArray, share: FloatArray) -> Pruned:
    old = np.concatenate((np.flatnonzero(kept), np.full(len(holder), -1)))
    old_parent = np.concatenate((tree.parent[kept], holder))
    depth = np.concatenate((tree.depth[kept], tree.depth[holder] + 1))
    order = np.lexsort((np.arange(len(old)), old_parent, depth))
    old, old_parent, depth = old[order], old_parent[order], depth[order]
    new_of_old = np.full(len(tree), -1, dtype=np.int64)
    is_old = old >= 0
    new_of_old[old[is_old]] = np.flatnonzero(is_old)
    rest_of = np.full(len(tree), -1, dtype=np.int64)
    rest_of[old_parent[~is_old]] = np.flatnonzero(~is_old)
    target = new_of_old.copy()
    for low, high in zip(tree.levels[1:-1], tree.levels[2:], strict=True):
        missing = low + np.flatnonzero(target[low:high] < 0)
        parent = tree.parent[missing]
        target[missing] = np.where(new_of_old[parent] >= 0, rest_of[parent], target[parent])
    there = _within(tree, target)
    name, file = tree.name[old], tree.file[old]
    line, inlined = tree.line[old], tree.inlined[old]
    name[~is_old], file[~is_old] = len(tree.names), 0
    line[~is_old], inlined[~is_old] = 0, False
    # What hangs on a kept node was left out as a whole, or is what was left out there before.
    branch = np.flatnonzero(~kept & (share > 0) & kept[tree.parent])
    counts = np.bincount(
        rest_of[tree.parent[branch]],
        weights=np.maximum(tree.left_out[branch], 1),
        minlength=len(old),
    ).astype(np.int64)
    widest = float(share[branch[tree.left_out[branch] == 0]].max(initial=tree.widest))
    pruned = Tree(
        [*tree.names, Function(LEFT_OUT, LEFT_OUT, "", known=False)],
        [*tree.group, len(tree.names)],
        tree.files,
        np.where(old_parent >= 0, new_of_old[old_parent], -1),
        name,
        file,
        line,
        inlined,
        np.searchsorted(depth, np.arange(int(depth.max()) + 2)),
        regroup(tree.rows, target),
        regroup(tree.thread_rows, target),
        tree.domains,
        tree.threads,
        counts,
        widest,
        tree.notes,
        there[tree.leaf],
        None if tree.time_rows is None else regroup(tree.time_rows, there),
    )
    return Pruned(pruned, int(counts.sum()), widest)
