"""What starts a program or thread is one frame, and no byte moves by that."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.libraries.mark import mark_libraries
from mem_parser.libraries.rules import Libraries
from mem_parser.model import Profile
from mem_parser.names import FrameRule
from mem_parser.reports.aggregate import rows_of, sum_stacks
from mem_parser.startframes import KINDS, fold_starts
from mem_parser.symbols.table import LABEL_MODULE, Function, Symbols
from reportview import named

PYTHON = {
    "Thread._bootstrap": "/usr/lib/python3.11/threading.py",
    "Thread.run": "/usr/lib/python3.11/threading.py",
    "_run_once": "/usr/lib/python3.11/asyncio/base_events.py",
    "_run_code": "<frozen runpy>",
    "do_execute": "/x/site-packages/ipykernel/ipkernel.py",
    "run_code": "/x/site-packages/IPython/core/interactiveshell.py",
    "cell": "/srv/ipykernel_7/1.py",
    "job": "/srv/app/job.py",
    "run": "/srv/app/threads.py",
}


def opened(*stacks: str) -> tuple[Profile, Symbols]:
    """The stacks are spelled innermost first; functions of PYTHON are Python's; `label` is one."""
    profile, symbols = named(tuple((stack, 8) for stack in stacks))
    functions = [
        dataclasses.replace(f, module=PYTHON[f.name], file=PYTHON[f.name], python=True)
        if f.name in PYTHON
        else Function(f.name, f.name, LABEL_MODULE)
        if f.name == "label"
        else dataclasses.replace(f, module="/lib/libstdc++.so.6", file="", known=False)
        if f.name == "unnamed"
        else dataclasses.replace(f, module="/app", file="")
        for f in symbols.functions
    ]
    symbols = dataclasses.replace(symbols, functions=functions)
    return profile, mark_libraries(profile, symbols, Libraries())


def spelled(symbols: Symbols) -> list[str]:
    names = [
        symbols.functions[symbols.locations[k].function].name for k in symbols.locations_of_stack
    ]
    return [" ".join(names[a:b]) for a, b in pairwise(symbols.offsets.tolist())]


@pytest.mark.parametrize(
    ("stack", "folded"),
    [
        ("malloc load main __libc_start_main _start", "malloc load main [program start]"),
        ("malloc work unnamed start_thread clone3", "malloc work [thread start]"),
        ("work start_thread parse main _start", "work start_thread parse main [program start]"),
        ("malloc unnamed call_init _dl_init", "malloc unnamed [library start]"),
        ("malloc work unnamed", "malloc work unnamed"),
        ("malloc _start", "malloc _start"),
        ("job Thread.run Thread._bootstrap", "job [thread start]"),
        ("job Thread.run Thread._bootstrap label", "job [thread start] label"),
        ("job _run_once run", "job [event loop] run"),
        ("job run Thread.run", "job run [thread start]"),
        ("cell run_code do_execute _run_once _run_code", "cell [notebook]"),
        ("Thread.run Thread._bootstrap", "Thread.run [thread start]"),
        ("malloc load main [cut]", "malloc load main [cut]"),
    ],
)  # fmt: skip
def test_the_outermost_run_is_one_frame(stack: str, folded: str) -> None:
    _, symbols = opened(stack)
    assert spelled(fold_starts(symbols, FrameRule.PROGRAM)) == [folded]
    for rule in (FrameRule.NONE, FrameRule.JEPROF):
        assert spelled(fold_starts(symbols, rule)) == [stack]


NAMES = ("malloc", "load", "work", "unnamed", "main", "_start", "clone3", "call_init", "job",
         "label", "Thread.run", "_run_once", "do_execute", "task_step")  # fmt: skip


@given(st.lists(st.lists(st.sampled_from(NAMES), min_size=1, max_size=9), min_size=1, max_size=6))
def test_owners_and_totals_stay_as_they_are(stacks: list[list[str]]) -> None:
    profile, symbols = opened(*map(" ".join, stacks))
    left = fold_starts(symbols, FrameRule.PROGRAM)
    before, after = (
        {row.name: row for row in rows_of(sum_stacks(profile, s))} for s in (symbols, left)
    )
    assert {n: r.flat for n, r in before.items() if r.flat.samples} == {
        n: r.flat for n, r in after.items() if r.flat.samples
    }
    assert all(
        before[name].cum.value >= row.cum.value for name, row in after.items() if name in before
    )
    assert set(after) - set(before) <= set(KINDS)
    assert np.diff(left.offsets).min() >= 1
