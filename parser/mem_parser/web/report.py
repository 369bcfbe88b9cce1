"""The report: everything about one profile on one page, in tabs.

Besides the profile, the page takes blocks that other parts of the parser make. All are optional,
and a tab appears only with its block:

``leaks``  {"rows": [{"verdict": "leak" | "held-to-end" | "cache-like" | "young" | "inconclusive",
"bytes": float, "std_error": float | null, "bytes_per_hour": float | null, "bytes_per_hour_error":
float | null (95 %), "lower95", "upper95", "bytes_per_hour_lower95", "bytes_per_hour_upper95": float
| null (ends of the 95 % intervals), "evidence": str, "stack": [{"function": str, "file": str,
"line": int}, ...] (innermost first)}, ...], "notes": [str, ...]}
``diff``   by what is counted (`inuse.space`, see `mem_parser.web.measures`) {"rows": [{"verdict":
"new" | "gone" | "grown" | "shrunk" | "noise", "function": str, "file": str, "line": int, "base":
float, "new": float, "delta": float, "delta_error": float | null (standard error), "delta_lower95",
"delta_upper95": float | null}, ...], "unit": "space" | "objects", "base_name": str, "notes":
[str, ...]}
``budget``  what `mem_parser.budget.outputs.words.page_block` returns.

Unknown keys are ignored, missing ones are blank. The reader chooses the count and the unit of all
tabs; leaks, threads and a budget have their own, and say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import numpy as np

from mem_parser.escape import visible
from mem_parser.estimate import Estimate
from mem_parser.model import Count, Profile, Unit
from mem_parser.reports.opening import Sentence
from mem_parser.symbols.table import Symbols
from mem_parser.web.facts import Opening, memory_account, without_paths
from mem_parser.web.flamegraph import PageKind, PageOptions, page_of
from mem_parser.web.measures import measure_name, measures, shown_counts
from mem_parser.web.pack import pack_text
from mem_parser.web.verdicts import MOST_ROWS, merged_rows, verdict_block
from mem_parser.words import phrase, shown

REPORT_SCRIPTS = (
    "report_tables.js",
    "table.js",
    "tabs.js",
    "summary_tab.js",
    "tree_tab.js",
    "call_graph.js",
    "vendor/dagre.js",
    "graph_drawing.js",
    "graph_tab.js",
    "verdict_tabs.js",
    "budget_tab.js",
    "report_page.js",
)
REPORT_STYLES = ("base.css", "flame.css", "report.css", "narrow.css", "source.css")
_REPORT = PageKind(
    phrase("memory report"),
    "report.html",
    REPORT_STYLES,
    (*REPORT_SCRIPTS, "report_start.js"),
    charts=True,
)
_FEWER_ROWS = 500
"""Rows of a difference that the page does not open with."""
_MOST_READINGS = 600


def render(
    profile: Profile,
    symbols: Symbols,
    *,
    leaks: Mapping[str, Any] | None = None,
    diff: Mapping[str, Mapping[str, Any]] | None = None,
    budget: Mapping[str, Any] | None = None,
    opening: Sequence[Sentence] = (),
    **options: Unpack[PageOptions],
) -> str:
    """Return the page, whose first tab begins with ``opening``.

    ``base`` adds the difference to the flame graph and the call graphs; all other tabs are of
    ``profile`` alone.
    """

    def tabs(shown: Profile, base: Profile | None) -> dict[str, Any]:
        return report_blocks(
            shown,
            base=base,
            leaks=leaks,
            diff=diff,
            budget=budget,
            opening=opening,
            start=options.get("start"),
            confidential=options.get("confidential", False),
        )

    return page_of(_REPORT, profile, symbols, tabs, **options)


def report_blocks(
    profile: Profile,
    *,
    base: Profile | None = None,
    leaks: Mapping[str, Any] | None = None,
    diff: Mapping[str, Mapping[str, Any]] | None = None,
    budget: Mapping[str, Any] | None = None,
    opening: Sequence[Sentence] = (),
    start: Opening | None = None,
    confidential: bool = False,
) -> dict[str, Any]:
    """Return the data of the tabs but for the tree itself: the arguments are those of `render`."""
    start = start or Opening()
    blocks: dict[str, Any] = {
        "account": shown(memory_account(profile)),
        "series": _series(profile),
        "tables": pack_text(_tables(profile)),
        "opening": [
            {"kind": s.kind, "text": visible(without_paths(text) if confidential else text)}
            for s, text in zip(opening, shown([s.text for s in opening]), strict=True)
        ],
    }
    both = [profile] if base is None else [profile, base]
    unseen = {unit: max(p.unseen(unit) for p in both) for unit in Unit}
    if leaks is not None:
        leaks = {**leaks, "rows": merged_rows(leaks.get("rows", ()), unseen[Unit.SPACE])}
    for key, given in (("leaks", leaks), ("budget", budget)):
        if given is not None:
            block = verdict_block(given, unseen[Unit.SPACE], confidential=confidential)
            blocks[key] = pack_text(block)
    if diff is not None:
        first = measure_name(start.count, start.unit)
        blocks["diff"] = {
            measure: pack_text(
                verdict_block(
                    given,
                    unseen[Unit(given.get("unit", Unit.SPACE))],
                    most=MOST_ROWS if measure == first else _FEWER_ROWS,
                    confidential=confidential,
                )
            )
            for measure, given in diff.items()
        }
    return blocks


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


def _tables(profile: Profile) -> dict[str, Any]:
    """Return what of a report's numbers only the file knows: totals by measure, to the last digit,
    and blocks by size, by count. All others the page adds up itself, of its tree
    (``assets/report_tables.js``). An amount is [value, lower, upper], the latter the ends of the
    95 % interval: null where they are not known; where only the upper one is null, the number is at
    least the lower.
    """
    return {
        "totals": {
            name: _amount(profile.total(count, unit)) for name, count, unit in measures(profile)
        },
        "sizes": {str(count): _size_table(profile, count) for count in shown_counts(profile)},
    }


def _size_table(profile: Profile, count: Count) -> list[dict[str, Any]]:
    """Return blocks by size, in powers of two; `from` and `to` are bytes, `to` not included."""
    blocks, size = profile.counts(count)
    present = blocks > 0
    mean = np.divide(size, blocks, out=np.zeros(len(blocks)), where=present)
    step = np.floor(np.log2(np.maximum(mean[present], 1))).astype(np.int64)
    amounts = {}
    for name, unit in (("bytes", Unit.SPACE), ("objects", Unit.OBJECTS)):
        value, variance, _ = profile.weigh(count, unit)
        sums = [np.bincount(step, weights=c[present]) for c in (value, variance, blocks)]
        amounts[name] = [
            _amount(Estimate.of_sums(a, v, n, profile.unseen(unit), exact=profile.errors_known))
            for a, v, n in zip(*(column.tolist() for column in sums), strict=True)
        ]
    return [
        {"from": 2**k, "to": 2 ** (k + 1), "bytes": size, "objects": number}
        for k, (size, number) in enumerate(zip(amounts["bytes"], amounts["objects"], strict=True))
    ]


def _amount(estimate: Estimate) -> list[float | None]:
    return [estimate.value, *estimate.known_ends]
