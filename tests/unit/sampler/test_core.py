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
        "sample", "table", "local", "stacks", "keyed", "sites", "peak", "stack_range",
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
    parts = (
        "sample",
        "table",
        "local",
        "stack_range",
        "modtab",
        "runtime",
        "code_lifetime",
        "layout",
    )
    parts += ("tls", "tls_code", "own_layout")
    check_program("test_modtab", core_sources(*parts), variant)


@under_sanitizers
def test_names_that_nobody_gave_are_no_labels_under(variant: str) -> None:
    check_program("test_thread_labels", core_sources("thread_labels", "text"), variant)


@under_sanitizers
def test_walks_over_python_frames_along_a_memo_hold_under(variant: str) -> None:
    check_program("test_python_walk", core_sources(), variant)


@under_sanitizers
def test_records_of_python_frames_are_what_a_ledger_says_under(variant: str) -> None:
    check_program("test_python_records", core_sources(), variant)


@under_sanitizers
def test_ends_of_code_objects_are_counted_under(variant: str) -> None:
    check_program("test_code_lifetime", core_sources(), variant)


@under_sanitizers
def test_what_an_interpreter_says_of_its_layout_holds_under(variant: str) -> None:
    check_program("test_own_layout", core_sources("own_layout", "layout"), variant)


@under_sanitizers
def test_rings_of_events_hold_under(variant: str) -> None:
    others = [source for source in core_sources() if source.stem != "events"]
    check_program("test_events", others, variant)
