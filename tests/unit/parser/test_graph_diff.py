"""The call graph with changes since a base."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from mem_parser.diff import variance_between
from mem_parser.estimate import Estimate, FloatArray
from mem_parser.filters import Filters
from mem_parser.model import Count, Profile, Unit
from mem_parser.reports.graph import CallGraph
from mem_parser.reports.graph_diff import build_diff_graph
from mem_parser.reports.grid import in_noise
from mem_parser.reports.svg import dot_source
from mem_parser.reports.view import make_view
from mem_parser.symbols.table import Symbols
from mem_parser.tree import BETWEEN, BYTES, BYTES_VARIANCE, build_tree
from reportview import named
from simulated import Program, Source


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
    assert graph.heading == "x, change since the base: +9 B"


def test_signs_say_what_colours_say() -> None:
    source = dot_source(diff((("malloc a", 50), ("malloc b", 7)), (("malloc b", 5000),)))
    assert "+50 B" in source
    assert "-4.876 KiB" in source
    sizes = dict(re.findall(r'label="(\w)\\n[^"]*".*?fontsize=([\d.]+)', source))
    assert float(sizes["b"]) == 34  # which changed most, though it holds little now
    assert float(sizes["a"]) < 15


def test_a_change_inside_the_noise_is_grey_and_marked() -> None:
    source = dot_source(diff((("malloc a", 30), ("malloc b", 1 << 20)), (), rate=1 << 16))
    assert "~64.01 KiB ±" in source


def snapshots() -> list[tuple[Profile, Symbols]]:
    """Two of one capture: 3000 large blocks are alive in both, 40 were born in between."""
    random = np.random.default_rng(3)
    born = np.concatenate((np.ones(3000), np.linspace(31, 59, 40)))
    program = Program([Source(("loaded", "main"), 16384, born, np.full(len(born), np.inf))])
    blocks = program.sampled(random)
    return [program.snapshot(blocks, now) for now in (30.0, 60.0)]


def test_blocks_alive_in_both_snapshots_cancel() -> None:
    old, new = (make_view(*one, Filters()) for one in snapshots())
    between = variance_between(old.profile, new.profile, Unit.SPACE)
    assert between is not None

    def change(paired: FloatArray | None) -> Estimate:
        graph = build_diff_graph(
            new.profile, new.sums(), old.sums(), count=Count.INUSE, unit=Unit.SPACE, title="x",
            between=paired,
        )  # fmt: skip
        assert graph.changes is not None
        return graph.changes[[n.name for n in graph.nodes].index("loaded")]

    assert in_noise(change(None))
    assert not in_noise(change(between))
    assert change(between).value == change(None).value


def test_pages_know_what_came_and_went_between_snapshots() -> None:
    old, new = snapshots()
    tree = build_tree(*new, old)
    between = variance_between(old[0], new[0], Unit.SPACE)

    assert between is not None
    assert tree.total(BETWEEN)[0, BYTES_VARIANCE] == pytest.approx(between.sum())
    assert tree.total(BETWEEN)[0, BYTES] == 0
    other = dataclasses.replace(old[0], capture=dataclasses.replace(old[0].capture, pid=2))
    assert BETWEEN not in build_tree(*new, (other, old[1])).rows.counts
