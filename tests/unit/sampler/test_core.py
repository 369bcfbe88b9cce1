"""The sampler's core, and two parts beside it, as C programs of their own under sanitizers."""

from __future__ import annotations

import pytest

from c_build import ASAN, TSAN, core_program, expect_pass

BUILDS = {"asan": ASAN, "tsan": TSAN}
# Programs that are built once have one thread, or threads that share nothing.
PROGRAMS = {
    "test_core": "asan tsan",
    "test_births": "asan",
    "test_draws": "asan",
    "test_scratch": "asan tsan",
    "test_pymem": "asan tsan",
    "test_peak": "asan tsan",
    "test_modtab": "asan tsan",
    "test_events": "asan tsan",
    "test_code_lifetime": "asan tsan",
    "test_python_records": "asan tsan",
    "test_python_walk": "asan",
    "test_thread_labels": "asan",
    "test_own_layout": "asan",
    "test_cgroup": "asan",
}
BESIDE = {"test_pymem": "pymem/pymem_hooks.c", "test_cgroup": "process/cgroup.c"}


@pytest.mark.parametrize(
    ("source", "build"), [(s, build) for s, builds in PROGRAMS.items() for build in builds.split()]
)
def test_the_core_holds_under(source: str, build: str) -> None:
    expect_pass(core_program(f"{source}.c", BUILDS[build], beside=BESIDE.get(source, "")))
