"""The call graph with changes since a base."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from mem_parser.diff import Change, diff_profiles, variance_between
from mem_parser.filters import Filters
from mem_parser.model import Profile, Unit
from mem_parser.reports.graph import CallGraph
from mem_parser.reports.graph_diff import graph_of_change
from mem_parser.reports.svg import dot_source
from mem_parser.reports.view import View, make_view
from mem_parser.symbols.table import Symbols
from mem_parser.tree import BETWEEN, BYTES, BYTES_VARIANCE, build_tree
from reportview import named
from simulated import Program, Source, burst


def diff(
    new: tuple[tuple[str, int], ...], base: tuple[tuple[str, int], ...], rate: int = 1
) -> CallGraph:
    now, before = (make_view(*named(stacks, rate), Filters()) for stacks in (new, base))
    return graph_of_change(before, now, "x")


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
    capture = dataclasses.replace(old.profile.capture, pid=2)
    other = dataclasses.replace(old, profile=dataclasses.replace(old.profile, capture=capture))
    assert not judged_boxes(other, new)["loaded"]
    assert judged_boxes(old, new)["loaded"]


def judged_boxes(base: View, new: View) -> dict[str, bool]:
    graph = graph_of_change(base, new, "x")
    assert graph.beyond_noise is not None
    return {n.name: b for n, b in zip(graph.nodes, graph.beyond_noise, strict=True)}


@pytest.mark.parametrize("blocks", [30, 300, 3000])
def test_of_two_captures_of_one_program_no_box_is_a_change_that_no_row_is(blocks: int) -> None:
    """40 pairs of captures of 60 functions: each tested alone, most graphs had a false change."""
    random = np.random.default_rng(blocks)
    same = Program([burst(random, 1.0, blocks, f"f{k}") for k in range(60)])
    with_change = 0
    for _ in range(40):
        sides = [same.capture(random) for _ in range(2)]
        sides[1][0].capture.pid = 2
        boxes = judged_boxes(*(make_view(*side, Filters()) for side in sides))
        rows = diff_profiles(*sides).rows
        changed = {r.frames[0].function for r in rows if r.change is not Change.NOISE}
        assert {name for name, beyond in boxes.items() if beyond} == changed
        with_change += bool(changed)
    assert with_change <= 7  # of 2 expected: P(more) < 0.1 %


def test_pages_know_what_came_and_went_between_snapshots() -> None:
    old, new = snapshots()
    tree = build_tree(*new, old)
    between = variance_between(old[0], new[0], Unit.SPACE)
    assert between is not None
    assert tree.total(BETWEEN)[0, BYTES_VARIANCE] == pytest.approx(between.sum())
    assert tree.total(BETWEEN)[0, BYTES] == 0
    other = dataclasses.replace(old[0], capture=dataclasses.replace(old[0].capture, pid=2))
    assert BETWEEN not in build_tree(*new, (other, old[1])).rows.counts
