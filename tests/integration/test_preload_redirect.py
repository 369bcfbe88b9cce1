"""Whatever allocator there is and wherever it stands, each block is seen once, or it says why not.

Model: redirect.cc allocates from each entry point in a function of its own: 10 blocks of a size
that belongs to that function, 4 of them freed. At rate 1 the capture must hold exactly those, in
whatever way the program was linked and in whatever order allocator and sampler were loaded.
"""

from __future__ import annotations

import ctypes.util
from collections.abc import Sequence
from pathlib import Path

import pytest

from sampler_run import (
    SAMPLER,
    Counted,
    Target,
    build,
    environment,
    only_counted,
    run,
)

FAMILY = {
    "by_malloc": 101,
    "by_calloc": 102,
    "by_posix_memalign": 104,
    "by_pointer": 105,
    "by_table": 111,
}
NEW = {
    "by_new": 106,
    "by_new_array": 107,
    "by_new_nothrow": 108,
    "by_new_aligned": 109,
    "by_new_sized": 110,
}
# libstdc++ rounds the size up to the alignment before it asks the C library.
NEW_OF_LIBSTDCXX = NEW | {"by_new_aligned": 128}
PLUGIN = {"plugin_by_malloc": 201, "plugin_by_new": 202}
LIBRARIES = {"jemalloc": "libjemalloc.so.2", "tcmalloc": "libtcmalloc_minimal.so.4"}
SHADOWED = 2

needs = {
    name: pytest.mark.skipif(ctypes.util.find_library(short) is None, reason=f"no {name}")
    for name, short in (("jemalloc", "jemalloc"), ("tcmalloc", "tcmalloc_minimal"))
}
ALLOCATORS = [pytest.param(name, marks=needs[name]) for name in LIBRARIES]


def preloaded(folder: Path, libraries: Sequence[str | Path]) -> dict[str, str]:
    """Environment that captures from the start with exactly these libraries preloaded."""
    return environment(folder, rate=1) | {"LD_PRELOAD": " ".join(map(str, libraries))}


def under(counted: Counted, function: str) -> tuple[int, int, int]:
    """Blocks, bytes and blocks in use below one function."""
    counts = counted.under(function)
    return counts.blocks, counts.bytes, counts.live_blocks


def text(counted: Counted, field: str) -> str:
    """A text field of the control page."""
    return bytes(counted.control[field]).split(b"\0")[0].decode()


def check(counted: Counted, sizes: dict[str, int]) -> None:
    """Each function has its 10 blocks, 6 in use."""
    assert counted.missing == 0
    found = {name: under(counted, name) for name in sizes}
    assert found == {name: (10, 10 * size, 6) for name, size in sizes.items()}


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_preloaded_allocator_is_seen_completely_and_once(
    folder: Path, allocator: str, order: str
) -> None:
    library = LIBRARIES[allocator]
    libraries = [library, SAMPLER] if order == "before" else [SAMPLER, library]

    result = run([build("redirect.cc")], preloaded(folder, libraries))

    assert result.returncode == 0, result.stdout + result.stderr
    counted = only_counted(folder)
    check(counted, FAMILY | NEW)
    assert under(counted, "by_realloc") == (20, 10 * 114, 6)
    assert library in text(counted, "allocator")
    if allocator == "jemalloc":
        assert result.stdout == "mallocx 1 tc_malloc 0\n"
        check(counted, {"by_mallocx": 112})
        assert under(counted, "by_rallocx") == (20, 10 * 10113, 6)
    else:
        assert result.stdout == "mallocx 0 tc_malloc 1\n"
        check(counted, {"by_tc_malloc": 114})


@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_linked_allocator_is_seen_completely_and_once(folder: Path, allocator: str) -> None:
    library = f"-l:{LIBRARIES[allocator]}"
    program = build("redirect.cc", libs=(library, "-ldl"), out=f"redirect-{allocator}")

    result = run([program], environment(folder, rate=1))

    assert result.returncode == 0, result.stdout + result.stderr
    check(only_counted(folder), FAMILY | NEW)


LINKING = {
    "full-relro": ("-Wl,-z,relro,-z,now",),
    "lazy": ("-Wl,-z,relro,-z,lazy",),
    "no-relro": ("-Wl,-z,norelro,-z,lazy",),
    "no-plt": ("-fno-plt",),
    "no-pie": ("-no-pie", "-fno-pie"),
    "no-pie-lazy": ("-no-pie", "-fno-pie", "-Wl,-z,lazy"),
}


@needs["jemalloc"]
@pytest.mark.parametrize("linking", LINKING)
def test_every_way_of_linking_is_redirected(folder: Path, linking: str) -> None:
    program = build("redirect.cc", *LINKING[linking], out=f"redirect-{linking}")

    result = run([program], preloaded(folder, [LIBRARIES["jemalloc"], SAMPLER]))

    assert result.returncode == 0, result.stdout + result.stderr
    check(only_counted(folder), FAMILY | NEW)


@pytest.mark.parametrize("linking", LINKING)
def test_every_way_of_linking_is_seen_on_the_c_library(folder: Path, linking: str) -> None:
    program = build("redirect.cc", *LINKING[linking], out=f"redirect-{linking}")

    result = run([program], environment(folder, rate=1))

    assert result.stdout == "mallocx 0 tc_malloc 0\n", result.stderr
    check(only_counted(folder), FAMILY | NEW_OF_LIBSTDCXX)


def plugin_of(linking: str) -> Path:
    """The plugin, linked one way."""
    flags = ("-shared", "-fPIC", *LINKING[linking])
    return build("redirect_plugin.cc", *flags, out=f"redirect_plugin-{linking}.so")


@needs["jemalloc"]
@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("linking", ["full-relro", "lazy", "no-plt"])
def test_library_opened_later_is_redirected_too(folder: Path, linking: str, order: str) -> None:
    library = LIBRARIES["jemalloc"]
    libraries = [library, SAMPLER] if order == "before" else [SAMPLER, library]

    result = run([build("redirect.cc"), plugin_of(linking)], preloaded(folder, libraries))

    assert result.returncode == 0, result.stdout + result.stderr
    check(only_counted(folder), FAMILY | NEW | PLUGIN)


@needs["jemalloc"]
@pytest.mark.parametrize("order", ["before", "after"])
def test_library_opened_with_deepbind_goes_on_working(folder: Path, order: str) -> None:
    library = LIBRARIES["jemalloc"]
    libraries = [library, SAMPLER] if order == "before" else [SAMPLER, library]

    result = run(
        [build("redirect.cc"), plugin_of("full-relro"), "deepbind"], preloaded(folder, libraries)
    )

    assert result.returncode == 0, result.stdout + result.stderr
    check(only_counted(folder), FAMILY | NEW)


@needs["jemalloc"]
@pytest.mark.parametrize("linking", ["full-relro", "lazy", "no-relro"])
def test_threads_that_open_and_close_libraries_go_on_working(folder: Path, linking: str) -> None:
    env = preloaded(folder, [LIBRARIES["jemalloc"], SAMPLER]) | {"MEM_PROFILER_START": "4096"}

    result = run([build("redirect_threads.c"), plugin_of(linking)], env)

    assert (result.returncode, result.stdout) == (0, "joined\n"), result.stderr


def test_allocator_without_operators_is_redirected(folder: Path) -> None:
    """A bump allocator before us forwards nothing, and new and delete are libstdc++'s."""
    tool = build("own_malloc.c", "-shared", "-fPIC", "-Dmain=unused_main", out="own_malloc.so")

    result = run([build("redirect.cc")], preloaded(folder, [tool, SAMPLER]))

    assert result.returncode == 0, result.stdout + result.stderr
    check(only_counted(folder), FAMILY | NEW_OF_LIBSTDCXX)


@pytest.mark.parametrize("order", ["before", "after"])
def test_tool_that_forwards_is_seen_once(folder: Path, order: str) -> None:
    tool = build("chain.c", "-shared", "-fPIC", out="chain.so")
    libraries = [tool, SAMPLER] if order == "before" else [SAMPLER, tool]

    result = run([build("redirect.cc")], preloaded(folder, libraries))

    assert result.returncode == 0, result.stdout + result.stderr
    check(only_counted(folder), FAMILY | NEW_OF_LIBSTDCXX)


def test_tool_that_forwards_only_some_blocks_is_named(folder: Path) -> None:
    tool = build("chain.c", "-shared", "-fPIC", "-DTAKES_LARGE", out="chain-large.so")
    env = environment(folder) | {"LD_PRELOAD": f"{tool} {SAMPLER}"}
    with Target([build("blocks.c")], env) as target:
        target.line()
        counted = target.counted()
        assert counted.control["state"] == SHADOWED
        assert text(counted, "state_text") == str(tool)


def test_malloc_inside_the_program_is_named(folder: Path) -> None:
    program = build("own_malloc.c", "-rdynamic")
    with Target([program], environment(folder)) as target:
        assert target.line() == "ready"
        counted = target.counted()
        assert counted.control["state"] == SHADOWED
        assert text(counted, "state_text") == str(program)
