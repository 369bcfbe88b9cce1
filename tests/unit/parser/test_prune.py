"""A pruned tree keeps every total, and says what it left out."""

from __future__ import annotations

import numpy as np
import pytest

from mem_parser.model import Count
from mem_parser.tree import LEFT_OUT, build_tree
from mem_parser.web.prune import prune, shares
from web_profiles import SERVER, Site, make_profile, totals_by_path, wide_profile


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
