"""Whatever allocator there is and wherever it stands, each block is seen once, or it says why not.

Model: redirect.cc allocates from each entry point in a function of its own (redirect_facts.py). At
rate 1 the capture must hold exactly those blocks, in whatever way the program was linked and in
whatever order allocator and sampler were loaded.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from mem_profiler.entries import plan, plan_file
from redirect_facts import (
    ALLOCATORS,
    FAMILY,
    LIBRARIES,
    LINKING,
    NEW,
    NEW_OF_LIBSTDCXX,
    PLUGIN,
    check,
    needs,
    plugin_of,
    text,
    under,
)
from sampler_run import SAMPLER, Counts, Target, build, environment, only_counted, run

READY, SHADOWED = 1, 2


def preloaded(folder: Path, libraries: Sequence[str | Path]) -> dict[str, str]:
    """Environment that captures from the start with exactly these libraries preloaded."""
    return environment(folder, rate=1) | {"LD_PRELOAD": " ".join(map(str, libraries))}


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_preloaded_allocator_is_seen_completely_and_once(
    segment_dir: Path, allocator: str, order: str
) -> None:
    library = LIBRARIES[allocator]
    libraries = [library, SAMPLER] if order == "before" else [SAMPLER, library]

    result = run([build("redirect.cc")], preloaded(segment_dir, libraries))

    assert result.returncode == 0, result.stdout + result.stderr
    counted = only_counted(segment_dir)
    check(counted, FAMILY | NEW)
    assert under(counted, "by_realloc") == (20, 10 * 114, 6)
    assert library in text(counted, "allocator")
    if allocator == "jemalloc":
        assert result.stdout == "mallocx 1 tc_malloc 0\n"
        check(counted, {"by_mallocx": 112})
        assert under(counted, "by_rallocx") == (20, 10 * 10113, 6)
    elif allocator == "tcmalloc":
        assert result.stdout == "mallocx 0 tc_malloc 1\n"
        check(counted, {"by_tc_malloc": 114})
    else:
        assert result.stdout == "mallocx 0 tc_malloc 0\n"


@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_linked_allocator_is_seen_completely_and_once(segment_dir: Path, allocator: str) -> None:
    library = f"-l:{LIBRARIES[allocator]}"
    program = build("redirect.cc", libs=(library, "-ldl"), out=f"redirect-{allocator}")

    result = run([program], environment(segment_dir, rate=1))

    assert result.returncode == 0, result.stdout + result.stderr
    check(only_counted(segment_dir), FAMILY | NEW)


@needs["jemalloc"]
@pytest.mark.parametrize("linking", LINKING)
def test_every_way_of_linking_is_redirected(segment_dir: Path, linking: str) -> None:
    program = build("redirect.cc", *LINKING[linking], out=f"redirect-{linking}")

    result = run([program], preloaded(segment_dir, [LIBRARIES["jemalloc"], SAMPLER]))

    assert result.returncode == 0, result.stdout + result.stderr
    check(only_counted(segment_dir), FAMILY | NEW)


@pytest.mark.parametrize("linking", LINKING)
def test_every_way_of_linking_is_seen_on_the_c_library(segment_dir: Path, linking: str) -> None:
    program = build("redirect.cc", *LINKING[linking], out=f"redirect-{linking}")

    result = run([program], environment(segment_dir, rate=1))

    assert result.stdout == "mallocx 0 tc_malloc 0\n", result.stderr
    check(only_counted(segment_dir), FAMILY | NEW_OF_LIBSTDCXX)


@needs["jemalloc"]
@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("linking", ["full-relro", "lazy", "no-plt"])
def test_library_opened_later_is_redirected_too(
    segment_dir: Path, linking: str, order: str
) -> None:
    library = LIBRARIES["jemalloc"]
    libraries = [library, SAMPLER] if order == "before" else [SAMPLER, library]

    result = run([build("redirect.cc"), plugin_of(linking)], preloaded(segment_dir, libraries))

    assert result.returncode == 0, result.stdout + result.stderr
    check(only_counted(segment_dir), FAMILY | NEW | PLUGIN)


@needs["jemalloc"]
@pytest.mark.parametrize("order", ["before", "after"])
def test_library_opened_with_deepbind_goes_on_working(segment_dir: Path, order: str) -> None:
    library = LIBRARIES["jemalloc"]
    libraries = [library, SAMPLER] if order == "before" else [SAMPLER, library]

    result = run(
        [build("redirect.cc"), plugin_of("full-relro"), "deepbind"],
        preloaded(segment_dir, libraries),
    )

    assert result.returncode == 0, result.stdout + result.stderr
    check(only_counted(segment_dir), FAMILY | NEW)


@needs["jemalloc"]
@pytest.mark.parametrize("linking", ["full-relro", "lazy", "no-relro"])
def test_threads_that_open_and_close_libraries_go_on_working(
    segment_dir: Path, linking: str
) -> None:
    env = preloaded(segment_dir, [LIBRARIES["jemalloc"], SAMPLER]) | {"MEM_PROFILER_START": "4096"}

    result = run([build("redirect_threads.c"), plugin_of(linking)], env)

    assert (result.returncode, result.stdout) == (0, "joined\n"), result.stderr


def test_allocator_without_operators_is_redirected(segment_dir: Path) -> None:
    """A bump allocator before us forwards nothing, and new and delete are libstdc++'s."""
    tool = build("own_malloc.c", "-shared", "-fPIC", "-Dmain=unused_main", out="own_malloc.so")

    result = run([build("redirect.cc")], preloaded(segment_dir, [tool, SAMPLER]))

    assert result.returncode == 0, result.stdout + result.stderr
    check(only_counted(segment_dir), FAMILY | NEW_OF_LIBSTDCXX)


@pytest.mark.parametrize("order", ["before", "after"])
def test_tool_that_forwards_is_seen_once(segment_dir: Path, order: str) -> None:
    tool = build("chain.c", "-shared", "-fPIC", out="chain.so")
    libraries = [tool, SAMPLER] if order == "before" else [SAMPLER, tool]

    result = run([build("redirect.cc")], preloaded(segment_dir, libraries))

    assert result.returncode == 0, result.stdout + result.stderr
    check(only_counted(segment_dir), FAMILY | NEW_OF_LIBSTDCXX)


def test_tool_that_forwards_only_some_blocks_is_named(segment_dir: Path) -> None:
    tool = build("chain.c", "-shared", "-fPIC", "-DTAKES_LARGE", out="chain-large.so")
    env = environment(segment_dir) | {"LD_PRELOAD": f"{tool} {SAMPLER}"}
    with Target([build("blocks.c")], env) as target:
        target.line()
        counted = target.counted()
        assert counted.control["state"] == SHADOWED
        assert text(counted, "state_text") == str(tool)


def test_malloc_inside_the_program_is_named(segment_dir: Path) -> None:
    program = build("own_malloc.c", "-rdynamic")
    with Target([program], environment(segment_dir)) as target:
        assert target.line() == "ready"
        counted = target.counted()
        assert counted.control["state"] == SHADOWED
        assert text(counted, "state_text") == str(program)


def static_jemalloc(*flags: str) -> Path:
    """A program with jemalloc linked into it."""
    libs = ("-Wl,-Bstatic", "-ljemalloc", "-lstdc++", "-Wl,-Bdynamic", "-lm", "-lpthread", "-ldl")
    return build("blocks.c", *flags, libs=libs, out=f"static_jemalloc{len(flags)}")


@pytest.mark.parametrize("flags", [("-rdynamic",), ()])
def test_malloc_inside_the_program_is_seen_by_a_plan(
    segment_dir: Path, flags: tuple[str, ...]
) -> None:
    """`run` decodes the functions beforehand; the sampler follows them from the first call on."""
    program = static_jemalloc(*flags)
    made = plan.of_program(program, 0)
    assert made is not None
    fd = plan_file.sealed(made.data)
    env = environment(segment_dir, rate=1, plan=f"fd:{fd}")
    with Target([program], env, pass_fds=[fd]) as target:
        os.close(fd)
        assert target.line() == "ready"
        assert target.ask("alloc 1000 100") == "done"
        assert target.ask("churn 500 100") == "done"
        counted = target.counted()
        assert counted.control["state"] == READY
        assert counted.by("alloc_kept") == Counts(1000, 100000, 1000, 100000)
        assert counted.by("alloc_churned") == Counts(500, 50000, 0, 0)


@pytest.mark.parametrize("damage", ["cut", "other", "nothing"])
def test_a_plan_that_does_not_fit_changes_nothing(segment_dir: Path, damage: str) -> None:
    program = static_jemalloc("-rdynamic")
    made = plan.of_program(program, 0)
    assert made is not None
    data = {"cut": made.data[:-1], "other": bytes(len(made.data)), "nothing": b""}[damage]
    fd = plan_file.sealed(data)
    env = environment(segment_dir, plan=f"fd:{fd}")
    with Target([program], env, pass_fds=[fd]) as target:
        os.close(fd)
        assert target.line() == "ready"
        assert target.counted().control["state"] == SHADOWED
