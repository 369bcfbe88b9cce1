"""Where functions begin in code without symbols, against the symbols that were taken away."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from c_build import compile_program
from mem_parser.symbols.elf import BadElf, ElfImage
from mem_parser.symbols.unwindtable import UnwindTable

TARGETS = Path(__file__).resolve().parents[2] / "targets"


@pytest.fixture(scope="module", params=["leaky.c", "routes.cc"])
def program(request: pytest.FixtureRequest) -> Path:
    return compile_program(TARGETS / request.param, ("-O1", "-g"))


def functions_of(program: Path) -> list[tuple[int, int]]:
    """Start and size of every function of the program's own, by nm."""
    done = subprocess.run(
        ["nm", "-S", "--defined-only", str(program)],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    rows = [line.split() for line in done.stdout.splitlines()]
    return [(int(r[0], 16), int(r[1], 16)) for r in rows if len(r) == 4 and r[2] in "tTwW"]


def test_every_address_of_a_function_leads_to_its_first(program: Path, tmp_path: Path) -> None:
    stripped = tmp_path / "stripped"
    shutil.copy(program, stripped)
    subprocess.run(["strip", str(stripped)], check=True, timeout=60)
    functions = functions_of(program)
    assert len(functions) > 10
    table = UnwindTable(ElfImage.open(str(stripped)))
    for start, size in functions:
        inside = np.array([start, start + size // 2, start + size - 1], dtype=np.uint64)
        assert set(table.starts(inside).tolist()) == {start}
        assert {table.function(int(at)) for at in inside} == {(start, start + size)}


def test_an_address_of_no_function_stays_as_it_is(program: Path) -> None:
    table = UnwindTable(ElfImage.open(str(program)))
    last = max(start + size for start, size in functions_of(program))
    outside = np.array([0, last + (1 << 20), (1 << 64) - 1], dtype=np.uint64)
    assert table.starts(outside).tolist() == outside.tolist()
    assert {table.function(int(at)) for at in outside} == {None}


@given(st.data())
def test_a_damaged_table_gives_starts_that_are_not_behind_the_address(data: st.DataObject) -> None:
    good = compile_program(TARGETS / "leaky.c", ("-O1", "-g")).read_bytes()
    header = ElfImage.from_data("x", good).sections[".eh_frame_hdr"]
    rules = ElfImage.from_data("x", good).sections[".eh_frame"]
    bad = bytearray(good)
    for _ in range(data.draw(st.integers(1, 12))):
        part = data.draw(st.sampled_from([header, rules]))
        bad[part.offset + data.draw(st.integers(0, part.size_bytes - 1))] = data.draw(
            st.integers(0, 255)
        )
    try:
        table = UnwindTable(ElfImage.from_data("x", bytes(bad)))
    except BadElf:
        return
    wanted = np.arange(0, 0x6000, 7, dtype=np.uint64)
    assert (table.starts(wanted) <= wanted).all()
