"""The report: everything about one profile on one page, in tabs.

Besides the profile, the page takes blocks that other parts of the parser make. All are optional,
and a tab appears only with its block:

``leaks``  {"rows": [{"verdict": "leak" | "cache-like" | "young" | "inconclusive", "bytes": float,
"std_error": float | null, "bytes_per_hour": float | null, "bytes_per_hour_error": float | null (95
%), "lower95", "upper95", "bytes_per_hour_lower95", "bytes_per_hour_upper95": float | null (ends of
the 95 % intervals), "evidence": str, "stack": [{"function": str, "file": str, "line": int}, ...]
(innermost first)}, ...], "notes": [str, ...]} ``diff``   {"rows": [{"verdict": "new" | "gone" |
"grown" | "shrunk" | "noise", "function": str, "file": str, "line": int, "base": float, "new":
float, "delta": float, "delta_error": float | null (standard error), "delta_lower95",
"delta_upper95": float | null}, ...], "unit": "space" | "objects", "base_name": str,
"notes": [str, ...]} ``budget``  what `mem_parser.budget.CaptureReport.as_json` returns.

Unknown keys are ignored, missing ones are blank. ``svg`` is the call graph as
`mem_parser.reports.svg` draws it; the page keeps only its shapes and texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mem_parser.escape import visible
from mem_parser.estimate import Estimate
from mem_parser.model import Count, Profile, Unit
from mem_parser.reports.listing import Sources
from mem_parser.symbols.table import Symbols
from mem_parser.symbols.templates import with_templates
from mem_parser.tree import build_tree
from mem_parser.web.confidential import confidential_profile, confidential_symbols
from mem_parser.web.facts import Opening, memory_account, page_facts, without_paths
from mem_parser.web.flamegraph import (
    EXPLORER_SCRIPTS,
    MOST_NODES,
    page_within,
    sources_block,
    symbol_notes,
)
from mem_parser.web.pack import pack_text
from mem_parser.web.page import SIZE_LIMIT, assemble
from mem_parser.web.prune import Pruned
from mem_parser.web.tables import tables

_SCRIPTS = (
    *EXPLORER_SCRIPTS,
    "narrowed_tables.js",
    "table.js",
    "charts.js",
    "summary_tab.js",
    "tree_tab.js",
    "call_graph.js",
    "layered.js",
    "graph_drawing.js",
    "graph_tab.js",
    "verdict_tabs.js",
    "budget_tab.js",
    "report_page.js",
)
_MOST_SVG = 1_200_000
_MOST_VERDICTS = 2000
_MOST_READINGS = 600


def render(
    profile: Profile,
    symbols: Symbols,
    *,
    name: str = "profile",
    base: tuple[Profile, Symbols] | None = None,
    leaks: Mapping[str, Any] | None = None,
    diff: Mapping[str, Any] | None = None,
    budget: Mapping[str, Any] | None = None,
    svg: str | None = None,
    start: Opening | None = None,
    domains: Profile | None = None,
    sources: Sources | None = None,
    confidential: bool = False,
    most_nodes: int = MOST_NODES,
    size_limit: int = SIZE_LIMIT,
) -> str:
    """Return the page.

    ``name`` is what to call the profile where it does not say itself; ``base`` adds the difference
    to the flame graph and the call graph. In ``confidential`` mode ``svg`` must be drawn from a
    profile that `mem_parser.web.confidential` made; without an ``svg`` the page draws one itself.
    ``domains`` and ``sources`` are as of the flame graph; all other tabs are of ``profile`` alone.
    The page is below ``size_limit`` bytes; what was left out for that is stated on it.
    """
    source = sources_block(profile, symbols, None if confidential else sources)
    if confidential:
        profile, symbols = confidential_profile(profile), confidential_symbols(symbols)
        domains = None if domains is None else confidential_profile(domains)
        name = without_paths(name)
        base = (base[0], confidential_symbols(base[1])) if base is not None else None
    notes: list[str] = []
    # The tree has both names of a function, all else those that the page opens with.
    shown = with_templates(symbols) if start is not None and start.templates else symbols
    drawing = svg if svg is not None else _draw(profile, shown, name, notes, base)
    tree = build_tree(domains or profile, symbols, base, most_nodes=most_nodes)
    blocks: dict[str, Any] = {
        "account": memory_account(profile),
        "series": _series(profile),
        "tables": pack_text(visible(tables(profile, shown, tree))),
        **source,
    }
    if drawing is not None:
        _add_drawing(blocks, drawing, notes)
    _add_verdicts(blocks, "leaks", leaks, notes, confidential=confidential)
    _add_verdicts(blocks, "diff", diff, notes, confidential=confidential)
    _add_verdicts(blocks, "budget", budget, notes, confidential=confidential)

    def page(packed: str, pruned: Pruned) -> str:
        every_note = [*symbol_notes(symbols, pruned), *notes]
        old = None if base is None else base[0]
        facts = page_facts(
            profile, name, every_note, base=old, start=start, confidential=confidential
        )
        return assemble(
            f"{facts['title']} – memory report",
            "report.html",
            ("base.css", "flame.css", "report.css", "narrow.css", "source.css"),
            _SCRIPTS,
            {"facts": facts, "tree": packed, **blocks},
        )

    return page_within(tree, page, size_limit, most_nodes)


def _draw(
    profile: Profile,
    symbols: Symbols,
    name: str,
    notes: list[str],
    base: tuple[Profile, Symbols] | None,
) -> str | None:
    """Draw the call graph, with the changes since a base; where that is not possible the page says
    why and does without.
    """
    from mem_parser.diff import variance_between
    from mem_parser.errors import MemError
    from mem_parser.reports.aggregate import sum_stacks
    from mem_parser.reports.graph import build_graph
    from mem_parser.reports.graph_diff import build_diff_graph
    from mem_parser.reports.svg import draw_svg

    title = (profile.capture.comm or name).rsplit("/", 1)[-1]
    sums = sum_stacks(profile, symbols)
    if base is None:
        graph = build_graph(profile, sums, Count.INUSE, Unit.SPACE, title)
    else:
        graph = build_diff_graph(
            profile,
            sums,
            sum_stacks(*base),
            count=Count.INUSE,
            unit=Unit.SPACE,
            title=title,
            between=variance_between(base[0], profile, Unit.SPACE),
        )
    try:
        return draw_svg(graph)
    except MemError as error:
        notes.append(f"no call graph: {error}")
        return None


def _add_drawing(blocks: dict[str, Any], svg: str, notes: list[str]) -> None:
    packed = pack_text(svg)
    if len(packed) > _MOST_SVG:
        notes.append("no call graph: the drawing is too large for this page")
    else:
        blocks["svg"] = packed


def _add_verdicts(
    blocks: dict[str, Any],
    key: str,
    given: Mapping[str, Any] | None,
    notes: list[str],
    *,
    confidential: bool,
) -> None:
    if given is None:
        return
    rows = list(given.get("rows", ()))
    if len(rows) > _MOST_VERDICTS:
        notes.append(f"{key}: the first {_MOST_VERDICTS} of {len(rows)} rows are on the page")
    block = visible({**given, "rows": rows[:_MOST_VERDICTS]})
    blocks[key] = pack_text(_without_source(block) if confidential else block)


def _without_source(data: Any) -> Any:
    """Return JSON data without files and lines, and without folders in its texts."""
    if isinstance(data, Mapping):
        hidden = {"file": "", "line": 0}
        return {k: hidden[k] if k in hidden else _without_source(v) for k, v in data.items()}
    if isinstance(data, str):
        return without_paths(data)
    if isinstance(data, Sequence):
        return [_without_source(v) for v in data]
    return data


def _series(profile: Profile) -> list[list[float | None]]:
    """Return readings as [seconds, estimate, ± 95 %, RSS or null], thinned evenly to what a chart
    shows.
    """
    unseen = profile.unseen(Unit.SPACE)
    step = max(1, -(-len(profile.series) // _MOST_READINGS))
    kept = profile.series[::step]
    if profile.series and kept[-1] is not profile.series[-1]:
        kept.append(profile.series[-1])
    return [
        [
            r.t_s,
            r.estimate_bytes,
            Estimate(r.estimate_bytes, r.std_error_bytes, r.samples, unseen).margin95,
            r.rss_bytes,
        ]
        for r in kept
    ]
