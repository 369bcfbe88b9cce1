"""After a detach, address space stays only where a hook may still run."""

from __future__ import annotations

from pathlib import Path

import pytest

from attach_run import Unprepared, begin, end_storm, storm
from mem_profiler import attach as attaching
from mem_profiler.capture import gate
from mem_profiler.process import procfs
from sampler_run import Controller, Target, build

PLACE_BYTES = 256 << 20
STILL_INSIDE = "a thread may still be inside the sampler"


def spaces(target: Target) -> list[int]:
    """Sizes of the mappings without a file that a place of segments could be."""
    return [
        m.end - m.start
        for m in procfs.maps(target.pid)
        if not m.path and PLACE_BYTES - (1 << 20) <= m.end - m.start <= PLACE_BYTES
    ]


def test_the_place_of_the_segment_is_given_back_by_a_detach(segment_dir: Path) -> None:
    with Unprepared([build("stepper.c")], segment_dir) as target:
        assert target.line() == "ok"
        for _ in range(2):
            before = len(procfs.maps(target.pid))
            begin(target.pid)
            with Controller(target) as controller:
                number = controller.start(1)
                assert target.ask("a 100 40") == "ok"
                assert controller.stop(number).total().blocks >= 100
                gate.mark_written(controller.segment, number)
            answer = attaching.detach(target.pid)
            assert answer.text == ""
            assert spaces(target) == []
        assert len(procfs.maps(target.pid)) <= before + 2
        assert target.ask("a 100 40") == "ok"
        target.finish()


@pytest.mark.parametrize("kind", ["malloc", "threads"])
def test_the_place_is_given_back_while_threads_allocate(segment_dir: Path, kind: str) -> None:
    kept: list[bool] = []
    with storm(kind, segment_dir) as target:
        # On a busy machine a thread may wait in a hook for its turn.
        while len(kept) < 2 or (all(kept) and len(kept) < 8):
            begin(target.pid)
            with Controller(target) as controller:
                controller.start(16)
                gate.mark_written(controller.segment, controller.start(16))
            text = attaching.detach(target.pid).text
            assert text == "" or STILL_INSIDE in text
            kept.append(bool(text))
            assert len(spaces(target)) == kept[-1]
        end_storm(target)
    assert not all(kept)
