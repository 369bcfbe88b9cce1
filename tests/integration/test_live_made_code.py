"""Code that a program makes as it runs has its names in a watched process too."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from javascript import JAVASCRIPT, OPTIONS
from mem_parser.live.naming import Naming
from mem_profiler.capture.session import Rates
from mem_profiler.live import jit_watch
from mem_profiler.live.watched import Watched
from sampler_run import WAIT_S, Target, environment
from watching import OFTEN


@pytest.fixture
def node(segment_dir: Path, tmp_path: Path) -> Iterator[Target]:
    """A program of JavaScript whose runtime lists its code."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("node is not installed")
    script = tmp_path / "serving.js"
    script.write_text(JAVASCRIPT)
    words = [found, *OPTIONS, str(script)]
    with Target(words, environment(segment_dir), cwd=tmp_path) as running:
        assert running.line() == "ready"
        yield running
    Path(f"/tmp/perf-{running.pid}.map").unlink(missing_ok=True)


def names(watched: Watched, naming: Naming) -> set[str]:
    watched.tick()
    moment = watched.moment()
    assert moment is not None
    return {one.name for one in naming.names(moment.profiles[0]).functions}


def test_names_come_with_the_code_and_not_anew_for_each_moment(
    node: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jit_watch, "EVERY_S", 0.05)
    watched, naming = Watched(node.pid, Rates(1), OFTEN), Naming()
    assert node.ask("go") == "ok"
    give_up = time.monotonic() + WAIT_S
    while not {"makeBuffer", "handleRequest"} <= names(watched, naming):
        assert time.monotonic() < give_up
    assert "laterOne" not in names(watched, naming)
    assert node.ask("later") == "ok"
    while "laterOne" not in names(watched, naming):
        assert time.monotonic() < give_up
    monkeypatch.setattr(jit_watch, "EVERY_S", 1000.0)
    first, second = watched.moment(), watched.moment()
    assert first is not None
    assert second is not None
    assert first.profiles[0].embedded is second.profiles[0].embedded is not None
    watched.close()


@pytest.mark.parametrize(
    "told",
    [
        None,
        7,
        [None],
        [[1]],
        [["a", "b"]],
        [[-1, "x"]],
        [[2, "x"]],
        [[0, 5]],
        [[0, "x", 1]],
        {"a": 1},
    ],
)
def test_an_answer_that_makes_no_sense_names_nothing(told: object) -> None:
    addresses = np.array([0x9000, 0x9008], dtype=np.uint64)
    assert jit_watch._checked(told, addresses) == {}
    assert jit_watch._checked([[1, "serve"]], addresses)[0x9008].name == "serve"
