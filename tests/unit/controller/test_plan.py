"""Plans of entry points of whole programs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from c_build import WARNINGS, compile_program
from mem_parser.errors import TargetUnsupported
from mem_profiler.entries import plan

TARGETS = Path(__file__).parents[2] / "targets"


def odd(*flags: str) -> Path:
    """odd_entries.c with its entry points."""
    sources = [TARGETS / "odd_entries.c", TARGETS / "odd_entries.S"]
    return compile_program(sources, (*WARNINGS, *flags), libs=("-lpthread",))


def test_copies_made_for_single_callers_refuse_the_program() -> None:
    with pytest.raises(TargetUnsupported, match=r"special copies .*mi_free\.constprop\.0"):
        plan.of_program(odd("-DCLONED"), 0)


def test_a_static_function_of_that_name_is_no_allocator(tmp_path: Path) -> None:
    source = tmp_path / "own.c"
    source.write_text(
        "static __attribute__((noinline)) void *malloc(unsigned long n) { return (void *)n; }\n"
        'static __attribute__((noinline)) void free(void *p) { __asm__("" : : "r"(p)); }\n'
        "int main(void) { free(malloc(3)); return 0; }\n"
    )
    program = compile_program(source, ("-O1", "-fno-builtin"))

    assert plan.of_program(program, 0) is None


def test_symbols_may_lie_in_a_file_of_their_own(tmp_path: Path) -> None:
    program, bare, debug = odd(), tmp_path / "bare", tmp_path / "debug"
    for command in (
        ["objcopy", "--only-keep-debug", program, debug],
        ["objcopy", "--strip-all", program, bare],
    ):
        subprocess.run(command, check=True, timeout=60)

    whole = plan.of_program(program, 0x5000)

    assert plan.of_program(bare, 0x5000) is None
    assert plan.of_program(bare, 0x5000, symbols=debug) == whole
    assert whole is not None and "mi_heap_malloc" in whole.functions


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", b"\x7fELF" + b"\xff" * 60])
def test_what_is_no_program_is_said(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)

    with pytest.raises(TargetUnsupported, match="is no ELF program"):
        plan.of_program(path, 0)
