"""Parts of the sampler's start-up that need no process of their own, as C programs."""

from __future__ import annotations

import pytest

from c_build import ROOT, compile_program, run_program

PROCESS = ROOT / "sampler" / "process"
CGROUP = [ROOT / "tests" / "c" / "test_cgroup.c", PROCESS / "cgroup.c"]
SANITIZERS = {
    "plain": (),
    "asan-ubsan": ("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
}


@pytest.mark.parametrize("variant", SANITIZERS)
def test_the_limit_of_memory_is_found_in_every_hierarchy(variant: str) -> None:
    program = compile_program(
        CGROUP,
        (
            *("-std=gnu11", "-D_GNU_SOURCE", "-O1", "-g", "-Wall", "-Wextra", "-Werror"),
            *SANITIZERS[variant],
        ),
        name=f"cgroup-{variant}",
    )
    result = run_program(program)
    assert result.returncode == 0, result.stderr
    assert "0 failed" in result.stdout
