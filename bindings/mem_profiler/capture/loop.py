"""The one loop that follows captures."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

PAUSE_MAX_S = 0.1  # the longest delay before the loop notices Ctrl-C
PAUSE_MIN_S = 0.005


class Follower(Protocol):
    """A subject of the loop: one process, or a run with all its processes."""

    @property
    def over(self) -> bool:
        """Whether everything followed has ended."""
        ...

    def tick(self) -> None:
        """Perform due work."""
        ...

    def due_in(self) -> float:
        """Seconds until work is due."""
        ...


def never() -> bool:
    """The default of a question: no."""
    return False


def follow(
    followers: Sequence[Follower],
    *,
    wait: Callable[[float], object],
    on_tick: Callable[[float], None],
    seconds: float | None = None,
    asked_to_end: Callable[[], bool] = never,
    may_grow: Callable[[], bool] = never,
) -> str:
    """Follow until all have ended ("target ended") and no more may come (`may_grow`), until a
    request to end ("interrupted"), or for some seconds ("deadline"); returns which it was.

    `wait` pauses for at most the seconds it gets, and `on_tick` gets the elapsed seconds. Raises
    what a follower's `tick` raises.
    """
    began = time.monotonic()
    while True:
        for follower in followers:
            follower.tick()
        gone = time.monotonic() - began
        on_tick(gone)
        living = [follower for follower in followers if not follower.over]
        if not living and not may_grow():
            return "target ended"
        if asked_to_end():
            return "interrupted"
        if seconds is not None and gone >= seconds:
            return "deadline"
        left = [] if seconds is None else [seconds - gone]
        due = (max(PAUSE_MIN_S, follower.due_in()) for follower in living)
        wait(min([PAUSE_MAX_S, *left, *due]))
