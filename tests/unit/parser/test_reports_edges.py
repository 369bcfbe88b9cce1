"""Which calls a graph draws, and what becomes of a graph that takes too long to lay out."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.errors import MemError
from mem_parser.filters import Filters
from mem_parser.model import Count, Unit
from mem_parser.reports import svg
from mem_parser.reports.aggregate import sum_stacks
from mem_parser.reports.edges import EDGE_SHARE, MAX_DEGREE, MAX_EDGES, Calls, Edge, choose_edges
from mem_parser.reports.graph import MAX_NODES, CallGraph, build_graph, without_detail
from mem_parser.reports.graph_diff import graph_of_change
from mem_parser.reports.layout import DOT_VARIABLE, find_layout_program
from mem_parser.reports.svg import dot_source, draw_svg
from mem_parser.reports.view import make_view
from reportview import named

Stacks = tuple[tuple[str, int], ...]


def dense_stacks(count: int = 400, functions: int = 120) -> Stacks:
    """Stacks in which any function calls any other."""
    random = np.random.default_rng(7)
    stacks = []
    for _ in range(count):
        inner = random.choice(functions, random.integers(6, 16), replace=False)
        words = ["malloc", *(f"f{k}" for k in inner), "main"]
        stacks.append((" ".join(words), int(random.integers(100, 20_000))))
    return tuple(stacks)


def graph_of(stacks: Stacks) -> CallGraph:
    profile, symbols = named(stacks)
    return build_graph(profile, sum_stacks(profile, symbols), Count.INUSE, Unit.SPACE, "x")


def change_of(new: Stacks, base: Stacks) -> CallGraph:
    now, before = (make_view(*named(stacks), Filters()) for stacks in (new, base))
    return graph_of_change(before, now, "x")


def reached_from(roots: set[int], edges: list[Edge]) -> set[int]:
    reached, fresh = set(roots), set(roots)
    while fresh:
        fresh = {e.callee for e in edges if e.caller in fresh} - reached
        reached |= fresh
    return reached


@pytest.mark.parametrize("changed", [False, True])
def test_a_dense_graph_has_bounded_nodes_and_edges_and_hangs_together(changed: bool) -> None:
    stacks = dense_stacks()
    graph = change_of(stacks[:250], stacks[150:]) if changed else graph_of(stacks)
    assert len(graph.nodes) == MAX_NODES
    assert len(graph.edges) == MAX_EDGES
    others = [e for e in graph.edges if not e.needed]
    assert max(Counter(e.callee for e in others).values()) <= MAX_DEGREE
    assert max(Counter(e.caller for e in others).values()) <= MAX_DEGREE
    root = [n.name for n in graph.nodes].index("main")
    assert reached_from({root}, graph.edges) == set(range(MAX_NODES))
    assert sum("not drawn, none above" in line for line in graph.legend) == 2


def test_a_graph_without_detail_hangs_together_and_says_what_is_gone() -> None:
    graph = graph_of(dense_stacks())
    simple = without_detail(graph)
    assert len(simple.edges) == MAX_NODES - 1
    assert simple.legend == [
        *graph.legend,
        f"simpler layout: {MAX_EDGES - MAX_NODES + 1} more calls not drawn",
    ]
    root = [n.name for n in graph.nodes].index("main")
    assert reached_from({root}, simple.edges) == set(range(MAX_NODES))
    assert without_detail(simple) == simple


def test_a_sparse_graph_is_drawn_whole() -> None:
    graph = graph_of((("malloc a b main", 9), ("malloc a c main", 5), ("malloc a b", 2)))
    names = [n.name for n in graph.nodes]
    found = {(names[e.caller], names[e.callee]): e.value for e in graph.edges}
    assert found == {("b", "a"): 11, ("main", "b"): 9, ("c", "a"): 5, ("main", "c"): 5}
    assert not any("not drawn" in line for line in graph.legend)


def test_a_light_call_is_drawn_where_nothing_else_leads_to_a_function() -> None:
    heavy = [(f"malloc x y{k} main", 10_000) for k in range(30)]
    graph = graph_of((*heavy, ("malloc x z thread", 10_000), ("malloc x z main", 1)))
    names = [n.name for n in graph.nodes]
    calls = {(names[e.caller], names[e.callee]) for e in graph.edges}
    assert {("main", f"y{k}") for k in range(30)} <= calls, "beyond the heaviest 8, but needed"
    assert ("thread", "z") in calls
    assert ("main", "z") not in calls
    assert "1 call below 0.1 % not drawn" in graph.legend
    assert sum(callee == "x" for _, callee in calls) == MAX_DEGREE
    assert "23 calls not drawn, none above 9.766 KiB: a function has its heaviest 8" in (
        graph.legend
    )


@st.composite
def calls(draw: st.DrawFn) -> Calls:
    """Edges and roots as stacks make them: every function is on a way from a root."""
    nodes = draw(st.integers(1, 12))
    stacks = draw(st.lists(st.lists(st.integers(0, nodes - 1), min_size=1), min_size=1))
    weight: Counter[tuple[int, int]] = Counter()
    entry = np.zeros(nodes)
    for stack in stacks:
        value = draw(st.integers(1, 10_000))
        entry[stack[0]] += value
        weight.update({pair: value for pair in itertools.pairwise(stack) if pair[0] != pair[1]})
    edges = [Edge(a, b, float(v), indirect=False) for (a, b), v in sorted(weight.items())]
    return Calls(edges, entry)


@given(calls(), st.floats(0, 1e7))
def test_edges_are_bounded_and_lead_to_all_that_stacks_reach(given: Calls, total: float) -> None:
    chosen = choose_edges(given, total)
    roots = set(np.flatnonzero(given.entry).tolist())
    parts = (chosen.drawn, chosen.light, chosen.crowded, chosen.beyond)
    assert reached_from(roots, chosen.drawn) == reached_from(roots, given.edges)
    needed = [e for e in chosen.drawn if e.needed]
    assert reached_from(roots, needed) == reached_from(roots, given.edges)
    assert len({e.callee for e in needed}) == len(needed)
    everything = Counter((e.caller, e.callee, e.value) for part in parts for e in part)
    assert everything == Counter((e.caller, e.callee, e.value) for e in given.edges)
    assert all(e.value < EDGE_SHARE * total for e in chosen.light)
    for edge in chosen.crowded:
        rivals = [e for e in chosen.drawn if e.value >= edge.value or e.needed]
        into = sum(e.callee == edge.callee for e in rivals)
        out_of = sum(e.caller == edge.caller for e in rivals)
        assert max(into, out_of) >= MAX_DEGREE


def stand_in(path: Path, otherwise: str) -> Path:
    """A `dot` that lays out the simple graph only, and else does ``otherwise``."""
    program = find_layout_program()
    assert program is not None
    path.write_text(
        f'#!/bin/sh\ncat > "$0.in"\n'
        f'if grep -q nslimit "$0.in"; then exec {program[0]} "$@" < "$0.in"; fi\n{otherwise}\n'
    )
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("otherwise", ["exec sleep 600", "echo lost edge >&2; exit 3"])
def test_a_graph_that_has_no_drawing_is_laid_out_more_simply(
    otherwise: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(svg, "_LAYOUT_S", 0.5)
    monkeypatch.setattr(svg, "_SIMPLE_LAYOUT_S", 120.0)
    program = stand_in(tmp_path / "dot", otherwise)
    monkeypatch.setenv(DOT_VARIABLE, str(program))
    graph = graph_of(dense_stacks())
    root = ET.fromstring(draw_svg(graph))
    kinds = Counter(g.get("class") for g in root.iter())
    assert (kinds["node"], kinds["edge"]) == (MAX_NODES, MAX_NODES - 1)
    texts = ["".join(t.itertext()) for t in root.iter("{http://www.w3.org/2000/svg}text")]
    assert any("simpler layout: 81 more calls not drawn" in text for text in texts)


def test_a_layout_program_that_never_ends_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "dot"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)
    monkeypatch.setattr(svg, "_LAYOUT_S", 0.2)
    monkeypatch.setattr(svg, "_SIMPLE_LAYOUT_S", 0.3)
    monkeypatch.setenv(DOT_VARIABLE, str(program))
    with pytest.raises(MemError) as caught:
        draw_svg(graph_of(dense_stacks(20)))
    assert str(caught.value) == (
        f"{program} did not finish within 0.2 s, "
        f"and in a simpler layout: {program} did not finish within 0.3 s"
    )


def test_only_the_simple_layout_gives_up_quality() -> None:
    graph = graph_of(dense_stacks())
    assert "splines" not in dot_source(graph)
    assert "splines=line" in dot_source(without_detail(graph), simple=True)
