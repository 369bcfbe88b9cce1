"""Stacks that were cut at the depth limit hang below one root and keep their inner part."""

from __future__ import annotations

import re

import numpy as np

from heapfiles import HeapFile, Record
from mem_parser.charge import charged_from
from mem_parser.libraries.mark import mark_libraries
from mem_parser.libraries.rules import Libraries
from mem_parser.model import Count, Profile, Unit
from mem_parser.names import FrameRule
from mem_parser.readers import read_bytes
from mem_parser.reports.header import header_lines
from mem_parser.symbols.cache import SymbolCache
from mem_parser.symbols.symbolizer import symbolize
from mem_parser.symbols.table import Role, Symbols
from mem_parser.tree import build_tree

HOOK = 0x1000
HEADER = {"depth_limit": 3, "lost": {"truncated": 7}}


def opened(*records: Record, **header: object) -> tuple[Profile, Symbols]:
    profile = read_bytes(HeapFile(list(records), header=HEADER | header).data, "x")
    return profile, symbolize(profile, cache=SymbolCache(None), debug_dirs=())


def names_of(symbols: Symbols, stack: int) -> list[str]:
    start, end = symbols.offsets[stack : stack + 2]
    locations = symbols.locations_of_stack[start:end]
    return [symbols.functions[symbols.locations[x].function].name for x in locations]


CUT_1 = Record((HOOK, 0x2000, 0x3000), 1, 100, cut=True)
WHOLE = Record((HOOK, 0x2000, 0x9000), 1, 30)
CUT_2 = Record((HOOK, 0x2000, 0x4000), 2, 200, cut=True)
LOST = Record((1,), 1, 5, lost_cause=2, cut=True)


def test_each_cut_stack_has_one_more_outermost_frame_and_no_other_has() -> None:
    _, symbols = opened(CUT_1, WHOLE, CUT_2, LOST)
    stacks = [names_of(symbols, k) for k in range(4)]
    assert [names[-1] == "[cut]" for names in stacks] == [True, False, True, False]
    assert [len(names) for names in stacks] == [4, 3, 4, 1]
    assert stacks[0][:2] == stacks[1][:2] == stacks[2][:2]


def test_a_tree_has_one_root_for_all_of_them() -> None:
    profile, symbols = opened(CUT_1, WHOLE, CUT_2)
    tree = build_tree(profile, symbols)
    roots = np.arange(tree.levels[1], tree.levels[2])
    names = [tree.names[tree.name[node]].name for node in roots]
    total = tree.total(Count.INUSE)[roots, 2]
    assert names.count("[cut]") == 1
    assert len(names) == 2
    assert total[names.index("[cut]")] > 0


def test_no_block_is_charged_to_what_nobody_knows() -> None:
    profile, symbols = opened(CUT_1)
    rules = Libraries().more([re.compile("0x")])
    marked = mark_libraries(profile, symbols, rules)
    cut = next(f for f in marked.functions if f.name == "[cut]")
    assert cut.role is Role.START
    begin = charged_from(marked, FrameRule.PROGRAM)
    assert names_of(marked, 0)[int(begin[0])] != "[cut]"


def test_the_header_says_the_option_as_long_as_there_is_more_to_keep() -> None:
    def said(**header: object) -> str:
        profile, _ = opened(CUT_1, **header)
        total = profile.total(Count.INUSE, Unit.SPACE)
        return "\n".join(header_lines(profile, total, Count.INUSE, Unit.SPACE))

    assert "frames ([cut]). Capture with --depth 12 to keep them." in said()
    assert "--depth 4096 to keep" in said(depth_limit=2000)
    assert "--depth" not in said(depth_limit=4096)
    assert "[cut]" not in said(lost={"unwind_no_rule": 7})
