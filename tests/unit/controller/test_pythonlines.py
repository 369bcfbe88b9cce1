"""Tables of lines against the interpreters that wrote them, and as no interpreter writes them."""

from __future__ import annotations

import json
import subprocess

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_profiler.profile.pythonlines import line_table
from pythons import pythons

# Prints [minor, [[table, first line, [[unit, line or 0], ...]], ...]] of the standard library.
TELLS = """
import dis, json, sys, types
minor = sys.version_info[1]

def every(code):
    yield code
    for value in code.co_consts:
        if isinstance(value, types.CodeType):
            yield from every(value)

def lines(code):
    if minor == 9:
        at = list(dis.findlinestarts(code)) + [(len(code.co_code), 0)]
        return [(u, l) for (a, l), (b, _) in zip(at, at[1:]) for u in range(a // 2, b // 2)]
    return [(u, l or 0) for a, b, l in code.co_lines() for u in range(a // 2, b // 2)]

found = []
for name in ("argparse", "typing", "asyncio.tasks", "json.decoder", "dataclasses"):
    module = __import__(name, fromlist=["x"])
    with open(module.__file__) as file:
        top = compile(file.read(), module.__file__, "exec")
    for code in every(top):
        table = code.co_lnotab if minor == 9 else code.co_linetable
        found.append((table.hex(), code.co_firstlineno, lines(code)))
print(json.dumps([minor, found]))
"""


@pytest.mark.parametrize("python", pythons())
def test_each_instruction_has_the_line_that_its_interpreter_says(python: str) -> None:
    done = subprocess.run(
        [python, "-W", "ignore", "-c", TELLS],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    minor, codes = json.loads(done.stdout)
    assert len(codes) > 300
    for table, first_line, expected in codes:
        found = line_table(minor, bytes.fromhex(table), first_line)
        units = np.array([unit for unit, _ in expected], np.int64)
        assert found.of(units).tolist() == [line for _, line in expected]


@given(st.sampled_from([9, 10, 11, 14]), st.binary(max_size=300), st.integers(0, 2**32 - 1))
def test_nonsense_gives_lines_within_bounds(minor: int, table: bytes, first_line: int) -> None:
    found = line_table(minor, table, first_line)
    assert (np.diff(found.starts) >= 0).all()
    lines = found.of(np.array([0, 1, 7, 10**6], np.int64))
    assert ((lines >= 0) & (lines < 2**31)).all()
