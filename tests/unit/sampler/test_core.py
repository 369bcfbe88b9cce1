"""The sampler's core, as C programs of their own, plain and under sanitizers."""

from __future__ import annotations

from pathlib import Path

import pytest

from c_build import ROOT, compile_program, core_sources, run_program

SANITIZERS = {
    "plain": (),
    "asan-ubsan": ("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    "tsan": ("-fsanitize=thread",),
}
FLAGS = ("-std=gnu11", "-D_GNU_SOURCE", "-O1", "-g", "-Wall", "-Wextra", "-Werror")

under_sanitizers = pytest.mark.parametrize("variant", SANITIZERS)


def check_program(source: str, sources: list[Path], variant: str) -> None:
    """Build and run a C program of tests, together with these sources."""
    program = compile_program(
        [ROOT / "tests" / "c" / f"{source}.c", *sources],
        (*FLAGS, *SANITIZERS[variant]),
        name=f"{source}-{variant}",
        libs=("-lm", "-lpthread", "-ldl"),
    )

    result = run_program(program)

    assert result.returncode == 0, result.stderr
    assert "0 failed" in result.stdout


@under_sanitizers
def test_core_tables_hold_under(variant: str) -> None:
    parts = (
        "sample", "table", "local", "stacks", "keyed", "sites", "peak", "live", "stack_range",
    )  # fmt: skip
    check_program("test_core", core_sources(*parts), variant)


@under_sanitizers
def test_buffers_for_stacks_and_the_room_left_hold_under(variant: str) -> None:
    check_program("test_scratch", core_sources(), variant)


@under_sanitizers
def test_hooks_of_interpreters_hold_under(variant: str) -> None:
    hooks = ROOT / "sampler" / "pymem" / "pymem_hooks.c"
    check_program("test_pymem", [hooks, *core_sources()], variant)


@under_sanitizers
def test_peaks_hold_under(variant: str) -> None:
    parts = ("sample", "table", "local", "keyed", "sites", "stack_range")
    check_program("test_peak", core_sources(*parts), variant)


@under_sanitizers
def test_modules_that_follow_each_other_at_one_address_hold_under(variant: str) -> None:
    parts = ("sample", "table", "local", "stack_range", "modtab", "runtime", "layout")
    check_program("test_modtab", core_sources(*parts), variant)


@under_sanitizers
def test_python_frames_along_a_memo_hold_under(variant: str) -> None:
    check_program("test_pyframes", core_sources("frames", "code", "layout", "sample"), variant)


@under_sanitizers
def test_frames_of_an_interpreter_are_those_of_a_ledger_under(variant: str) -> None:
    check_program("test_python_frames", core_sources(), variant)
