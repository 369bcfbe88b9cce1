"""The sampler's core tables, as a C program of their own, plain and under sanitizers."""

from __future__ import annotations

import pytest

from c_build import ROOT, compile_program, core_sources, run_program

SANITIZERS = {
    "plain": (),
    "asan-ubsan": ("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    "tsan": ("-fsanitize=thread",),
}


@pytest.mark.parametrize("variant", SANITIZERS)
def test_core_tables_hold_under(variant: str) -> None:
    flags = ("-std=gnu11", "-D_GNU_SOURCE", "-O1", "-g", "-Wall", "-Wextra", "-Werror")
    program = compile_program(
        [
            ROOT / "tests" / "c" / "test_core.c",
            *core_sources(
                "sample",
                "table",
                "local",
                "stacks",
                "keyed",
                "sites",
                "peak",
                "live",
                "stack_range",
            ),
        ],
        (*flags, *SANITIZERS[variant]),
        name=f"core-{variant}",
        libs=("-lm", "-lpthread"),
    )

    result = run_program(program)

    assert result.returncode == 0, result.stderr
    assert "0 failed" in result.stdout


@pytest.mark.parametrize("variant", SANITIZERS)
def test_buffers_for_stacks_and_the_room_left_hold_under(variant: str) -> None:
    flags = ("-std=gnu11", "-D_GNU_SOURCE", "-O1", "-g", "-Wall", "-Wextra", "-Werror")
    program = compile_program(
        [ROOT / "tests" / "c" / "test_scratch.c", *core_sources()],
        (*flags, *SANITIZERS[variant]),
        name=f"scratch-{variant}",
        libs=("-lm", "-lpthread", "-ldl"),
    )

    result = run_program(program)

    assert result.returncode == 0, result.stderr
    assert "0 failed" in result.stdout


@pytest.mark.parametrize("variant", SANITIZERS)
def test_peaks_hold_under(variant: str) -> None:
    flags = ("-std=gnu11", "-D_GNU_SOURCE", "-O1", "-g", "-Wall", "-Wextra", "-Werror")
    program = compile_program(
        [
            ROOT / "tests" / "c" / "test_peak.c",
            *core_sources("sample", "table", "local", "keyed", "sites", "stack_range"),
        ],
        (*flags, *SANITIZERS[variant]),
        name=f"peak-{variant}",
        libs=("-lm", "-lpthread"),
    )

    result = run_program(program)

    assert result.returncode == 0, result.stderr
    assert "0 failed" in result.stdout


@pytest.mark.parametrize("variant", SANITIZERS)
def test_modules_that_follow_each_other_at_one_address_hold_under(variant: str) -> None:
    flags = ("-std=gnu11", "-D_GNU_SOURCE", "-O1", "-g", "-Wall", "-Wextra", "-Werror")
    program = compile_program(
        [
            ROOT / "tests" / "c" / "test_modtab.c",
            *core_sources("sample", "table", "local", "stack_range", "modtab"),
        ],
        (*flags, *SANITIZERS[variant]),
        name=f"modtab-{variant}",
        libs=("-lm", "-lpthread"),
    )

    result = run_program(program)

    assert result.returncode == 0, result.stderr
    assert "0 failed" in result.stdout
