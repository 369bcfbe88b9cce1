"""The call graph as data: which functions and calls are drawn, and what was left out.

Nodes below 0.5 % of the total (cum) and edges below 0.1 % are pruned, and at most 80 nodes stay. A
stack gives its weight once to each distinct edge on it; calls of a function to itself are no edge.
Where functions between two drawn ones were pruned, the edge between those two is *indirect*.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mem_parser.estimate import Estimate
from mem_parser.model import BoolArray, Count, Profile, Unit
from mem_parser.reports.aggregate import Keys, Row, StackSums, rows_of, stack_parts
from mem_parser.reports.header import header_lines
from mem_parser.units import MIB, significant

NODE_SHARE = 0.005
EDGE_SHARE = 0.001
MAX_NODES = 80


@dataclass(frozen=True, slots=True)
class Edge:
    """Calls from one drawn node to another; both are positions in `CallGraph.nodes`."""

    caller: int
    callee: int
    value: float
    indirect: bool
    change: float | None = None
    """Since the base, where there is one."""


@dataclass(frozen=True, slots=True)
class CallGraph:
    """What is drawn. ``legend`` is lines of text, the total first; ``changes`` are those of the
    nodes' cum since a base, where there is one.
    """

    nodes: list[Row]
    edges: list[Edge]
    total: float
    unit: Unit
    legend: list[str]
    changes: list[Estimate] | None = None


def build_graph(
    profile: Profile, sums: StackSums, count: Count, unit: Unit, title: str
) -> CallGraph:
    """Return the call graph of ``sums``; ``title`` names the program in the legend."""
    total = sums.total
    rows = [row for row in rows_of(sums) if row.cum.value > 0]
    nodes, node_limit = choose_nodes(rows, total.value)
    key_of_name = {name: k for k, name in enumerate(sums.names)}
    position = np.full(max(len(sums.names), 1), -1, dtype=np.int64)
    position[[key_of_name[row.name] for row in nodes]] = np.arange(len(nodes))
    edges = edges_between(sums, position, len(nodes))
    kept = [e for e in edges if e.value >= EDGE_SHARE * total.value]
    legend = [total_line(total.value, unit), title]
    legend += header_lines(profile, total, count, unit)
    if not total.samples:
        legend.append("0 samples: nothing to show")
    legend += pruned_lines(len(rows) - len(nodes), node_limit, len(edges) - len(kept))
    return CallGraph(nodes, kept, total.value, unit, legend)


def pruned_lines(nodes: int, limit: str, edges: int) -> list[str]:
    """Return what was left out: so many nodes, for the reason ``limit``, and edges."""
    lines = [f"{nodes} functions {limit} not drawn"] if nodes else []
    return [*lines, *([f"{edges} calls below {100 * EDGE_SHARE:g} % not drawn"] if edges else [])]


def total_line(value: float, unit: Unit) -> str:
    """Return the line in the top left corner: `Total MB: 25.7`, powers of 1024."""
    if unit is Unit.OBJECTS:
        return f"Total objects: {value:.0f}"
    size = value / MIB
    return f"Total MB: {f'{size:.1f}' if size >= 1 or not size else significant(size, 3)}"


def choose_nodes(rows: list[Row], total: float) -> tuple[list[Row], str]:
    """Return the rows that are drawn, and the words for why others are not."""
    ordered = sorted(rows, key=lambda r: (-r.cum.value, -r.flat.value, r.name))
    heavy = [row for row in ordered if row.cum.value >= NODE_SHARE * total]
    if len(heavy) > MAX_NODES:
        return heavy[:MAX_NODES], f"beyond the heaviest {MAX_NODES}"
    return heavy, f"below {100 * NODE_SHARE:g} %"


def edges_between(sums: StackSums, position: npt.NDArray[np.int64], nodes: int) -> list[Edge]:
    """Return every distinct edge between drawn nodes with its weight."""
    if not len(sums.keys) or not nodes:
        return []
    weight = np.zeros(nodes * nodes)
    direct = np.zeros(nodes * nodes, dtype=np.bool_)
    for low, high in stack_parts(sums.offsets):
        stack, edge, is_direct = _edges_of(sums, position, nodes, low, high)
        np.add.at(weight, edge, sums.values[stack])
        direct[edge[is_direct]] = True
    return [
        Edge(k // nodes, k % nodes, float(weight[k]), not direct[k])
        for k in np.flatnonzero(weight > 0).tolist()
    ]


def _edges_of(
    sums: StackSums, position: npt.NDArray[np.int64], nodes: int, low: int, high: int
) -> tuple[Keys, Keys, BoolArray]:
    """Return (stack, edge, is it direct where it is innermost) of every edge on the stacks of [low,
    high), once per stack; an edge is caller * nodes + callee.
    """
    offsets = sums.offsets[low : high + 1]
    drawn = position[sums.keys[offsets[0] : offsets[-1]]]
    place = np.flatnonzero(drawn >= 0)
    stack = np.repeat(np.arange(high - low), np.diff(offsets))[place]
    node = drawn[place]
    pair = np.flatnonzero((stack[1:] == stack[:-1]) & (node[1:] != node[:-1]))
    direct = place[pair + 1] - place[pair] == 1
    edge = node[pair + 1] * nodes + node[pair]  # the outer frame calls the inner one
    # With its position an entry sorts behind the same edge further inside.
    count = max(len(pair), 1)
    order = np.sort((stack[pair] * (nodes * nodes) + edge) * count + np.arange(len(pair)))
    key = order // count
    first = order[np.flatnonzero(np.diff(key, prepend=-1))] % count
    return stack[pair][first] + low, edge[first], direct[first]
