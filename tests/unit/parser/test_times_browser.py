"""The numbers that a page adds up for a window of a log, in a real browser, against windows."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browser import NEEDS_BROWSER, answer_of
from ledger import Ledger, Row, log_of
from mem_parser.domains import join
from mem_parser.memlog.part import Part
from mem_parser.memlog.profiles import profiles_of
from mem_parser.memlog.run import Run
from mem_parser.memlog.window import window
from mem_parser.model import Count, Profile, Unit
from mem_parser.symbols.table import Function, Location, Symbols
from mem_parser.tree import build_tree
from mem_parser.web.pack import pack_tree
from mem_parser.web.page import asset
from mem_parser.web.times import LogTimes, Picture, pack_times, with_times

pytestmark = NEEDS_BROWSER
SCRIPTS = ("words.js", "format.js", "unpack.js", "names.js", "pattern.js", "profile.js", "times.js")
MS = 1_000_000
SCRIPT = """async () => {
const outermost = (profile) => {
  const found = new Int32Array(profile.size);
  for (let node = 1; node < profile.size; node += 1) found[node] = profile.parent[node] ? found[profile.parent[node]] : node;
  return found;
};
const packed = await Promise.all(CASES.map(unpackBlocks));
return packed.map(({ tree, times, windows }) => {
  const profile = new Profile(tree, times);
  const outer = outermost(profile);
  return windows.map(([from, to, count, unit, domain]) => {
    const part = profile.times.of(profile, { from, to, count: "change" });
    const own = part.measure({ count, unit, domain, thread: -1, diff: false });
    const sums = {};
    const columns = count === "change" ? ["value", "variance", "base", "baseVariance", "between"] : ["value", "variance", "samples"];
    for (let node = 1; node < profile.size; node += 1) {
      const name = profile.names[profile.name[outer[node]]];
      columns.forEach((column, k) => {
        if (own[column][node]) (sums[name] ??= columns.map(() => 0))[k] += own[column][node];
      });
    }
    return sums;
  });
});
}"""  # noqa: E501


def program(seed: random.Random, blocks: int) -> list[Row]:
    """Blocks that live for a while, each at an address of its own."""
    rows = []
    for k in range(blocks):
        born = seed.randrange(1, 900) * MS + k
        row = {
            "kind": 1, "address": 16 * (k + 1), "size_bytes": seed.choice((8, 100, 1000, 5000)),
            "stack": seed.randrange(4), "thread": 0, "domain": seed.choice((0, 0, 1)),
        }  # fmt: skip
        rows.append(row | {"time_ns": born, "birth_ns": born})
        if seed.random() < 0.8:
            died = born + seed.randrange(1, 200) * MS
            rows.append(row | {"kind": 2, "time_ns": died, "birth_ns": born >> 22 << 22})
    return sorted(rows, key=lambda row: row["time_ns"])


def named(profile: Profile) -> Symbols:
    """A function for each address."""
    frames, at = np.unique(profile.stacks.frames, return_inverse=True)
    functions = [Function(f"f{x:x}", f"f{x:x}", "m") for x in frames.tolist()]
    locations = [Location(k) for k in range(len(functions))]
    return Symbols(functions, locations, profile.stacks.offsets, at.astype(np.int32))


def page_of(run: Run, most_entries: int) -> tuple[str, str, Picture]:
    profile = join([("x", p) for p in profiles_of(run, Part(every_domain=True))])
    log = LogTimes(run, 0, run.end_ns, (0, 1), np.ones(len(profile.stacks), dtype=np.bool_))
    picture = log.picture()
    tree = with_times(build_tree(profile, named(profile)), picture, most_entries)
    head = picture.as_json(confidential=False)
    return pack_tree(tree), pack_times(tree, head, log.rates_bytes), picture


def of_window(profile: Profile, count: Count, unit: Unit) -> dict[str, list[float]]:
    """Value, variance and samples of each outermost function."""
    symbols = named(profile)
    columns = profile.weigh(count, unit)
    outer = symbols.locations_of_stack[symbols.offsets[1:] - 1]
    found: dict[str, list[float]] = {}
    for k, stack in enumerate(profile.sites.stack.tolist()):
        sums = found.setdefault(symbols.functions[outer[stack]].name, [0.0, 0.0, 0.0])
        for c, column in enumerate(columns):
            sums[c] += float(column[k])
    return {name: sums for name, sums in found.items() if sums[2]}


def in_browser(
    desktop: Any, cases: list[dict[str, Any]], folder: Path
) -> list[list[dict[str, list[float]]]]:
    found: list[list[dict[str, list[float]]]] = answer_of(
        desktop, map(asset, SCRIPTS), SCRIPT.replace("CASES", json.dumps(cases)), folder
    )
    return found


@pytest.mark.parametrize("rates", [(1.0, 1.0), (512.0, 4096.0)])
def test_a_page_adds_up_for_any_window_what_the_window_of_the_log_says(
    desktop: Any, tmp_path: Path, rates: tuple[float, float]
) -> None:
    seed = random.Random(7)
    cases, expected = [], []
    for _ in range(2):
        rows = program(seed, 60)
        with log_of(Ledger(rows), [300 * MS], [500 * MS], rates=rates) as run:
            tree, times, picture = page_of(run, 1 << 20)
            at = picture.moments.tolist()
            edges = sorted({*seed.sample(range(len(at)), 5), 0, len(at) - 1})
            windows = []
            for low, high in itertools.combinations(edges, 2):
                for domain, unit in itertools.product((0, 1), Unit):
                    # Only of the first domain the edges have every peak.
                    counts = [Count.INUSE, Count.ALLOC, *([] if domain else [Count.PEAK])]
                    part = window(run, at[low], at[high], domain=domain)
                    for count in counts:
                        windows.append((low, high, str(count), str(unit), domain))
                        expected.append(of_window(part, count, unit))
            cases.append({"tree": tree, "times": times, "windows": windows})
    found = list(itertools.chain(*in_browser(desktop, cases, tmp_path)))
    assert len(found) == len(expected) > 200
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for name, sums in one.items():
            value, variance, samples = other[name]
            exact = rates[0] <= 1
            near = {"rel": 0, "abs": 0} if exact else {"rel": 2e-4, "abs": 1.0}
            assert sums[0] == pytest.approx(value, **near)
            assert sums[1] == pytest.approx(variance, rel=1e-3, abs=0 if exact else 1e4)
            assert sums[2] == samples


def test_a_change_has_both_sides_and_the_variance_of_what_came_and_went(
    desktop: Any, tmp_path: Path
) -> None:
    rows = program(random.Random(11), 80)
    with log_of(Ledger(rows), [], [], rates=(512.0, 1.0)) as run:
        tree, times, picture = page_of(run, 1 << 20)
        at = picture.moments.tolist()
        windows = [(low, high, "change", "space", 0) for low, high in ((0, 40), (10, 30), (20, 25))]
        expected = []
        for low, high, *_ in windows:
            before, after = (window(run, 0, at[k]) for k in (low, high))
            both = [of_window(p, Count.INUSE, Unit.SPACE) for p in (after, before)]
            came = of_window(window(run, at[low], at[high]), Count.ALLOC, Unit.SPACE)
            expected.append((*both, came))
    (found,) = in_browser(desktop, [{"tree": tree, "times": times, "windows": windows}], tmp_path)
    for one, (now, base, came) in zip(found, expected, strict=True):
        for name, (value, variance, base_value, base_variance, between) in one.items():
            none = [0.0, 0.0, 0.0]
            here, there = now.get(name, none), base.get(name, none)
            born = came.get(name, none)[1]
            assert (value, base_value) == pytest.approx((here[0], there[0]), rel=1e-4, abs=1)
            assert (variance, base_variance) == pytest.approx(
                (here[1], there[1]), rel=0.01, abs=1e4
            )
            went = born - here[1] + there[1]
            assert between == pytest.approx(born + went, rel=0.02, abs=3e4)


def test_where_nodes_are_joined_nothing_is_lost_from_any_window(
    desktop: Any, tmp_path: Path
) -> None:
    rows = program(random.Random(13), 200)
    with log_of(Ledger(rows), [], []) as run:
        whole, few = page_of(run, 1 << 20), page_of(run, 60)
        last = len(whole[2].moments) - 1
        windows = [
            (low, high, count, "space", 0)
            for low, high in ((0, last), (10, 90), (50, 60))
            for count in ("inuse", "alloc", "freed", "peak")
        ]
    pages = [{"tree": p[0], "times": p[1], "windows": windows} for p in (whole, few)]
    every, joined = in_browser(desktop, pages, tmp_path)
    assert len(few[1]) < len(whole[1])
    for one, other in zip(every, joined, strict=True):
        totals = [sum(sums[0] for sums in found.values()) for found in (one, other)]
        assert totals[0] == totals[1] > 0
