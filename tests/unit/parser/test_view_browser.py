"""What the pages charge with blocks, in a real browser, against what the tables do."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path
from typing import Any

from browser import NEEDS_BROWSER, answer_of
from mem_parser.libraries.mark import mark_libraries
from mem_parser.libraries.rules import Libraries
from mem_parser.model import Profile
from mem_parser.names import FrameRule
from mem_parser.reports.aggregate import rows_of, sum_stacks
from mem_parser.symbols.table import Symbols
from mem_parser.web.kinds import kind_of
from mem_parser.web.page import asset
from web_profiles import Site, make_profile

pytestmark = NEEDS_BROWSER
NAMES = (
    "main", "work", "std::sort", "asio::run", "asio::call", "v8::New", "xmalloc", "clone3", "less",
    "calloc", "0x1",
)  # fmt: skip
FRAMES = """
return TREES.map((tree) => [true, false].map((hideAllocators) => {
  const column = Float64Array.from(tree.own), none = new Float64Array(tree.size);
  const own = { width: column, value: column, variance: none, samples: none };
  const view = buildDownward(tree, own, { hideAllocators, hideImports: false, collapse: false });
  const ends = [...Array(view.size).keys()].filter((node) => view.ownValue[node] > 0);
  const called = (node) => tree.names[view.name[node]];
  return ends.map((end) => view.path(end).slice(1).map(called).join(" "));
}));
"""
SCRIPT = """
const own = (tree, column) => ({ width: Float64Array.from(column), value: Float64Array.from(column),
  variance: new Float64Array(tree.size), samples: new Float64Array(tree.size) });
return TREES.map((tree) => {
  const weights = own(tree, tree.own);
  return [true, false].map((hideAllocators) => {
    const options = { hideAllocators, hideImports: false, collapse: false };
    const up = buildInverted(tree, weights, options), down = buildDownward(tree, weights, options);
    const flat = {};
    for (const node of up.childrenOf(0)) flat[tree.names[up.name[node]]] = up.value[node];
    const drawn = {};
    for (let node = 1; node < down.size; node += 1) {
      const name = tree.names[down.name[node]];
      if (down.ownValue[node] > 0) drawn[name] = (drawn[name] ?? 0) + down.ownValue[node];
      if (!(down.value[node] > 0)) drawn["empty " + name] = 1;
    }
    return { flat, drawn };
  });
});
"""


def tree_of(symbols: Symbols, sizes: list[int]) -> dict[str, Any]:
    """The tree of all stacks in preorder, with the bytes of each node's own."""
    nodes: dict[str, Any] = {"children": {}, "own": 0}
    bounds = symbols.offsets.tolist()
    for k, size in enumerate(sizes):
        at = nodes
        for name in reversed(symbols.locations_of_stack[bounds[k] : bounds[k + 1]].tolist()):
            at = at["children"].setdefault(name, {"children": {}, "own": 0})
        at["own"] += size
    parent, name_of, own = [-1], [0], [0]

    def walk(node: dict[str, Any], number: int) -> None:
        for name, child in node["children"].items():
            parent.append(number)
            name_of.append(name + 1)
            own.append(child["own"])
            walk(child, len(parent) - 1)

    walk(nodes, 0)
    kinds = [0, *map(kind_of, symbols.functions)]
    return {
        "size": len(parent), "parent": parent, "name": name_of, "own": own,
        "kind": [kinds[k] for k in name_of],
        "names": ["all", *(f.name for f in symbols.functions)],
    }  # fmt: skip


def marked(stacks: dict[str, int]) -> tuple[Profile, Symbols]:
    """A profile of the stacks, in which asio is of a header of the system, and 0x1 of no file."""
    profile, symbols = make_profile([Site(s, 1, size) for s, size in stacks.items()])
    header = "/usr/include/asio/impl/run.hpp"
    symbols.functions[:] = [
        dataclasses.replace(f, known=False, module="") if f.name == "0x1"
        else dataclasses.replace(f, file=header) if f.name.startswith("asio::") else f
        for f in symbols.functions
    ]  # fmt: skip
    return profile, mark_libraries(profile, symbols, Libraries())


def answers(desktop: Any, script: str, trees: list[dict[str, Any]], folder: Path) -> Any:
    kinds = asset("profile.js").splitlines()
    constants = "\n".join(line for line in kinds if line.startswith("const KIND_"))
    script = script.replace("TREES", json.dumps(trees))
    return answer_of(desktop, [constants, asset("view.js")], f"() => {{ {script} }}", folder)


def test_of_calls_within_a_header_only_library_the_outermost_is_drawn(
    desktop: Any, tmp_path: Path
) -> None:
    """But what something is charged to stays: `asio::work`, in a thread of the library's own."""
    stacks = [
        "main asio::run asio::poll asio::call on_read asio::write asio::grow",
        "asio::thread asio::poll asio::call asio::work",
        "asio::thread asio::poll asio::call on_read",
    ]
    sizes = {stack: 1 << k for k, stack in enumerate(stacks)}
    tree = tree_of(marked(sizes)[1], list(sizes.values()))
    [(hidden, shown)] = answers(desktop, FRAMES, [tree], tmp_path)
    assert sorted(hidden) == [
        "asio::thread asio::work", "asio::thread on_read", "main asio::run on_read",
    ]  # fmt: skip
    assert sorted(shown) == sorted(f"{stack} malloc" for stack in stacks)


def test_a_page_charges_the_functions_that_tables_do(desktop: Any, tmp_path: Path) -> None:
    seed = random.Random(5)
    trees, expected = [], []
    for _ in range(60):
        stacks = {
            " ".join(seed.choices(NAMES, k=seed.randint(1, 6))): 1 << k
            for k in range(seed.randint(1, 9))
        }
        profile, symbols = marked(stacks)
        trees.append(tree_of(symbols, list(stacks.values())))
        for rule in (FrameRule.PROGRAM, FrameRule.NONE):
            rows = rows_of(sum_stacks(profile, symbols, rule=rule))
            expected.append({r.name: r.flat.value for r in rows if r.flat.value})
    found = answers(desktop, SCRIPT, trees, tmp_path)
    charged = [one for pair in found for one in pair]
    assert [one["flat"] for one in charged] == expected
    assert [one["drawn"] for one in charged] == expected
