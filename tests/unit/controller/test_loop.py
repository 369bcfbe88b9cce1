"""The one loop in which captures are followed."""

from __future__ import annotations

import pytest

from mem_profiler.capture import loop


class Follower:
    """Something that is over after so many ticks."""

    def __init__(self, ticks: int, due_in: float = 0.0) -> None:
        self.left, self.ticked, self.due_s = ticks, 0, due_in

    @property
    def over(self) -> bool:
        return self.ticked >= self.left

    def tick(self) -> None:
        self.ticked += 1

    def due_in(self) -> float:
        return self.due_s


def nothing(_: float) -> None:
    pass


def test_it_ends_when_all_are_over() -> None:
    short, long = Follower(1), Follower(3)
    gone: list[float] = []
    assert loop.follow([short, long], wait=nothing, on_tick=gone.append) == "target ended"
    assert (short.ticked, long.ticked, len(gone)) == (3, 3, 3)
    assert gone == sorted(gone)


def test_it_ends_when_it_is_asked_to() -> None:
    asked = iter([False, True])
    end = loop.follow(
        [Follower(9)], wait=nothing, on_tick=nothing, asked_to_end=lambda: next(asked)
    )
    assert end == "interrupted"


def test_it_ends_at_the_deadline_and_pauses_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])
    pauses: list[float] = []

    def wait(seconds: float) -> None:
        pauses.append(round(seconds, 6))
        now[0] += seconds

    end = loop.follow([Follower(99, due_in=9)], wait=wait, on_tick=nothing, seconds=0.25)
    assert end == "deadline"
    assert pauses == [loop.PAUSE_MAX_S, loop.PAUSE_MAX_S, 0.05]


def test_the_one_that_is_due_first_decides_how_long_it_pauses() -> None:
    pauses: list[float] = []
    followers = [Follower(3, due_in=0.08), Follower(3, due_in=0.03), Follower(1, due_in=0.0)]
    loop.follow(followers, wait=pauses.append, on_tick=nothing)
    assert pauses == [0.03, 0.03]
    loop.follow([Follower(2, due_in=0.0)], wait=pauses.append, on_tick=nothing)
    assert pauses[-1] == loop.PAUSE_MIN_S


def test_what_a_follower_raises_is_raised() -> None:
    broken = Follower(3)
    broken.tick = lambda: 1 / 0  # type: ignore[method-assign,assignment,return-value]
    with pytest.raises(ZeroDivisionError):
        loop.follow([broken], wait=nothing, on_tick=nothing)
