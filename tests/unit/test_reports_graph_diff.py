"""The call graph with changes since a base."""

from __future__ import annotations

from mem_parser.filters import Filters
from mem_parser.model import Count, Unit
from mem_parser.reports.graph import CallGraph
from mem_parser.reports.graph_diff import build_diff_graph
from mem_parser.reports.svg import dot_source
from mem_parser.reports.view import make_view
from reportview import named


def diff(
    new: tuple[tuple[str, int], ...], base: tuple[tuple[str, int], ...], rate: int = 1
) -> CallGraph:
    now, before = (make_view(*named(stacks, rate), Filters()) for stacks in (new, base))
    return build_diff_graph(
        now.profile, now.sums(), before.sums(), count=Count.INUSE, unit=Unit.SPACE, title="x"
    )


def test_new_gone_and_kept_functions_are_drawn_with_their_change() -> None:
    graph = diff(
        (("malloc grown main", 50), ("malloc same main", 7), ("malloc born main", 9)),
        (("malloc grown main", 20), ("malloc same main", 7), ("malloc gone main", 30)),
    )
    assert graph.changes is not None
    changes = {
        n.name: (n.cum.value, c.value) for n, c in zip(graph.nodes, graph.changes, strict=True)
    }
    assert changes == {"grown": (50, 30), "same": (7, 0), "born": (9, 9), "gone": (0, -30),
                       "main": (66, 9)}  # fmt: skip
    edges = {graph.nodes[e.callee].name: (e.value, e.change) for e in graph.edges}
    assert edges == {"grown": (50, 30), "same": (7, 0), "born": (9, 9), "gone": (0, -30)}
    assert graph.legend[0].startswith("Total MB:")
    assert "change since the base: +9 B" in graph.legend


def test_signs_say_what_colours_say() -> None:
    source = dot_source(diff((("malloc a", 50), ("malloc b", 7)), (("malloc b", 5000),)))
    assert "+50 B" in source
    assert "-4.876 KiB" in source


def test_a_change_inside_the_noise_is_grey_and_marked() -> None:
    source = dot_source(diff((("malloc a", 30), ("malloc b", 1 << 20)), (), rate=1 << 16))
    assert "~64.01 KiB ±" in source
