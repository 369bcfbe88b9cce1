"""The calls of a graph: all of them with their weights, and those that are drawn.

A stack gives its weight once to each distinct edge on it; calls of a function to itself are not
edges. Where functions between two drawn ones were pruned, the edge between those two is *indirect*.

The program that draws takes time by the number of edges, and nobody follows hundreds of them. So a
graph has a bounded number: first those that lead from the roots to every function, of which each is
the heaviest that goes on from what is already reached (Prim's algorithm); then others by weight, at
most `MAX_DEGREE` in and out of a function, none below `EDGE_SHARE` of the total.
"""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mem_parser.estimate import FloatArray
from mem_parser.model import BoolArray, Unit
from mem_parser.reports.aggregate import Keys, StackSums, stack_parts
from mem_parser.units import counted, format_value

EDGE_SHARE = 0.001
MAX_DEGREE = 8
MAX_EDGES = 160


@dataclass(frozen=True, slots=True)
class Edge:
    """Calls from one drawn node to another; both are positions in `CallGraph.nodes`."""

    caller: int
    callee: int
    value: float
    indirect: bool
    change: float | None = None
    """Since the base, where there is one."""
    needed: bool = False
    """Whether the callee is reached from a root by this edge."""


@dataclass(frozen=True, slots=True)
class Calls:
    """Every edge between drawn nodes; ``entry`` is the weight of the stacks whose outermost drawn
    function each node is: those with some are the roots.
    """

    edges: list[Edge]
    entry: FloatArray


@dataclass(frozen=True, slots=True)
class ChosenEdges:
    """The drawn edges, the needed ones first, and the omitted ones: because they are light, because
    a function has `MAX_DEGREE` heavier ones, because there are `MAX_EDGES`.
    """

    drawn: list[Edge]
    light: list[Edge]
    crowded: list[Edge]
    beyond: list[Edge]


def calls_between(sums: StackSums, position: npt.NDArray[np.int64], nodes: int) -> Calls:
    """Return the calls between nodes; ``position`` is the node of each key, -1 if it has none."""
    entry = np.zeros(nodes)
    if not len(sums.keys) or not nodes:
        return Calls([], entry)
    weight = np.zeros(nodes * nodes)
    direct = np.zeros(nodes * nodes, dtype=np.bool_)
    for low, high in stack_parts(sums.offsets):
        drawn = _Drawn(sums, position, low, high)
        root_stack, root = drawn.outermost()
        np.add.at(entry, root, sums.values[root_stack])
        stack, edge, is_direct = drawn.edges(nodes)
        np.add.at(weight, edge, sums.values[stack])
        direct[edge[is_direct]] = True
    edges = [
        Edge(k // nodes, k % nodes, float(weight[k]), not direct[k])
        for k in np.flatnonzero(weight > 0).tolist()
    ]
    return Calls(edges, entry)


class _Drawn:
    """The drawn frames of the stacks [low, high), innermost first in each."""

    def __init__(
        self, sums: StackSums, position: npt.NDArray[np.int64], low: int, high: int
    ) -> None:
        offsets = sums.offsets[low : high + 1]
        drawn = position[sums.keys[offsets[0] : offsets[-1]]]
        self.low = low
        self.place = np.flatnonzero(drawn >= 0)
        self.stack = np.repeat(np.arange(high - low), np.diff(offsets))[self.place]
        self.node = drawn[self.place]

    def outermost(self) -> tuple[Keys, Keys]:
        """Return the stacks with a drawn frame, and the node of the outermost one of each."""
        last = np.flatnonzero(np.diff(self.stack, append=-1))
        return self.stack[last] + self.low, self.node[last]

    def edges(self, nodes: int) -> tuple[Keys, Keys, BoolArray]:
        """Return (stack, edge, is it direct where it is innermost) of every edge, once per stack;
        an edge is caller * nodes + callee.
        """
        place, stack, node = self.place, self.stack, self.node
        pair = np.flatnonzero((stack[1:] == stack[:-1]) & (node[1:] != node[:-1]))
        direct = place[pair + 1] - place[pair] == 1
        edge = node[pair + 1] * nodes + node[pair]  # the outer frame calls the inner one
        # With its position an entry sorts behind the same edge further inside.
        count = max(len(pair), 1)
        order = np.sort((stack[pair] * (nodes * nodes) + edge) * count + np.arange(len(pair)))
        key = order // count
        first = order[np.flatnonzero(np.diff(key, prepend=-1))] % count
        return stack[pair][first] + self.low, edge[first], direct[first]


def choose_edges(calls: Calls, total: float) -> ChosenEdges:
    """Return which edges are drawn; ``total`` is the weight of all stacks."""
    needed = _tree(calls)
    drawn = [dataclasses.replace(calls.edges[k], needed=True) for k in needed]
    chosen = ChosenEdges(drawn, [], [], [])
    nodes = len(calls.entry)
    leaving, entering = [0] * nodes, [0] * nodes
    for edge in drawn:
        leaving[edge.caller] += 1
        entering[edge.callee] += 1
    others = [edge for k, edge in enumerate(calls.edges) if k not in needed]
    for edge in sorted(others, key=lambda e: (-e.value, e.caller, e.callee)):
        if edge.value < EDGE_SHARE * total:
            chosen.light.append(edge)
        elif max(leaving[edge.caller], entering[edge.callee]) >= MAX_DEGREE:
            chosen.crowded.append(edge)
        elif len(drawn) >= MAX_EDGES:
            chosen.beyond.append(edge)
        else:
            leaving[edge.caller] += 1
            entering[edge.callee] += 1
            drawn.append(edge)
    return chosen


def _tree(calls: Calls) -> dict[int, None]:
    """Return the positions of the edges that lead from the roots to each other node.

    A function that is the outermost one of few stacks and is called in most counts as called.
    """
    leaving: dict[int, list[int]] = {}
    for k, edge in enumerate(calls.edges):
        leaving.setdefault(edge.caller, []).append(k)
    # (weight, -1 or the edge, node); the heaviest comes first, of equal ones a root.
    open_ways = [(-float(w), -1, k) for k, w in enumerate(calls.entry.tolist()) if w > 0]
    heapq.heapify(open_ways)
    reached: set[int] = set()
    needed: dict[int, None] = {}
    while open_ways:
        _, way, node = heapq.heappop(open_ways)
        if node in reached:
            continue
        reached.add(node)
        if way >= 0:
            needed[way] = None
        for k in leaving.get(node, ()):
            edge = calls.edges[k]
            if edge.callee not in reached:
                heapq.heappush(open_ways, (-edge.value, k, edge.callee))
    return needed


def left_out_lines(chosen: ChosenEdges, unit: Unit) -> Iterator[str]:
    """Yield the picture's text about its omitted edges."""
    if chosen.light:
        yield f"{counted(len(chosen.light), 'call')} below {100 * EDGE_SHARE:g} % not drawn"
    reasons = (
        (chosen.crowded, f"a function has its heaviest {MAX_DEGREE}"),
        (chosen.beyond, f"the picture has the heaviest {MAX_EDGES}"),
    )
    for edges, why in reasons:
        if edges:
            most = format_value(max(edge.value for edge in edges), unit)
            yield f"{counted(len(edges), 'call')} not drawn, none above {most}: {why}"
