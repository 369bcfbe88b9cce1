"""A thread is held for no longer than it must be: the tables of its callers are copied before."""

from __future__ import annotations

from c_build import ROOT, WARNINGS, compile_program, run_program

SAMPLER = ROOT / "sampler"
PARTS = (
    "inject/remote.c", "inject/remote_unwind.c", "unwind/cfi.c", "unwind/cfi_expr.c",
    "unwind/cfi_row.c", "unwind/stack_range.c",
)  # fmt: skip


def test_an_unwinding_copies_no_tables() -> None:
    program = compile_program(
        [ROOT / "tests" / "c" / "test_remote_unwind.c", *(SAMPLER / part for part in PARTS)],
        (
            "-std=gnu11",
            "-D_GNU_SOURCE",
            "-O1",
            "-g",
            *WARNINGS,
            "-fsanitize=address",
            "-Wl,--wrap=mp_remote_read",
        ),
        name="remote-unwind",
    )

    done = run_program(program)

    assert done.returncode == 0, done.stderr + done.stdout
    assert "0 failed" in done.stdout
