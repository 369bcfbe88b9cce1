"""The flame graph: one HTML file that draws the whole tree of stacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mem_parser.escape import visible
from mem_parser.model import Profile
from mem_parser.reports.listing import Sources
from mem_parser.symbols.table import Symbols
from mem_parser.tree import Tree, build_tree
from mem_parser.web.confidential import confidential_profile, confidential_symbols
from mem_parser.web.facts import Opening, page_facts, without_paths
from mem_parser.web.pack import pack_text, pack_tree
from mem_parser.web.page import SIZE_LIMIT, assemble
from mem_parser.web.prune import Pruned, prune, shares
from mem_parser.web.sourcetext import source_block

MOST_NODES = 250_000
"""Nodes that a page holds at most; browsers draw that many without a pause."""
EXPLORER_SCRIPTS = (
    "format.js",
    "unpack.js",
    "names.js",
    "profile.js",
    "view.js",
    "pattern.js",
    "narrow.js",
    "theme.js",
    "header.js",
    "colour.js",
    "flame.js",
    "search.js",
    "state.js",
    "toolbar.js",
    "filter_bar.js",
    "details.js",
    "source.js",
    "keys.js",
    "explorer.js",
)
_SENTENCE_BYTES = 1000
"""Room kept for the sentence that says what was pruned."""


def render(
    profile: Profile,
    symbols: Symbols,
    *,
    name: str = "profile",
    base: tuple[Profile, Symbols] | None = None,
    start: Opening | None = None,
    domains: Profile | None = None,
    sources: Sources | None = None,
    confidential: bool = False,
    most_nodes: int = MOST_NODES,
    size_limit: int = SIZE_LIMIT,
) -> str:
    """Return the page.

    ``name`` is what to call the profile where it does not say itself. With ``base`` the page opens
    on the difference to it. ``confidential`` leaves out paths, source files, host and command
    line. ``domains`` is the same capture together with its other domains of memory, with stacks
    numbered alike: the reader may look at each. With ``sources`` the text of source lines is in the
    page, unless it is confidential. The page is below ``size_limit`` bytes; what had to
    be left out for that is stated on it.
    """
    source = sources_block(profile, symbols, None if confidential else sources)
    if confidential:
        profile, symbols = confidential_profile(profile), confidential_symbols(symbols)
        domains = None if domains is None else confidential_profile(domains)
        name = without_paths(name)
        base = (base[0], confidential_symbols(base[1])) if base is not None else None
    tree = build_tree(domains or profile, symbols, base, most_nodes=most_nodes)

    def page(packed: str, pruned: Pruned) -> str:
        notes = symbol_notes(symbols, pruned)
        old = None if base is None else base[0]
        facts = page_facts(profile, name, notes, base=old, start=start, confidential=confidential)
        return assemble(
            f"{facts['title']} – flame graph",
            "flamegraph.html",
            ("base.css", "flame.css", "narrow.css", "source.css"),
            (*EXPLORER_SCRIPTS, "flame_page.js"),
            {"facts": facts, "tree": packed, **source},
        )

    return page_within(tree, page, size_limit, most_nodes)


def sources_block(profile: Profile, symbols: Symbols, sources: Sources | None) -> dict[str, str]:
    """Return the blocks of a page with the text of source lines; none without ``sources``."""
    if sources is None:
        return {}
    return {"source": pack_text(visible(source_block(profile, symbols, sources)))}


def page_within(
    tree: Tree, page: Callable[[str, Pruned], str], size_limit: int, most_nodes: int
) -> str:
    """Return ``page(packed tree, what was pruned)``, pruned until it is below ``size_limit`` bytes.

    A page that is larger without any tree is returned with a tree of one node.
    """
    room = size_limit - len(page("", Pruned(tree)).encode()) - _SENTENCE_BYTES
    share = shares(tree)
    limit = min(most_nodes, len(tree))
    while True:
        pruned = prune(tree, limit, share)
        packed = pack_tree(pruned.tree)
        if len(packed) <= room or limit <= 1:
            return page(packed, pruned)
        limit = max(1, int(limit * min(0.9 * max(room, 0) / len(packed), 0.9)))


def symbol_notes(symbols: Symbols, pruned: Pruned | None = None) -> Sequence[str]:
    """Return what the reader has to know of names and pruning, in sentences."""
    notes = [p.text + (f" ({p.hint})" if p.hint else "") for p in symbols.problems]
    if pruned is not None:
        notes.append(pruned.sentence)
    return notes
