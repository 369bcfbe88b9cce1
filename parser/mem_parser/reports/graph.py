"""The call graph as data: functions and calls to draw, and those left out.

Nodes below 0.5 % of the total (cum) are pruned, and at most 80 stay; `mem_parser.reports.edges`
chooses the edges between them.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from mem_parser.estimate import Estimate
from mem_parser.model import Count, Profile, Unit
from mem_parser.reports.aggregate import Row, StackSums, rows_of
from mem_parser.reports.edges import Edge, calls_between, choose_edges, left_out_lines
from mem_parser.reports.header import header_lines
from mem_parser.units import MIB, counted, significant

NODE_SHARE = 0.005
MAX_NODES = 80


@dataclass(frozen=True, slots=True)
class CallGraph:
    """The content of the drawing. ``heading`` says what it shows, ``legend`` is lines of text, the
    total first; ``changes`` are those of the nodes' cum since a base, if there is one,
    ``own_changes`` those of their flat, and ``beyond_noise`` says which are more than chance.
    """

    nodes: list[Row]
    edges: list[Edge]
    total: float
    unit: Unit
    heading: str
    legend: list[str]
    changes: list[Estimate] | None = None
    own_changes: list[float] | None = None
    beyond_noise: list[bool] | None = None


def build_graph(
    profile: Profile, sums: StackSums, count: Count, unit: Unit, title: str
) -> CallGraph:
    """Return the call graph of ``sums``; ``title`` names the program."""
    total = sums.total
    rows = [row for row in rows_of(sums) if row.cum.value > 0]
    nodes, node_limit = choose_nodes(rows, total.value)
    key_of_name = {name: k for k, name in enumerate(sums.names)}
    position = np.full(max(len(sums.names), 1), -1, dtype=np.int64)
    position[[key_of_name[row.name] for row in nodes]] = np.arange(len(nodes))
    chosen = choose_edges(calls_between(sums, position, len(nodes)), total.value)
    heading, header = heading_of(title, header_lines(profile, total, count, unit))
    legend = [total_line(total.value, unit), *header]
    if not total.samples:
        legend.append("0 samples: nothing to show")
    legend += pruned_lines(len(rows) - len(nodes), node_limit)
    legend += left_out_lines(chosen, unit)
    return CallGraph(nodes, chosen.drawn, total.value, unit, heading, legend)


def without_detail(graph: CallGraph) -> CallGraph:
    """Return the graph with only the edges that lead from the roots to every function."""
    edges = [edge for edge in graph.edges if edge.needed]
    fewer = len(graph.edges) - len(edges)
    lines = [f"simpler layout: {counted(fewer, 'more call')} not drawn"] if fewer else []
    return dataclasses.replace(graph, edges=edges, legend=[*graph.legend, *lines])


def pruned_lines(nodes: int, limit: str) -> list[str]:
    """Return the line about the number of nodes omitted for the reason ``limit``."""
    return [f"{counted(nodes, 'function')} {limit} not drawn"] if nodes else []


def heading_of(title: str, header: list[str]) -> tuple[str, list[str]]:
    """Return a line of the program, its total with the error and what is counted; and the rest of
    the ``header`` of reports.
    """
    total, _, rest = header[0].removeprefix("Total: ").partition("   ")
    return f"{title}: {total}", [rest, *header[1:]]


def total_line(value: float, unit: Unit) -> str:
    """Return the line below the heading: `Total MB: 25.7`, powers of 1024."""
    if unit is Unit.OBJECTS:
        return f"Total objects: {value:.0f}"
    size = value / MIB
    return f"Total MB: {f'{size:.1f}' if size >= 1 or not size else significant(size, 3)}"


def choose_nodes(rows: list[Row], total: float) -> tuple[list[Row], str]:
    """Return the rows to draw, and the reasons why others are omitted."""
    ordered = sorted(rows, key=lambda r: (-r.cum.value, -r.flat.value, r.name))
    heavy = [row for row in ordered if row.cum.value >= NODE_SHARE * total]
    if len(heavy) > MAX_NODES:
        return heavy[:MAX_NODES], f"beyond the heaviest {MAX_NODES}"
    return heavy, f"below {100 * NODE_SHARE:g} %"
