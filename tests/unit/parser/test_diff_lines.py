"""The line beside the row of a function in a difference."""

from __future__ import annotations

import dataclasses

import numpy as np

from mem_parser.diff import diff_profiles
from mem_parser.model import Profile
from mem_parser.symbols.table import Symbols
from simulated import Program, burst


def test_the_row_of_a_function_has_the_line_that_changed_not_the_one_of_its_largest_stack() -> None:
    """Line 10 allocates as much in all runs, by one stack; others through many small ones."""
    callers = [f"{k:04}" for k in range(40)]

    def run(*lines: int) -> tuple[Profile, Symbols]:
        random = np.random.default_rng(1)
        sources = [burst(random, 1.0, 2000, "work@10")]
        for line in lines:
            small = burst(random, 1.0, 50, f"work@{line}")
            sources += [dataclasses.replace(small, names=(small.names[0], c)) for c in callers]
        sources = [dataclasses.replace(s, line=int(s.names[0][5:])) for s in sources]
        profile, symbols = Program(sources, rate=1).capture(random)
        functions = [dataclasses.replace(f, name=f.name[:4]) for f in symbols.functions]
        profile.capture.pid = len(lines)
        return profile, dataclasses.replace(symbols, functions=functions)

    def line(base: tuple[Profile, Symbols], new: tuple[Profile, Symbols]) -> int:
        [row] = diff_profiles(base, new).rows
        return row.frames[0].line

    assert line(run(), run(11)) == line(run(11), run()) == 11
    assert line(run(11), run(11, 12)) == 12
    assert line(run(), run(11, 12)) == 0, "each has half of the change"
