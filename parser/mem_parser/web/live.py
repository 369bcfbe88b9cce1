"""The pages of `mem_profiler serve`: the report of a process that goes on, and the list of
processes.

The script is that of the report. Instead of blocks in the page it gets them from the server, again
and again: `live_data` has what a page of the report has in it, under the same names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mem_parser.diff import diff_by
from mem_parser.escape import one_line
from mem_parser.leaks.findings import LeakReport
from mem_parser.live.keptverdicts import judged_in_view
from mem_parser.model import Profile
from mem_parser.reports.opening import opening
from mem_parser.symbols.table import Symbols
from mem_parser.web.facts import Opening, page_facts
from mem_parser.web.flamegraph import (
    EXPLORER_SCRIPTS,
    drawn_stacks,
    page_tree,
    shown_names,
    symbol_notes,
)
from mem_parser.web.measures import measures
from mem_parser.web.pack import pack_tree
from mem_parser.web.page import assemble, policy_of, script_of
from mem_parser.web.prune import prune
from mem_parser.web.report import REPORT_SCRIPTS, REPORT_STYLES, report_blocks
from mem_parser.words import phrase

MOST_NODES = 30_000
"""Nodes of the tree that a page gets each time: a megabyte at most."""
_LIVE_SCRIPTS = (*EXPLORER_SCRIPTS, "charts.js", *REPORT_SCRIPTS, "live_feed.js", "live_page.js")
_LIST_SCRIPTS = (
    "format.js", "unpack.js", "theme.js", "state.js", "keys.js", "header.js", "table.js",
    "toolbar.js", "live_feed.js", "processes_page.js",
)  # fmt: skip


@dataclass(frozen=True)
class View:
    """What a page shows: a profile with its names, ``domains`` the same with all its memories
    where it has several, and what it is compared with, whose name is ``base_name``.
    """

    profile: Profile
    symbols: Symbols
    domains: Profile | None = None
    base: tuple[Profile, Symbols] | None = None
    base_name: str = ""


@dataclass(frozen=True)
class ServedPage:
    """A page, and the policy that the server sends with it."""

    html: str
    policy: str


def _page(
    title: str, body: str, styles: Sequence[str], scripts: tuple[str, ...], settings: dict[str, Any]
) -> ServedPage:
    html = assemble(title, body, styles, scripts, {"live": settings}, asks=True)
    return ServedPage(html, policy_of(script_of(scripts), asks=True))


def live_page(title: str, settings: dict[str, Any]) -> ServedPage:
    """Return the page of one process, without its data; ``settings`` are the block `live`, see
    ``assets/live_page.js``.
    """
    styles = (*REPORT_STYLES, "live.css")
    title = phrase("{title} – live", title=one_line(title))
    return _page(title, "live.html", styles, _LIVE_SCRIPTS, settings)


def processes_page(settings: dict[str, Any]) -> ServedPage:
    """Return the page with the list of processes; ``settings`` are the block `live`, see
    ``assets/processes_page.js``.
    """
    styles = ("base.css", "report.css", "live.css")
    return _page("mem_profiler", "processes.html", styles, _LIST_SCRIPTS, settings)


def live_data(
    view: View,
    name: str,
    judge: Callable[[Profile, Symbols], LeakReport] = judged_in_view,
    most_nodes: int = MOST_NODES,
) -> dict[str, Any]:
    """Return the blocks of a report of ``view``: facts, account, series, tables, tree, with leaks
    where ages of blocks are known, and the difference where there is something to compare with.

    ``name`` is what to call a profile that does not say itself; ``judge`` may give verdicts of some
    moments before.
    """
    profile, symbols, base = view.profile, view.symbols, view.base
    start = Opening(apart=view.domains is not None)
    drawn, drawn_base = drawn_stacks(symbols, base, start)
    tree, _ = page_tree(view.domains or profile, drawn, drawn_base, start, most_nodes)
    pruned = prune(tree, most_nodes)
    shown = shown_names(symbols, start)
    older = None if base is None else (base[0], shown_names(base[1], start))
    facts = page_facts(
        profile,
        name,
        symbol_notes(symbols, pruned),
        base=None if base is None else base[0],
        start=start,
        running=profile.capture.end == "running",
    )
    leaks = None if profile.sites.live_births is None else judge(profile, shown)
    diff = None if older is None else _diff(older, (profile, shown), view.base_name)
    blocks = report_blocks(
        profile,
        base=base and base[0],
        leaks=None if leaks is None else leaks.as_json(),
        diff=diff,
        opening=opening(profile, symbols, leaks, running=True),
        start=start,
    )
    return {"facts": facts, "tree": pack_tree(pruned.tree), **blocks}


def _diff(
    base: tuple[Profile, Symbols], new: tuple[Profile, Symbols], base_name: str
) -> Mapping[str, Mapping[str, Any]]:
    choices = {name: (count, unit) for name, count, unit in measures(new[0], base[0])}
    found = diff_by(base, new, choices.values(), base_name=base_name)
    return {name: diff.as_json() for name, diff in zip(choices, found, strict=True)}
