"""The flame graph: one HTML file that draws the whole tree of stacks."""

from __future__ import annotations

from collections.abc import Sequence

from mem_parser.model import Profile
from mem_parser.symbols.table import Symbols
from mem_parser.tree import Tree, build_tree
from mem_parser.web.confidential import confidential_profile, confidential_symbols
from mem_parser.web.facts import page_facts, without_paths
from mem_parser.web.pack import pack_tree
from mem_parser.web.page import SIZE_LIMIT, assemble
from mem_parser.web.prune import Pruned, prune, shares

MOST_NODES = 250_000
"""Nodes that a page holds at most; browsers draw that many without a pause."""
EXPLORER_SCRIPTS = (
    "format.js",
    "unpack.js",
    "profile.js",
    "view.js",
    "theme.js",
    "colour.js",
    "flame.js",
    "search.js",
    "state.js",
    "toolbar.js",
    "details.js",
    "keys.js",
    "explorer.js",
)
_TEXT_BYTES = 400_000
"""Room kept for scripts, styles and the header."""


def render(
    profile: Profile,
    symbols: Symbols,
    *,
    name: str = "profile",
    base: tuple[Profile, Symbols] | None = None,
    confidential: bool = False,
    most_nodes: int = MOST_NODES,
    size_limit: int = SIZE_LIMIT,
) -> str:
    """Return the page.

    ``name`` is what to call the profile where it does not say itself. With ``base`` the page opens
    on the difference to it. ``confidential`` leaves out paths, source files, host and command
    line. The page is below ``size_limit`` bytes; what had to be left out for that is stated on it.
    """
    if confidential:
        profile, symbols = confidential_profile(profile), confidential_symbols(symbols)
        name = without_paths(name)
        base = (base[0], confidential_symbols(base[1])) if base is not None else None
    tree = build_tree(profile, symbols, base)
    packed, pruned = pack_within(tree, size_limit - _TEXT_BYTES, most_nodes)
    facts = page_facts(profile, name, symbol_notes(symbols, pruned), confidential=confidential)
    return assemble(
        f"{facts['title']} – flame graph",
        "flamegraph.html",
        ("base.css", "flame.css"),
        (*EXPLORER_SCRIPTS, "flame_page.js"),
        {"facts": facts, "tree": packed},
    )


def pack_within(tree: Tree, most_bytes: int, most_nodes: int = MOST_NODES) -> tuple[str, Pruned]:
    """Return the packed tree and what was pruned to get it into ``most_bytes``."""
    share = shares(tree)
    limit = most_nodes
    while True:
        pruned = prune(tree, limit, share)
        packed = pack_tree(pruned.tree)
        if len(packed) <= most_bytes or limit <= 1:
            return packed, pruned
        smaller = int(len(pruned.tree) * most_bytes / len(packed) * 0.9)
        limit = max(1, min(smaller, limit - 1))


def symbol_notes(symbols: Symbols, pruned: Pruned | None = None) -> Sequence[str]:
    """Return what the reader has to know of names and pruning, in sentences."""
    notes = [p.text + (f" ({p.hint})" if p.hint else "") for p in symbols.problems]
    if pruned is not None:
        notes.append(pruned.sentence)
    return notes
