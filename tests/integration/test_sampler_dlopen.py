"""Libraries that come and go: every stack has its right names, and private C++ works."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sampler_run import Counts, Target, build, environment, only_counted, run

NAMES = "abcd"


def plugins() -> dict[str, Path]:
    """Libraries alike in everything but their names and the sizes of their blocks."""
    return {
        name: build(
            "plugin.c", "-shared", "-fPIC", f"-DNAME={name}", f"-DSIZE={1000 + i}",
            out=f"plugin_{name}",
        )
        for i, name in enumerate(NAMES)
    }  # fmt: skip


@pytest.mark.parametrize("rounds", [1, 50])
def test_libraries_at_one_address_are_never_taken_for_each_other(
    segment_dir: Path, rounds: int
) -> None:
    paths = plugins()
    result = run(
        [build("dlloop.c"), "loop", str(rounds), *paths.values()], environment(segment_dir, rate=1)
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert int(result.stdout) < len(paths), "the loader gave each library an address of its own"
    counted = only_counted(segment_dir)
    for i, name in enumerate(NAMES):
        size = 1000 + i
        inner = [s for s in counted.stacks if f"inner_{name}" in s.names]
        assert sum(s.counts.blocks for s in inner) == rounds
        assert {s.counts.bytes // s.counts.blocks for s in inner} == {size}
        for stack in inner:
            assert "plugin_block" in stack.names and "main" in stack.names, stack.names
    assert counted.control.number("generation") >= rounds * len(paths)


def test_threads_that_open_and_close_beside_threads_that_allocate_do_not_deadlock(
    segment_dir: Path,
) -> None:
    result = run(
        [build("dlloop.c"), "hunt", "400", *plugins().values()], environment(segment_dir, rate=1)
    )
    assert (result.returncode, result.stdout) == (0, "survived\n"), result.stderr
    counted = only_counted(segment_dir)
    assert counted.missing == 0, counted.lost
    named = 0
    for i, name in enumerate(NAMES):
        inner = [s for s in counted.stacks if s.names[1:2] == [f"inner_{name}"]]
        assert {s.counts.bytes // s.counts.blocks for s in inner} <= {1000 + i}
        assert sum(s.counts.blocks for s in inner) <= 200
        named += sum(s.counts.blocks for s in inner)
    # A thread that holds the lock of a table's growth may be off its core: others then go without.
    nameless = counted.rows.lost_stacks().values()
    assert named + sum(nameless) + counted.lost.get("module_full", 0) >= 800, counted.lost
    assert counted.by("allocate_on").live_blocks == 0


SCRIPT = """
import ctypes, sys
extension = ctypes.CDLL(sys.argv[1], mode=int(sys.argv[2]))
assert extension.extension_fill(300) == 300
assert extension.extension_throw(200) == 200
print("filled", flush=True)
sys.stdin.readline()
extension.extension_clear()
print("cleared", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("mode", [0, 0x8], ids=["RTLD_LOCAL", "RTLD_DEEPBIND"])
def test_a_cpython_whose_cxx_extension_is_private(segment_dir: Path, mode: int) -> None:
    extension = build("extension.cc", "-shared", "-fPIC")
    env = environment(segment_dir, rate=1) | {"PYTHONMALLOC": "malloc"}
    with Target([sys.executable, "-c", SCRIPT, extension, str(mode)], env) as target:
        assert target.line() == "filled"
        counted = target.counted()
        filled = counted.under("extension_fill")
        if mode == 0:
            assert filled.live_blocks >= 301
            assert filled.live_bytes >= 300 * 501
            assert counted.under("extension_throw").blocks >= 400
        assert target.ask("go") == "cleared"
        assert target.counted().under("extension_fill").live_bytes == 0
        target.tell("end")
        target.finish()


def test_a_program_that_asks_for_jemalloc_on_glibc_does_not_find_it(segment_dir: Path) -> None:
    result = run([build("weak_jemalloc.c")], environment(segment_dir, rate=1))
    assert (result.returncode, result.stdout) == (0, "none\n"), result.stdout


def test_blocks_of_a_library_that_was_closed_are_still_in_use(segment_dir: Path) -> None:
    paths = plugins()
    run([build("dlloop.c"), "loop", "3", paths["a"]], environment(segment_dir, rate=1))
    assert only_counted(segment_dir).by("inner_a") == Counts(3, 3000, 3, 3000)
