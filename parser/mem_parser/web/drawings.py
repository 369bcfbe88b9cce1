"""The call graphs of a report: one for every count that the reader may choose, laid out beforehand.

A browser lays out no graph, so the page has all drawings in it, as far as there is room.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from mem_parser.diff import variance_between
from mem_parser.errors import MemError
from mem_parser.model import Count, Profile, Unit
from mem_parser.reports.aggregate import counted_as, sum_stacks
from mem_parser.reports.graph import CallGraph, build_graph
from mem_parser.reports.graph_diff import build_diff_graph
from mem_parser.reports.svg import draw_svg
from mem_parser.symbols.table import Symbols
from mem_parser.web.measures import measure_name, measures
from mem_parser.web.pack import pack_text

MOST_BYTES = 1_200_000
"""Room for all drawings of a page together, packed."""
_AT_A_TIME = 4
"""Graphs that are laid out at the same time, each by a process of its own."""


def drawings(
    profile: Profile,
    symbols: Symbols,
    name: str,
    notes: list[str],
    *,
    base: tuple[Profile, Symbols] | None = None,
    first: tuple[Count, Unit] = (Count.INUSE, Unit.SPACE),
) -> dict[str, str]:
    """Return packed call graphs by what they count, with the changes since a base.

    Nothing is drawn where there is nothing to count. ``notes`` gets a sentence for what could not
    be drawn or has no room; ``first`` is the one that the page opens with, the last to have none.
    """
    title = (profile.capture.comm or name).rsplit("/", 1)[-1]
    graphs = list(_graphs(profile, symbols, title, base, first))
    with ThreadPoolExecutor(max_workers=min(_AT_A_TIME, os.cpu_count() or 1)) as workers:
        drawn = list(workers.map(_drawn, (graph for _, graph in graphs)))
    found: dict[str, str] = {}
    no_room, room = [], MOST_BYTES
    for (measure, _), drawing in zip(graphs, drawn, strict=True):
        if isinstance(drawing, MemError):
            notes.append(f"no call graph of {measure}: {drawing}")
        elif len(drawing) > room:
            no_room.append(measure)
        else:
            found[measure] = drawing
            room -= len(drawing)
    if no_room:
        notes.append(
            f"no call graph of {', '.join(no_room)}: the drawing is too large for this page"
        )
    return found


def _drawn(graph: CallGraph) -> str | MemError:
    """Return the packed drawing, or why there is none."""
    try:
        return pack_text(draw_svg(graph))
    except MemError as error:
        return error


def _graphs(
    profile: Profile,
    symbols: Symbols,
    title: str,
    base: tuple[Profile, Symbols] | None,
    first: tuple[Count, Unit],
) -> Iterator[tuple[str, CallGraph]]:
    profiles = [profile] if base is None else [profile, base[0]]
    choices = [(count, unit) for _, count, unit in measures(*profiles)]
    sums = sum_stacks(profile, symbols)
    old = None if base is None else sum_stacks(*base)
    for count, unit in sorted(choices, key=lambda choice: choice != first):
        now = counted_as(sums, profile, count, unit)
        if base is None or old is None:
            graph = build_graph(profile, now, count, unit, title)
        else:
            paired = count is Count.INUSE
            graph = build_diff_graph(
                profile,
                now,
                counted_as(old, base[0], count, unit),
                count=count,
                unit=unit,
                title=title,
                between=variance_between(base[0], profile, unit) if paired else None,
            )
        if graph.nodes:
            yield measure_name(count, unit), graph
