"""When a picture is taken for the screen: never for more than half of the time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from live_views import Here, Scripted, plan, profile
from mem_cli.live.following import Follower
from mem_cli.watching import watcher


@pytest.mark.parametrize(("cost_s", "pause_s"), [(0.01, 0.15), (3.0, 6.0)])
def test_a_refresh_that_takes_long_makes_the_next_one_later(
    monkeypatch: pytest.MonkeyPatch, cost_s: float, pause_s: float
) -> None:
    clock = SimpleNamespace(now_s=100.0)
    monkeypatch.setattr(watcher.time, "monotonic", lambda: clock.now_s)
    source = Scripted(profile())
    here = Here(source)
    make = here.make

    def slow(*words: Any) -> bytes:
        here.cost_s += cost_s
        return make(*words)

    monkeypatch.setattr(here, "make", slow)
    watching = Follower(source, lambda *_: here, plan()).watcher  # type: ignore[arg-type,return-value]
    monkeypatch.setattr(watching, "_begin", lambda **_: None)
    watching.ask(("want", "total", 0, -1, "", ""))
    watching._take(source, source.state, lambda: None)  # type: ignore[arg-type]
    watching._answer(lambda: None)
    assert watching._next_s == pytest.approx(100.0 + pause_s, abs=0.1)
