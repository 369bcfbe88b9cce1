"""When the thread of the view refreshes: never for more than half of the time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from live_views import Scripted, plan, profile, view_model
from mem_cli.live import following
from mem_cli.live.following import Follower


@pytest.mark.parametrize(("cost_s", "pause_s"), [(0.01, 0.15), (3.0, 6.0)])
def test_a_refresh_that_takes_long_makes_the_next_one_later(
    monkeypatch: pytest.MonkeyPatch, cost_s: float, pause_s: float
) -> None:
    clock = SimpleNamespace(now_s=100.0)
    monkeypatch.setattr(following.time, "monotonic", lambda: clock.now_s)
    source, view = Scripted(profile()), view_model()
    follower = Follower(source, view, plan())
    picture = view.picture

    def slow(*words: Any) -> Any:
        clock.now_s += cost_s
        return picture(*words)

    monkeypatch.setattr(view, "picture", slow)
    follower._step()
    assert source.moments == 1
    assert follower._next_look == pytest.approx(100.0 + pause_s)
    follower._step()
    assert source.moments == 1
    clock.now_s = 100.0 + pause_s
    follower._step()
    assert source.moments == 2
