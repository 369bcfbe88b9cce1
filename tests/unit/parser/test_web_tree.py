"""The prefix tree: sums agree with a count by hand, pruning loses no byte."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from mem_parser.model import Count, Unit
from mem_parser.tree import BYTES, BYTES_VARIANCE, LEFT_OUT, SAMPLES, Tree, build_tree
from mem_parser.web.prune import prune, shares
from web_profiles import BASE, SERVER, Site, make_profile, wide_profile


def totals_by_path(tree: Tree, kind: str, column: int = BYTES) -> dict[tuple[str, ...], float]:
    total = tree.total(kind)[:, column]
    paths: list[tuple[str, ...]] = [()]
    for node in range(1, len(tree)):
        paths.append((*paths[tree.parent[node]], tree.names[tree.name[node]].name))
    sums: dict[tuple[str, ...], float] = defaultdict(float)
    for path, value in zip(paths, total.tolist(), strict=True):
        sums[path] += value
    return dict(sums)


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


def test_pruning_keeps_every_total_and_says_what_it_left_out() -> None:
    profile, symbols = wide_profile(2000)
    tree = build_tree(profile, symbols)
    share = shares(tree)

    pruned = prune(tree, 500)

    small = pruned.tree
    for kind in tree.rows.counts:
        np.testing.assert_allclose(small.total(kind)[0], tree.total(kind)[0])
    rows, before = small.thread_rows.counts["inuse"], tree.thread_rows.counts["inuse"]
    np.testing.assert_allclose(rows.sum(axis=0), before.sum(axis=0))
    assert 490 <= len(small) <= 500
    kept = sum(1 for k in small.name if k < 0 or small.names[k].name != LEFT_OUT)
    assert 0 < pruned.left_out < len(tree) - kept
    assert pruned.left_out == small.left_out.sum()
    assert pruned.widest <= np.sort(share)[-kept]
    assert f"{pruned.left_out:,} branches" in pruned.sentence
    assert LEFT_OUT in pruned.sentence


@pytest.mark.parametrize("most", [5, 60, 500])
def test_a_tree_grown_only_where_it_is_wide_is_pruned_to_the_same(most: int) -> None:
    profile, symbols = wide_profile(1500)
    late = prune(build_tree(profile, symbols), most)
    grown = build_tree(profile, symbols, most_nodes=most)
    early = prune(grown, most)
    twice = prune(prune(grown, 3 * most).tree, most)

    assert most <= len(grown) < len(build_tree(profile, symbols)) / 2
    for kind in ("inuse", "freed"):
        expected = totals_by_path(late.tree, kind)
        for other in (early, twice):
            assert totals_by_path(other.tree, kind) == pytest.approx(expected)
    assert early.left_out == late.left_out == twice.left_out
    assert early.widest == pytest.approx(late.widest)


def test_pruning_moves_nothing_to_another_caller() -> None:
    tree = build_tree(*wide_profile(800))

    small = prune(tree, 300).tree

    for kind in tree.rows.counts:
        before, after = totals_by_path(tree, kind), totals_by_path(small, kind)
        left_out = [path for path in after if path and path[-1] == LEFT_OUT]
        assert left_out
        for path, total in after.items():
            if path not in left_out:
                assert total == pytest.approx(before[path])


def test_a_tree_that_fits_is_left_alone() -> None:
    tree = build_tree(*make_profile(SERVER))

    pruned = prune(tree, 1000)

    assert pruned.tree is tree
    assert pruned.sentence == ""


def test_a_profile_of_nothing_is_a_root() -> None:
    profile, symbols = make_profile([Site("main", 3, 8, freed=3)])

    pruned = prune(build_tree(profile.used(Count.INUSE), symbols_of(symbols, 0)), 10)

    assert len(pruned.tree) == 1
    assert pruned.tree.total("inuse")[0].tolist() == [0.0] * 5


def symbols_of(symbols: object, stacks: int) -> object:
    import dataclasses

    return dataclasses.replace(  # type: ignore[type-var]
        symbols,
        offsets=symbols.offsets[: stacks + 1],  # type: ignore[attr-defined]
        locations_of_stack=symbols.locations_of_stack[:0],  # type: ignore[attr-defined]
    )
