"""The flame graph: one HTML file that draws the whole tree of stacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

from mem_parser.escape import visible
from mem_parser.folds import Folds, fold_frames
from mem_parser.model import Profile
from mem_parser.python.labelframes import without_labels
from mem_parser.reports.sourcefiles import Sources
from mem_parser.symbols.table import Symbols
from mem_parser.symbols.templates import with_templates
from mem_parser.tree import Tree, build_tree
from mem_parser.web.confidential import confidential_profile, confidential_symbols
from mem_parser.web.facts import Opening, page_facts, without_paths
from mem_parser.web.pack import pack_text, pack_tree
from mem_parser.web.page import SIZE_LIMIT, assemble
from mem_parser.web.prune import Pruned, prune, shares
from mem_parser.web.sourcetext import source_block
from mem_parser.web.times import LogTimes, pack_times, with_times
from mem_parser.words import phrase, shown

MOST_NODES = 250_000
"""Nodes that a page holds at most; browsers draw that many without a pause."""
MOST_LABELLED_NODES = 50_000
"""Nodes up to which a page has labels that it does not open with."""
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
TIME_SCRIPTS = ("times.js", "timeline.js")
"""What a page of a log of events has besides."""
_SENTENCE_BYTES = 1000
"""Room kept for the sentence that says what was pruned."""


class PageOptions(TypedDict, total=False):
    """Common settings of a profile's pages.

    ``name`` is what to call the profile where it does not say itself. With ``base`` the page opens
    on the difference to it. ``confidential`` leaves out paths, source files, host and command
    line. ``domains`` is the same capture together with its other domains of memory, with stacks
    numbered alike: the reader may look at each. With ``sources`` the text of source lines is in the
    page, unless it is confidential. With ``log``, of which the profile is, the reader may choose a
    part of its time. The page is below ``size_limit`` bytes; what had to be left out for that is
    stated on it.
    """

    name: str
    base: tuple[Profile, Symbols] | None
    start: Opening | None
    domains: Profile | None
    sources: Sources | None
    log: LogTimes | None
    confidential: bool
    most_nodes: int
    size_limit: int


@dataclass(frozen=True, slots=True)
class PageKind:
    """What kinds of pages differ in: names of assets; ``charts``: has some without a log, too."""

    title: str
    body: str
    styles: tuple[str, ...]
    scripts: tuple[str, ...]
    charts: bool


Blocks = Callable[[Profile, Profile | None], dict[str, Any]]
"""More blocks of a page, of what it shows of the profile and of the base."""
_FLAME_GRAPH = PageKind(
    phrase("flame graph"),
    "flamegraph.html",
    ("base.css", "flame.css", "narrow.css", "source.css"),
    ("flame_page.js",),
    charts=False,
)


def render(profile: Profile, symbols: Symbols, **options: Unpack[PageOptions]) -> str:
    """Return the page."""
    return page_of(_FLAME_GRAPH, profile, symbols, lambda *_: {}, **options)


def page_of(
    kind: PageKind,
    profile: Profile,
    symbols: Symbols,
    more: Blocks,
    **options: Unpack[PageOptions],
) -> str:
    """Return a page of the profile, with ``more`` blocks."""
    name, base, log = options.get("name", "profile"), options.get("base"), options.get("log")
    start, domains = options.get("start") or Opening(), options.get("domains")
    confidential = options.get("confidential", False)
    most_nodes = options.get("most_nodes", MOST_NODES)
    source = sources_block(profile, symbols, None if confidential else options.get("sources"))
    # By files, which a confidential page does not have.
    symbols, base = drawn_stacks(symbols, base, start)
    if confidential:
        profile, symbols = confidential_profile(profile), confidential_symbols(symbols)
        domains = None if domains is None else confidential_profile(domains)
        name = without_paths(name)
        base = (base[0], confidential_symbols(base[1])) if base is not None else None
    tree, symbols = page_tree(domains or profile, symbols, base, start, most_nodes)
    tree, times = tree_with_times(tree, log, confidential=confidential)
    old = None if base is None else base[0]
    blocks = {**more(profile, old), **source}
    charts = ("charts.js",) if kind.charts or log is not None else ()
    timed = () if log is None else TIME_SCRIPTS

    def page(trees: dict[str, str], pruned: Pruned) -> str:
        notes = symbol_notes(symbols, pruned)
        facts = page_facts(profile, name, notes, base=old, start=start, confidential=confidential)
        return assemble(
            f"{facts['title']} – {shown(kind.title)}",
            kind.body,
            (*kind.styles, *(() if log is None else ("timeline.css",))),
            (*EXPLORER_SCRIPTS, *charts, *timed, *kind.scripts),
            {"facts": facts, **trees, **blocks},
        )

    return page_within(tree, page, options.get("size_limit", SIZE_LIMIT), most_nodes, times)


def tree_with_times(
    tree: Tree, log: LogTimes | None, *, confidential: bool
) -> tuple[Tree, Callable[[Tree], dict[str, str]]]:
    """Return the tree with the times of a log, and what makes a page's blocks of it."""
    if log is None:
        return tree, lambda pruned: {"tree": pack_tree(pruned)}
    picture = log.picture()
    whole = with_times(tree, picture)
    head, rates = picture.as_json(confidential=confidential), log.rates_bytes

    def blocks(pruned: Tree) -> dict[str, str]:
        return {"tree": pack_tree(pruned), "times": pack_times(pruned, head, rates)}

    return whole, blocks


def shown_names(symbols: Symbols, start: Opening | None) -> Symbols:
    """Return the names that a page opens with, from all that its tree has."""
    start = start or Opening()
    if not start.labels:
        symbols = without_labels(symbols)
    return with_templates(symbols) if start.templates else symbols


def drawn_stacks(
    symbols: Symbols, base: tuple[Profile, Symbols] | None, start: Opening
) -> tuple[Symbols, tuple[Profile, Symbols] | None]:
    """Return the stacks that a page draws, of a profile and of its base."""
    if start.start_frames or not start.hide_allocators:
        return symbols, base
    older = base and (base[0], fold_frames(base[1], Folds.ALL))
    return fold_frames(symbols, Folds.ALL), older


def page_tree(
    profile: Profile,
    symbols: Symbols,
    base: tuple[Profile, Symbols] | None,
    start: Opening | None,
    most_nodes: int,
) -> tuple[Tree, Symbols]:
    """Return the tree of a page, and its names: with labels of stacks, if the page opens with them
    or has room for them.
    """
    tree = build_tree(profile, symbols, base, most_nodes=most_nodes)
    plain = without_labels(symbols)
    asked = start is not None and start.labels
    if asked or plain is symbols or len(tree) <= min(MOST_LABELLED_NODES, most_nodes):
        return tree, symbols
    if base is not None:
        base = base[0], without_labels(base[1])
    return build_tree(profile, plain, base, most_nodes=most_nodes), plain


def sources_block(profile: Profile, symbols: Symbols, sources: Sources | None) -> dict[str, str]:
    """Return the blocks of a page with the text of source lines; none without ``sources``."""
    if sources is None:
        return {}
    return {"source": pack_text(visible(source_block(profile, symbols, sources)))}


def page_within(
    tree: Tree,
    page: Callable[[dict[str, str], Pruned], str],
    size_limit: int,
    most_nodes: int,
    pack: Callable[[Tree], dict[str, str]],
) -> str:
    """Return ``page(blocks, what was pruned)``, pruned until it is below ``size_limit`` bytes;
    ``pack`` makes the blocks of a tree.

    A page that is larger without any tree is returned with a tree of one node.
    """
    room = size_limit - len(page({}, Pruned(tree)).encode()) - _SENTENCE_BYTES
    share = shares(tree)
    limit = min(most_nodes, len(tree))
    while True:
        pruned = prune(tree, limit, share)
        blocks = pack(pruned.tree)
        size = sum(len(key) + len(block) for key, block in blocks.items())
        if size <= room or limit <= 1:
            return page(blocks, pruned)
        limit = max(1, int(limit * min(0.9 * max(room, 0) / size, 0.9)))


def symbol_notes(symbols: Symbols, pruned: Pruned | None = None) -> Sequence[str]:
    """Return what the reader has to know of names and pruning, in sentences."""
    notes = [p.text + (f" ({p.hint})" if p.hint else "") for p in symbols.problems]
    if pruned is not None:
        notes.append(pruned.sentence)
    return notes
