"""Signals at any moment, also inside the sampler: every sample is counted, or its loss is."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import pytest

from sampler_run import Counted, build, environment, only_counted, run

MODES = ("return", "jump", "altstack", "altstack-jump", "nested", "nested-jump")
SIGNALS = {1: 1000, 3: 100}


@functools.cache
def storm(mode: str, threads: int) -> tuple[int, int, Counted]:
    """Blocks asked for outside and inside of handlers, and what was counted."""
    with tempfile.TemporaryDirectory() as folder:
        return storm_in(Path(folder), mode, threads)


def storm_in(folder: Path, mode: str, threads: int) -> tuple[int, int, Counted]:
    allocator = build(
        "signal_safe_malloc.c", "-shared", "-fPIC", "-Wno-builtin-declaration-mismatch", libs=()
    )
    env = environment(folder, rate=1, preload=[allocator])
    result = run([build("signals.c"), mode, str(threads), str(SIGNALS[threads])], env)
    assert result.returncode == 0, result.stdout + result.stderr
    plain, inside = map(int, result.stdout.split())
    return plain, inside, only_counted(folder)


# Each mode once; all of them in one thread and in three in `make soak`.
@pytest.mark.parametrize(
    ("mode", "threads"),
    [
        pytest.param(
            mode, threads, marks=[] if (threads == 1) == (k % 4 < 2) else [pytest.mark.soak]
        )
        for k, mode in enumerate(MODES)
        for threads in SIGNALS
    ],
)
def test_a_storm_of_signals_loses_no_sample_in_silence(mode: str, threads: int) -> None:
    plain, inside, counted = storm(mode, threads)
    assert inside >= SIGNALS[threads]
    handler, outside = counted.by("alloc_in_handler"), counted.by("alloc_plain")
    seen, asked = handler.blocks + outside.blocks + counted.missing, inside + plain
    # A handler that interrupts a sample finds the thread inside the sampler: counted as re-entry.
    if "jump" not in mode:
        assert seen == asked, (handler, outside, counted.lost)
    else:
        # Only the sample that a jump leaves half done may be unaccounted for.
        assert asked - inside <= seen <= asked, (handler, outside, counted.lost)
    assert counted.lost.keys() <= {"reentry"}


def test_stacks_from_handlers_reach_the_code_they_interrupted() -> None:
    _, _, counted = storm("return", 1)
    whole = [s for s in counted.stacks if "alloc_in_handler" in s.names and "work" in s.names]
    assert sum(s.counts.blocks for s in whole) >= 0.95 * counted.by("alloc_in_handler").blocks


def test_guards_left_behind_by_jumps_do_not_stop_the_sampling() -> None:
    plain, _, counted = storm("jump", 1)
    # However slow the machine is, a jump leaves at most one block unsampled, and its guard none.
    assert counted.by("alloc_plain").blocks >= plain - SIGNALS[1]
    assert counted.lost.get("reentry", 0) <= 2 * SIGNALS[1]
