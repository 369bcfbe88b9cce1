"""Answer a viewer's single questions: stacks of a function, leak verdicts, a page to keep."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

from mem_cli.live.screen_state import Branch, Page, Stacks
from mem_parser.errors import MemError
from mem_parser.escape import one_line
from mem_parser.filters import Filters
from mem_parser.leaks.findings import LeakReport
from mem_parser.live.around import around
from mem_parser.live.keptverdicts import judged_in_view
from mem_parser.live.naming import NamingChoice
from mem_parser.model import Profile
from mem_parser.names import FrameRule
from mem_parser.programname import captured_name
from mem_parser.reports.leaks import leak_lines
from mem_parser.reports.opening import Sentence, opening
from mem_parser.reports.text_tree import Node, TextTree, TreeOptions, text_tree
from mem_parser.reports.view import make_view
from mem_parser.symbols.table import Symbols
from mem_parser.web.facts import Opening
from mem_parser.web.flamegraph import render
from mem_parser.words import shown

Named = tuple[Profile, Symbols]
_LEAST_SHARE = 0.001
_MOST_BRANCHES = 2000
_NAMES_TRIED = 100_000
LEAKS = "leaks so far"
LEAKS_AT_END = "leaks at the end of the process"


def stack_lines(named: Named, filters: Filters, function: str, *, callers: bool) -> Stacks:
    """Return the stacks on which ``function`` is, as a tree of source lines that begins with it."""
    view = around(make_view(*named, filters), function, callers=callers)
    options = TreeOptions(share=_LEAST_SHARE, most=_MOST_BRANCHES, inverted=callers, lines=True)
    found = text_tree(view, options)
    whole = view.total.value
    branches = [
        Branch(one_line(f"{guide}{node.name}"), depth, node.total,
               node.total.value / whole if whole else 0.0, below)
        for guide, depth, below, node in _lines(found)
    ]  # fmt: skip
    return Stacks(function, callers, branches, _left_out(found))


def _lines(found: TextTree) -> Iterator[tuple[str, int, int, Node]]:
    """Yield (guide, depth, nodes below, node) of all nodes in the order of the lines."""
    sizes: dict[int, int] = {}
    order: list[Node] = [found.root]
    for node in order:
        order += node.children
    for node in reversed(order):
        sizes[id(node)] = sum(1 + sizes[id(child)] for child in node.children)
    waiting = [("", "", 0, child) for child in reversed(found.root.children)]
    while waiting:
        guide, below, depth, node = waiting.pop()
        yield guide, depth, sizes[id(node)], node
        last = len(node.children) - 1
        for k in range(last, -1, -1):
            branch, rest = ("└ ", "  ") if k == last else ("├ ", "│ ")
            if not last:  # one alone stands below without an indent: deep stacks stay readable
                branch = rest = ""
            waiting.append((below + branch, below + rest, depth + 1, node.children[k]))


def _left_out(found: TextTree) -> str:
    if not found.left_out:
        return ""
    return f"{found.left_out} branches below {100 * _LEAST_SHARE:g} % are not shown"


def leak_page(named: Named, choice: NamingChoice, filters: Filters, width: int) -> Page:
    """Return the verdicts on leaks so far, as `mem_parser leaks` has them."""
    report = judgement(named, choice, filters)
    lines = list(leak_lines(report, named[0], file="FILE", width=width, exit_code=0))
    return Page(LEAKS, [one_line(line) for line in lines])


def verdicts(named: Named, report: LeakReport, filters: Filters) -> list[Sentence]:
    """Return what the screen begins with, as reports do: nothing for a part of a profile. The
    ``report`` may be of some moments before.
    """
    if filters.narrows:
        return []
    aged = named[0].sites.live_births is not None
    found = opening(*named, report if aged else None, running=True)
    return [replace(one, text=shown(one.text)) for one in found]


def judgement(named: Named, choice: NamingChoice, filters: Filters) -> LeakReport:
    """Return the verdicts on leaks. Raises `InputFileError`."""
    rule = FrameRule.OWN if filters.rule is FrameRule.NONE else filters.rule
    return judged_in_view(*named, binary=choice.binary, rule=rule)


def flame_graph(named: Named, base: Named | None, filters: Filters, pid: int) -> str:
    """Return a flame graph as a page. With ``base`` it shows the difference. Raises MemError."""
    profile, symbols = filters.with_allocators(*named)
    older = None if base is None else filters.with_allocators(*base)
    hide = filters.rule is not FrameRule.NONE
    start = Opening(filters.count, filters.unit, hide, start_frames=filters.start_frames)
    name = f"{captured_name(profile.capture)} (pid {pid})"
    return render(profile, symbols, name=name, base=older, start=start)


def write_page(page: str, prefix: str, pid: int) -> str:
    """Write a flame graph under the next free name, and return that. Raises MemError."""
    from mem_cli.output import write_result

    for number in range(1, _NAMES_TRIED):
        path = f"{prefix}.{pid}.{number}.flamegraph.html"
        if not os.path.lexists(path):
            write_result(page, path, quiet=True)
            return path
    raise MemError(f"all names {prefix}.{pid}.<n>.flamegraph.html exist already")
