"""The prefix tree: sums agree with a count by hand."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from mem_parser.model import Count, Unit
from mem_parser.symbols.table import Function
from mem_parser.tree import BYTES, BYTES_VARIANCE, SAMPLES, build_tree
from web_profiles import BASE, SERVER, Site, make_profile, totals_by_path, wide_profile


def by_hand(sites: list[Site], *, freed: bool) -> dict[tuple[str, ...], float]:
    sums: dict[tuple[str, ...], float] = defaultdict(float)
    for s in sites:
        frames = (*s.stack.split(), "malloc")
        amount = (s.freed if freed else s.blocks - s.freed) * s.size
        for depth in range(len(frames) + 1):
            sums[frames[:depth]] += amount
    return dict(sums)


@pytest.mark.parametrize("kind", ["inuse", "freed"])
def test_every_node_has_the_sum_of_its_stacks(kind: str) -> None:
    tree = build_tree(*make_profile(SERVER))
    assert totals_by_path(tree, kind) == by_hand(SERVER, freed=kind == "freed")


def test_random_stacks_add_up_to_the_profile_in_value_variance_and_samples() -> None:
    profile, symbols = wide_profile(3000)
    tree = build_tree(profile, symbols)
    total = profile.total(Count.INUSE, Unit.SPACE)
    root = tree.total("inuse")[0]
    assert root[BYTES] == pytest.approx(total.value)
    assert root[BYTES_VARIANCE] == pytest.approx(total.std_error**2)
    assert root[SAMPLES] == total.samples
    assert (tree.parent[1:] < np.arange(1, len(tree))).all()
    first, last = tree.children()
    assert int((last - first).sum()) == len(tree) - 1


def test_threads_and_domains_keep_their_own_rows() -> None:
    profile, symbols = make_profile(SERVER)
    tree = build_tree(profile, symbols)
    rows = tree.thread_rows
    worker = rows.counts["inuse"][rows.thread == 1][:, BYTES].sum()
    device = tree.rows.counts["inuse"][tree.rows.domain == 1][:, BYTES].sum()
    assert worker == 8 * 262144
    assert device == 8 * 262144


def test_every_line_is_a_node_of_its_own() -> None:
    profile, symbols = make_profile([Site("main work", 1, 10), Site("main work", 2, 20)])
    names = {f.name: k for k, f in enumerate(symbols.functions)}
    second = symbols.locations[names["work"]]
    symbols.locations.append(type(second)(second.function, second.file, 99))
    symbols.locations_of_stack[symbols.offsets[1] + 1] = len(symbols.locations) - 1
    tree = build_tree(profile, symbols)
    lines: dict[str, list[int]] = {}
    for k in range(1, len(tree)):
        lines.setdefault(tree.names[tree.name[k]].name, []).append(int(tree.line[k]))
    assert sorted(lines["work"]) == sorted((second.line, 99))
    assert lines["main"] == [symbols.locations[names["main"]].line]


def test_a_base_shares_the_tree_across_builds() -> None:
    new = make_profile(SERVER)
    base_profile, base_symbols = make_profile(BASE)
    for k, function in enumerate(base_symbols.functions):
        moved = function.module.replace("/opt", "/old")
        base_symbols.functions[k] = type(function)(function.name, function.name, moved, "")
    tree = build_tree(*new, (base_profile, base_symbols))
    assert totals_by_path(tree, "inuse")[()] == by_hand(SERVER, freed=False)[()]
    base = totals_by_path(tree, "base_inuse")
    assert {path: v for path, v in base.items() if v} == by_hand(BASE, freed=False)


def test_instances_of_a_template_are_nodes_of_one_group() -> None:
    functions = {
        name: Function("Box::fill", full, "/opt/app", "/src/box.h")
        for name, full in (("ints", "Box<int>::fill()"), ("chars", "Box<char>::fill()"))
    }
    tree = build_tree(
        *make_profile([Site("main ints", 1, 8), Site("main chars", 1, 16)], functions=functions)
    )
    named = {tree.names[k].full_name: k for k in tree.name.tolist() if k >= 0}
    ints, chars, main = named["Box<int>::fill()"], named["Box<char>::fill()"], named["main"]
    assert tree.group[ints] == tree.group[chars] == min(ints, chars)
    assert tree.group[main] == main


def test_a_node_knows_the_file_of_its_line() -> None:
    profile, symbols = make_profile([Site("main work", 1, 8), Site("main work", 1, 16)])
    work = next(k for k, x in enumerate(symbols.locations) if x.file.endswith("/work.c"))
    known = symbols.locations[work]
    symbols.locations.append(type(known)(known.function, "/src/inline.h", known.line))
    symbols.locations_of_stack[symbols.offsets[1] + 1] = len(symbols.locations) - 1
    tree = build_tree(profile, symbols)
    files = {tree.files[tree.file[k]] for k in range(1, len(tree)) if tree.line[k] == known.line}
    assert files == {known.file, "/src/inline.h"}
