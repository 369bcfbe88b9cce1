"""Programs that have little stack: what a hook needs of it is bounded, and measured here."""

from __future__ import annotations

from pathlib import Path

import pytest

from sampler_run import build, environment, only_counted, run

# The bound below a hook's frame, with room for that frame and for the one that calls it.
BOUND_BYTES = 1536 + 128
HOOKS = 7
# The loader's way to a function that is bound at its first call needs more stack than the hooks do.
NOW = "-Wl,-z,now"


def target() -> Path:
    return build("narrow_stacks.c", NOW)


def narrow(folder: Path, mode: str, count: int, **settings: str) -> str:
    """What the target prints, every block being sampled, with an allocator that needs no stack."""
    allocator = build(
        "signal_safe_malloc.c",
        "-shared",
        "-fPIC",
        NOW,
        "-Wno-builtin-declaration-mismatch",
        libs=(),
    )
    env = environment(folder, rate=1, preload=[allocator], **settings)
    result = run([target(), mode, str(count)], env)
    assert result.returncode == 0, (result.returncode, result.stdout, result.stderr)
    return result.stdout


@pytest.mark.parametrize("unwinder", ["cfi", "fp"])
def test_no_hook_writes_more_than_its_bound_below_its_caller(
    segment_dir: Path, unwinder: str
) -> None:
    lines = narrow(segment_dir, "measure", 800, unwind=unwinder).splitlines()[:-1]
    most = {(stack, hook): int(n) for stack, hook, n in map(str.split, lines)}
    assert len(most) == 3 * HOOKS
    assert {key: n for key, n in most.items() if n > BOUND_BYTES} == {}
    assert max(most.values()) > BOUND_BYTES / 4  # the paint does show what was written
    assert only_counted(segment_dir).missing == 0


@pytest.mark.parametrize("mode", ["handler", "threads", "coroutines"])
def test_programs_with_little_stack_run_as_they_do_alone(segment_dir: Path, mode: str) -> None:
    assert narrow(segment_dir, mode, 500) == "done\n"
    counted = only_counted(segment_dir)
    assert counted.missing == 0
    assert counted.under("use").blocks >= 500 * 5


@pytest.mark.parametrize("mode", ["edge", "edge-coroutine"])
def test_a_sample_is_skipped_and_counted_where_the_stack_is_nearly_full(
    segment_dir: Path, mode: str
) -> None:
    assert narrow(segment_dir, mode, 100) == "done\n"
    counted = only_counted(segment_dir)
    assert counted.by("alloc_at_edge").blocks == 0
    assert counted.by("alloc_above_edge").blocks == 1
    assert counted.lost["stack_room"] == 100
    assert counted.missing == 100
