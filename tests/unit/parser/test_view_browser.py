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
from mem_parser.names import FrameRule
from mem_parser.reports.aggregate import rows_of, sum_stacks
from mem_parser.symbols.table import Symbols
from mem_parser.web.kinds import kind_of
from mem_parser.web.page import asset
from web_profiles import Site, make_profile

pytestmark = NEEDS_BROWSER
NAMES = ("main", "work", "std::sort", "v8::New", "xmalloc", "clone3", "less", "calloc", "0x1")
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


def test_a_page_charges_the_functions_that_tables_do(desktop: Any, tmp_path: Path) -> None:
    seed = random.Random(5)
    trees, expected = [], []
    for _ in range(60):
        stacks = {
            " ".join(seed.choices(NAMES, k=seed.randint(1, 6))): 1 << k
            for k in range(seed.randint(1, 9))
        }
        profile, symbols = make_profile([Site(s, 1, size) for s, size in stacks.items()])
        symbols.functions[:] = [
            dataclasses.replace(f, known=False, module="") if f.name == "0x1" else f
            for f in symbols.functions
        ]
        symbols = mark_libraries(profile, symbols, Libraries())
        trees.append(tree_of(symbols, list(stacks.values())))
        for rule in (FrameRule.PROGRAM, FrameRule.NONE):
            rows = rows_of(sum_stacks(profile, symbols, rule=rule))
            expected.append({r.name: r.flat.value for r in rows if r.flat.value})
    kinds = asset("profile.js").splitlines()
    constants = "\n".join(line for line in kinds if line.startswith("const KIND_"))
    script = SCRIPT.replace("TREES", json.dumps(trees))
    found = answer_of(desktop, [constants, asset("view.js")], f"() => {{ {script} }}", tmp_path)
    charged = [one for pair in found for one in pair]
    assert [one["flat"] for one in charged] == expected
    assert [one["drawn"] for one in charged] == expected
