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
from mem_parser.symbols.table import Function
from mem_parser.tree import BYTES, OBJECTS, Tree, regroup

LEFT_OUT = "[narrower frames]"


@dataclass(slots=True)
class Pruned:
    """A tree small enough to draw, and what that cost."""

    tree: Tree
    left_out: int = 0
    """Nodes that are not in the tree any more."""
    widest: float = 0.0
    """Share of the widest of them, 0 to 1."""

    @property
    def sentence(self) -> str:
        """What was left out, for the reader; empty if nothing was."""
        if not self.left_out:
            return ""
        return (
            f"{self.left_out:,} frames, each at most {100 * self.widest:.2g} % of the total, are "
            f"drawn as “{LEFT_OUT}” under their callers to keep the file small; totals include them"
        )


def shares(tree: Tree) -> FloatArray:
    """Return each node's largest part of any total, 0 to 1."""
    result = np.zeros(len(tree))
    for kind in tree.rows.counts:
        total = tree.total(kind)[:, (BYTES, OBJECTS)]
        whole = total[0]
        part = np.divide(total, whole, out=np.zeros_like(total), where=whole > 0)
        np.maximum(result, part.max(axis=1), out=result)
    return result


def prune(tree: Tree, most_nodes: int, share: FloatArray | None = None) -> Pruned:
    """Return ``tree`` with about ``most_nodes`` nodes at most; ``share`` saves computing `shares`
    again.
    """
    share = shares(tree) if share is None else share
    kept = share > 0
    kept[0] = True
    if int(kept.sum()) > most_nodes:
        order = np.lexsort((np.arange(len(tree)), -share))
        kept = np.zeros(len(tree), dtype=np.bool_)
        kept[order[: max(most_nodes, 1)]] = True
        kept[0] = True
    if kept.all():
        return Pruned(tree)
    dropped = ~kept
    edge = dropped & kept[np.maximum(tree.parent, 0)] & (share > 0)
    holder = np.unique(tree.parent[edge])
    return _cut(tree, kept, holder, share)


def _cut(tree: Tree, kept: np.ndarray, holder: np.ndarray, share: FloatArray) -> Pruned:
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
    names, name, line, inlined = list(tree.names), tree.name[old], tree.line[old], tree.inlined[old]
    name[~is_old], line[~is_old], inlined[~is_old] = len(names), 0, False
    names.append(Function(LEFT_OUT, LEFT_OUT, "", known=False))
    pruned = Tree(
        names,
        np.where(old_parent >= 0, new_of_old[old_parent], -1),
        name,
        line,
        inlined,
        np.searchsorted(depth, np.arange(int(depth.max()) + 2)),
        regroup(tree.rows, target),
        regroup(tree.thread_rows, target),
        tree.domains,
        tree.threads,
        tree.notes,
    )
    left = ~kept & (share > 0)
    return Pruned(pruned, int(left.sum()), float(share[left].max(initial=0.0)))
