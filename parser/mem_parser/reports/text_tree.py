"""`tree`: callers and callees from the outermost function down, as indented text.

The tree grows level by level over whole columns of stacks; stacks below a branch that is too small
to be drawn leave at once, so that a million of them cost nothing further down. Omissions are stated
per branch and below the tree. A function with one drawn callee has it on the next line without
further indent, so that deep stacks stay on the screen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from mem_parser.estimate import Estimate, FloatArray
from mem_parser.model import BoolArray, IntArray
from mem_parser.reports.aggregate import GroupBy, StackSums, estimate
from mem_parser.reports.grid import NAME, Block, Column, Record, marked, numbers, shares
from mem_parser.reports.view import View
from mem_parser.units import format_value
from mem_parser.words import phrase, plural

MOST_NODES = 200
LEAST_SHARE = 0.005


@dataclass(frozen=True, slots=True)
class TreeOptions:
    """What to draw: branches of at least ``share`` of the total, the ``most`` heaviest (0: all),
    down to ``depth`` (0: all), of the ``biggest`` by own bytes and their callers (0: all).
    ``inverted``: from the allocating functions to their callers.
    ``lines``: nodes are source lines.
    """

    share: float = LEAST_SHARE
    most: int = MOST_NODES
    depth: int = 0
    inverted: bool = False
    lines: bool = False
    biggest: int = 0


@dataclass(slots=True)
class Node:
    """A function below its caller; ``total`` includes all below, ``own`` only stacks that end
    here.
    """

    name: str
    total: Estimate
    own: Estimate
    children: list[Node] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class TextTree:
    """The drawn nodes below a root, and the number of omitted ones."""

    view: View
    options: TreeOptions
    root: Node
    left_out: int


@dataclass(slots=True)
class _Level:
    """The kept nodes of one level: parents are positions in the level above."""

    parent: IntArray
    name: IntArray
    total: FloatArray
    own: FloatArray


def text_tree(view: View, options: TreeOptions) -> TextTree:
    """Return the tree of ``view``."""
    sums = view.sums(GroupBy.LINE if options.lines else GroupBy.FUNCTION)
    levels, left_out = _grow(sums, options)
    if options.biggest:
        left_out += _keep_biggest(levels, options.biggest)
    if options.most:
        left_out += _keep_heaviest(levels, options.most)
    root = Node("all", sums.total, Estimate(0.0))
    above = [root]
    for level in levels:
        nodes = [
            Node(
                sums.names[name],
                _estimate(level.total[k], sums),
                _estimate(level.own[k], sums),
            )
            for k, name in enumerate(level.name.tolist())
        ]
        for node, parent in zip(nodes, level.parent.tolist(), strict=True):
            above[parent].children.append(node)
        above = nodes
    _sort(root)
    return TextTree(view, options, root, left_out)


def _grow(sums: StackSums, options: TreeOptions) -> tuple[list[_Level], int]:
    """Return the levels of branches that are large enough, and the number of those that are not."""
    depths = np.diff(sums.offsets)
    least = options.share * sums.total.value
    deepest = options.depth or int(depths.max(initial=0))
    weights = np.column_stack((sums.values, sums.variances, sums.samples)).astype(np.float64)
    active = np.flatnonzero(depths > 0)
    at = np.zeros(len(depths), dtype=np.int64)
    width = max(len(sums.names), 1)
    levels: list[_Level] = []
    left_out = 0
    for depth in range(deepest):
        if not len(active):
            break
        if options.inverted:
            place = sums.offsets[active] + depth
        else:
            place = sums.offsets[active + 1] - 1 - depth
        unique, inverse = np.unique(at[active] * width + sums.keys[place], return_inverse=True)
        total = _add(inverse, weights[active], len(unique))
        ends = depths[active] == depth + 1
        own = _add(inverse[ends], weights[active][ends], len(unique))
        seen = total[:, 2] > 0
        kept = seen & (total[:, 0] >= least)
        left_out += int(np.count_nonzero(seen & ~kept))
        number = np.cumsum(kept) - 1
        at[active] = number[inverse]
        levels.append(_Level(unique[kept] // width, unique[kept] % width, total[kept], own[kept]))
        active = active[kept[inverse] & ~ends]
    return levels, left_out


def _add(group: IntArray, weights: FloatArray, count: int) -> FloatArray:
    columns = [np.bincount(group, weights=weights[:, k], minlength=count) for k in range(3)]
    return np.column_stack(columns).astype(np.float64)


def _keep_heaviest(levels: list[_Level], most: int) -> int:
    """Keep only the ``most`` heaviest nodes; returns the number of removed ones.

    A node is never heavier than its parent, and levels come first in a stable order, so the rest is
    a tree.
    """
    values = np.concatenate([x.total[:, 0] for x in levels]) if levels else np.zeros(0)
    chosen = np.zeros(len(values), dtype=np.bool_)
    # Sums of the same numbers in another order differ in the last digit.
    chosen[np.argsort(-np.round(values, 3), kind="stable")[:most]] = True
    return _keep(levels, chosen)


def _keep_biggest(levels: list[_Level], biggest: int) -> int:
    """Keep only the nodes that have most of their own, and those above; returns the number of
    removed ones.
    """
    own = np.concatenate([x.own[:, 0] for x in levels]) if levels else np.zeros(0)
    chosen = np.zeros(len(own), dtype=np.bool_)
    chosen[np.argsort(-np.round(own, 3), kind="stable")[:biggest]] = True
    end = len(own)
    for level, above in zip(levels[:0:-1], levels[-2::-1], strict=True):
        begin = end - len(level.name)
        at = begin - len(above.name)
        chosen[at + level.parent[chosen[begin:end]]] = True
        end = begin
    return _keep(levels, chosen)


def _keep(levels: list[_Level], chosen: BoolArray) -> int:
    """Keep the ``chosen`` nodes of all levels whose callers are chosen; returns the number of
    removed ones.
    """
    start = 0
    number_above = np.zeros(1, dtype=np.int64)
    kept_above = np.ones(1, dtype=np.bool_)
    for k, level in enumerate(levels):
        keep = chosen[start : start + len(level.name)] & kept_above[level.parent]
        start += len(level.name)
        parent = number_above[level.parent[keep]]
        levels[k] = _Level(parent, level.name[keep], level.total[keep], level.own[keep])
        number_above, kept_above = np.cumsum(keep) - 1, keep
    return len(chosen) - sum(len(x.name) for x in levels)


def _estimate(columns: FloatArray, sums: StackSums) -> Estimate:
    value, variance, samples = columns.tolist()
    return estimate(value, variance, samples, sums)


def _sort(root: Node) -> None:
    waiting = [root]
    while waiting:
        node = waiting.pop()
        node.children.sort(key=lambda n: (-n.total.value, n.name))
        waiting += node.children


def blocks(found: TextTree) -> Iterator[Block]:
    """Yield the report for people."""
    unit, options = found.view.filters.unit, found.options
    lines = list(_lines(found.root))
    totals = [node.total for _, node in lines]
    rows = (
        (*total, format_value(node.own.value, unit) if node.own.value else "", guide + node.name)
        for total, (guide, node) in zip(
            shares(totals, unit, found.view.total.value), lines, strict=True
        )
    )
    name = Column(phrase("callers below"), right=False, flexible=True)
    heads = (phrase("total"), "%", phrase("ends here") if options.inverted else phrase("own"))
    columns = (*map(Column, heads), name if options.inverted else NAME)
    return found.view.framed(marked(columns, rows, totals, _left_out(found)))


def _left_out(found: TextTree) -> str:
    if not found.left_out:
        return ""
    return plural(
        "{number} smaller branch hidden. Use --min-share 0 -n 0 to show all.",
        "{number} smaller branches hidden. Use --min-share 0 -n 0 to show all.",
        found.left_out,
    )


def _lines(root: Node) -> Iterator[tuple[str, Node]]:
    """Yield (guide, node) in the order of the lines."""
    waiting: list[tuple[str, str, Node]] = [("", "", root)]
    while waiting:
        guide, below, node = waiting.pop()
        yield guide, node
        if len(node.children) == 1:
            waiting.append((below, below, node.children[0]))
            continue
        last = len(node.children) - 1
        for k in range(last, -1, -1):
            branch, rest = ("└─ ", "   ") if k == last else ("├─ ", "│  ")
            waiting.append((below + branch, below + rest, node.children[k]))


def records(found: TextTree) -> list[Record]:
    """Return one row per node for programs, callers first; ``depth`` is 0 at the root."""
    result: list[Record] = []
    waiting = [(0, found.root)]
    while waiting:
        depth, node = waiting.pop()
        result.append(
            {"depth": depth, "function": node.name}
            | numbers("total", node.total)
            | numbers("own", node.own)
            | {"samples": node.total.samples}
        )
        waiting += [(depth + 1, child) for child in reversed(node.children)]
    return result
