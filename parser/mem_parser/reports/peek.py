"""`peek`: one function between its callers and callees.

A stack counts once for each distinct caller, callee or function on it, so with recursion the
callers may add up to more than the function.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mem_parser.errors import UsageProblem
from mem_parser.estimate import Estimate
from mem_parser.filters import compile_pattern
from mem_parser.interning import distinct
from mem_parser.model import IntArray
from mem_parser.reports.aggregate import GroupBy, Row, StackSums, add_up, line_names, rows_of
from mem_parser.reports.grid import Block, Column, Grid, Record, amounts, numbers
from mem_parser.reports.view import View
from mem_parser.units import percent

OUTERMOST = "[outermost: called by nobody]"
OWN = "[its own]"
MOST_FUNCTIONS = 5
MOST_NEIGHBOURS = 20


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A caller or callee and the allocations through it."""

    name: str
    value: Estimate


@dataclass(frozen=True, slots=True)
class Peek:
    """One function with its callers and callees, the heaviest first."""

    row: Row
    callers: list[Neighbour]
    callees: list[Neighbour]


def peek(view: View, function: str, *, lines: bool = False) -> list[Peek]:
    """Return the functions called ``function``, or that it matches as a regular expression, or each
    of their ``lines``; the heaviest first. Raises `UsageProblem` if there is none.
    """
    sums = view.sums()
    found = chosen_rows(sums, function)
    if lines:
        chosen = line_names(view.symbols, {r.name for r in found})
        sums = view.sums(GroupBy.LINE)
        found = [r for r in rows_of(sums) if r.name in chosen]
    rows = sorted(found, key=lambda r: (-r.cum.value, r.name))
    keys = {name: k for k, name in enumerate(sums.names)}
    return [
        Peek(row, *(_neighbours(sums, keys[row.name], step) for step in (1, -1))) for row in rows
    ]


def chosen_rows(sums: StackSums, function: str) -> list[Row]:
    """Return the rows of that name, else those that it matches."""
    rows = rows_of(sums)
    # A Python function has its file after its name.
    exact = [r for r in rows if function in (r.name, r.name.partition(" (")[0])]
    if exact:
        return exact
    pattern = compile_pattern(function, "FUNCTION")
    found = [r for r in rows if pattern.search(r.name)]
    if not found:
        raise UsageProblem(
            f"{function}: no such function in the profile",
            hint="`mem_parser top` lists them; --all-frames keeps those of libraries",
        )
    return found


def _neighbours(sums: StackSums, key: int, step: int) -> list[Neighbour]:
    """Return the frames one step further out (``step`` 1) or in (-1) of each frame of ``key``."""
    place = np.flatnonzero(sums.keys == key)
    stack = (np.searchsorted(sums.offsets, place, side="right") - 1).astype(np.int64)
    beside = place + step
    inside = (beside >= sums.offsets[stack]) & (beside < sums.offsets[stack + 1])
    nobody = len(sums.names)
    other = np.full(len(place), nobody, dtype=np.int64)
    other[inside] = sums.keys[beside[inside]]
    pairs = distinct(stack * (nobody + 1) + other)
    return _sum(sums, pairs // (nobody + 1), pairs % (nobody + 1), OUTERMOST if step > 0 else OWN)


def _sum(sums: StackSums, stack: IntArray, key: IntArray, end: str) -> list[Neighbour]:
    names = [*sums.names, end]
    totals = add_up(sums, stack, key)
    found = [Neighbour(names[k], total) for k, total in totals.items() if total.samples]
    return sorted(found, key=lambda n: (-n.value.value, n.name))


def blocks(view: View, found: list[Peek]) -> Iterator[Block]:
    """Yield the report for people."""
    yield from view.header
    unit, total = view.filters.unit, view.total.value
    for one in found[:MOST_FUNCTIONS]:
        callers, callees = one.callers[:MOST_NEIGHBOURS], one.callees[:MOST_NEIGHBOURS]
        lines = [
            *((n.value, f"  {n.name}") for n in reversed(callers)),
            (one.row.cum, one.row.name),
            *((n.value, f"    {n.name}") for n in callees),
        ]
        values = amounts((value for value, _ in lines), unit)
        rows = [
            (values[k], percent(value.value, total), name) for k, (value, name) in enumerate(lines)
        ]
        rows[len(callers)] = (*rows[len(callers)][:2], f"─ {one.row.name}")
        columns = (
            Column("total"),
            Column("%"),
            Column("callers, ─ function, callees", right=False, flexible=True),
        )
        yield Grid(columns, list(rows), one.row.name)
        more = len(one.callers) - len(callers) + len(one.callees) - len(callees)
        if more:
            yield f"{more} lighter callers and callees hidden; --json has all"
    if len(found) > MOST_FUNCTIONS:
        yield f"{len(found) - MOST_FUNCTIONS} more match: give a narrower FUNCTION"


def records(found: list[Peek]) -> list[Record]:
    """Return the functions for programs."""
    return [
        {"function": one.row.name}
        | numbers("flat", one.row.flat)
        | numbers("cum", one.row.cum)
        | {
            kind: [
                {"function": n.name} | numbers("cum", n.value) | {"samples": n.value.samples}
                for n in neighbours
            ]
            for kind, neighbours in (("callers", one.callers), ("callees", one.callees))
        }
        for one in found
    ]
