"""Whatever allocator there is and wherever it stands, each block is seen once, or it says why not.

Model: redirect.cc allocates from each entry point in a function of its own (redirect_facts.py). At
rate 1 the capture must hold exactly those blocks, in whatever way the program was linked and in
whatever order allocator and sampler were loaded.
"""

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
    check_own,
    needs,
    plugin_of,
    text,
    under,
)
from sampler_run import (
    SAMPLER,
    Counted,
    Counts,
    Target,
    build,
    environment,
    only_counted,
    run,
    run_ok,
)

READY, SHADOWED = 1, 2


def seen(folder: Path, *argv: str | Path, preload: Sequence[str | Path] = (SAMPLER,)) -> Counted:
    """What a program has allocated, with exactly these libraries preloaded."""
    env = environment(folder, rate=1) | {"LD_PRELOAD": " ".join(map(str, preload))}
    run_ok(argv, env)
    return only_counted(folder)


def in_order(library: str | Path, order: str) -> list[str | Path]:
    return [library, SAMPLER] if order == "before" else [SAMPLER, library]


in_each_order = pytest.mark.parametrize("order", ["before", "after"])


@in_each_order
@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_preloaded_allocator_is_seen_completely_and_once(
    segment_dir: Path, allocator: str, order: str
) -> None:
    library = LIBRARIES[allocator]
    counted = seen(segment_dir, build("redirect.cc"), preload=in_order(library, order))

    check(counted, FAMILY | NEW)
    check_own(counted, allocator)
    assert under(counted, "by_realloc") == (20, 10 * 114, 6)
    assert library in text(counted, "allocator")


@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_linked_allocator_is_seen_completely_and_once(segment_dir: Path, allocator: str) -> None:
    library = f"-l:{LIBRARIES[allocator]}"
    program = build("redirect.cc", libs=(library, "-ldl"), out=f"redirect-{allocator}")

    counted = seen(segment_dir, program)
    check(counted, FAMILY | NEW)
    check_own(counted, allocator)


@pytest.mark.parametrize("from_malloc", [False, True])
def test_a_mimalloc_beside_the_malloc_of_the_c_library_is_seen_once(
    segment_dir: Path, from_malloc: bool
) -> None:
    flags = ("-DFROM_MALLOC",) if from_malloc else ()
    out = f"beside{len(flags)}"
    library = build("mimalloc_beside.c", "-shared", "-fPIC", *flags, out=f"libmi-{out}.so")
    needed = ("-Wl,--no-as-needed", str(library), "-Wl,--as-needed", "-ldl")
    program = build("redirect.cc", libs=needed, out=f"redirect-{out}")
    own = {"by_mi_malloc": 115, "by_mi_calloc": 116}
    check(seen(segment_dir, program), FAMILY | NEW_OF_LIBSTDCXX | own)


@pytest.mark.parametrize(
    ("before", "sizes"),
    [
        pytest.param([LIBRARIES["jemalloc"]], FAMILY | NEW, marks=needs["jemalloc"], id="jemalloc"),
        pytest.param([], FAMILY | NEW_OF_LIBSTDCXX, id="the C library"),
    ],
)
@pytest.mark.parametrize("linking", LINKING)
def test_every_way_of_linking_is_redirected(
    segment_dir: Path, linking: str, before: list[str], sizes: dict[str, int]
) -> None:
    program = build("redirect.cc", *LINKING[linking], out=f"redirect-{linking}")

    check(seen(segment_dir, program, preload=[*before, SAMPLER]), sizes)


@needs["jemalloc"]
@in_each_order
@pytest.mark.parametrize(
    ("linking", "how"),
    [("full-relro", ""), ("lazy", ""), ("no-plt", ""), ("full-relro", "deepbind")],
)
def test_library_opened_later_is_redirected_too(
    segment_dir: Path, linking: str, how: str, order: str
) -> None:
    """One that is opened with deepbind goes on working."""
    words = [build("redirect.cc"), plugin_of(linking), *how.split()]
    counted = seen(segment_dir, *words, preload=in_order(LIBRARIES["jemalloc"], order))

    check(counted, FAMILY | NEW | ({} if how else PLUGIN))


@needs["jemalloc"]
@pytest.mark.parametrize("linking", ["full-relro", "lazy", "no-relro"])
def test_threads_that_open_and_close_libraries_go_on_working(
    segment_dir: Path, linking: str
) -> None:
    libraries = " ".join(map(str, in_order(LIBRARIES["jemalloc"], "before")))
    env = environment(segment_dir, rate=4096) | {"LD_PRELOAD": libraries}

    result = run([build("redirect_threads.c"), plugin_of(linking)], env)

    assert (result.returncode, result.stdout) == (0, "joined\n"), result.stderr


@pytest.mark.parametrize(
    ("tool", "flags", "order"),
    [
        ("own_malloc.c", ("-Dmain=unused_main",), "before"),
        ("chain.c", (), "before"),
        ("chain.c", (), "after"),
    ],
)
def test_tools_that_forward_or_have_no_operators_are_seen_once(
    segment_dir: Path, tool: str, flags: tuple[str, ...], order: str
) -> None:
    """A bump allocator before us forwards nothing, and new and delete are libstdc++'s."""
    library = build(tool, "-shared", "-fPIC", *flags, out=f"{tool[:-2]}.so")

    counted = seen(segment_dir, build("redirect.cc"), preload=in_order(library, order))

    check(counted, FAMILY | NEW_OF_LIBSTDCXX)


def test_tool_that_forwards_only_some_blocks_is_named(segment_dir: Path) -> None:
    tool = build("chain.c", "-shared", "-fPIC", "-DTAKES_LARGE", out="chain-large.so")
    env = environment(segment_dir) | {"LD_PRELOAD": f"{tool} {SAMPLER}"}
    with Target.started([build("blocks.c")], env) as target:
        counted = target.counted()
        assert counted.control["state"] == SHADOWED
        assert text(counted, "state_text") == str(tool)


def test_malloc_inside_the_program_is_named(segment_dir: Path) -> None:
    program = build("own_malloc.c", "-rdynamic")
    with Target.started([program], environment(segment_dir)) as target:
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
