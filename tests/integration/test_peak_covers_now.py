"""A peak is never below what is in use: from the sampler's words to what every report prints."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Self

import pytest

from controller_tools import run_command
from mem_parser.heapfile.writer import write_heap
from mem_parser.model import Count, Profile, Unit
from mem_parser.readers import read_profile
from mem_profiler.capture.recorder import Pace, Recorder
from mem_profiler.profile.build import Ending, build
from mem_profiler.profile.target import Target as Facts
from parser_run import parse
from sampler_run import Controller, Target, environment
from sampler_run import build as compiled

pytestmark = [pytest.mark.usefixtures("sampler"), pytest.mark.timeout(120)]
NOISY = 1000
RATES = (1, NOISY, 65536)


def check(profile: Profile) -> None:
    """The peak is no less than what is in use, in the sums and in every reading."""
    capture = profile.capture
    in_use, top = (profile.total(c, Unit.SPACE).value for c in (Count.INUSE, Count.PEAK))
    assert capture.peak_bytes is not None
    assert in_use <= top <= capture.peak_bytes
    # Readings are rounded to a tenth of a byte.
    assert max((r.estimate_bytes for r in profile.series), default=0.0) <= capture.peak_bytes + 0.1


class Looks:
    """Profiles of a running capture, as live views, snapshots and files have them."""

    def __init__(self, target: Target, rate: int, folder: Path) -> None:
        self.path = folder / "look.heap"
        self.facts = Facts.of(target.pid)
        self.controller = Controller(target)
        self.segment = self.controller.segment
        self.controller.start(rate)
        self.recorder = Recorder(self.segment, target.pid, Pace(tick_s=0.0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.segment.close()

    def check(self, *, file: bool = False) -> None:
        """Take a reading and a snapshot, and check both."""
        self.recorder.tick(time.monotonic_ns())
        ending = Ending("snapshot", "running", time.monotonic_ns())
        for profile in build(self.segment, self.facts, ending, self.recorder.readings):
            check(profile)
            if file:
                self.path.write_bytes(write_heap(profile))
                check(read_profile(self.path))


def walk(order: random.Random) -> str:
    """One random order of the stepper: sizes of one class and of many, few blocks or many."""
    size = order.choice([16, 100, 4000, 4090, 1 << 20, (1 << 20) + (1 << 14) - 8])
    count = order.choice([1, 1, 2, 30]) if size < 1 << 20 else 1
    return order.choice([f"a {count} {size}", f"d {count}", f"c {count} {size}"])


@pytest.mark.parametrize("rate", RATES)
def test_whatever_a_program_allocates_and_frees(
    rate: int, segment_dir: Path, tmp_path: Path
) -> None:
    order = random.Random(rate)
    with Target([compiled("stepper.c")], environment(segment_dir)) as target:
        assert target.line() == "ok"
        with Looks(target, rate, tmp_path) as looks:
            for step in range(60):
                assert target.ask(walk(order)) == "ok"
                looks.check(file=step % 20 == 0)


def test_while_threads_allocate_and_free_without_pause(segment_dir: Path, tmp_path: Path) -> None:
    with Target([compiled("storm.c"), "malloc"], environment(segment_dir)) as target:
        assert target.line() == "ready"
        with Looks(target, NOISY, tmp_path) as looks:
            for _ in range(20):
                looks.check()


def test_when_it_is_killed_in_the_midst(segment_dir: Path, tmp_path: Path) -> None:
    environ = environment(segment_dir, rate=NOISY)
    with Target([compiled("storm.c"), "malloc"], environ) as target:
        assert target.line() == "ready"
        target.kill()
    done = run_command("recover", target.pid, "-o", tmp_path / "p")
    assert done.returncode == 0, done.stderr
    [path] = tmp_path.glob("*.heap")
    check(read_profile(path))
    told = json.loads(parse("stats", path, "--json").stdout)
    totals = {row["name"]: row["bytes"] for row in told["totals"]}
    assert totals["in use"] <= totals["peak"] <= told["peak_bytes"] + 0.1
