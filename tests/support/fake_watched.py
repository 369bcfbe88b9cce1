"""A process that a test watches without there being one: it obeys, and counts what is done."""

from __future__ import annotations

import dataclasses
import threading
from types import SimpleNamespace
from typing import Any

from mem_parser.model import Profile
from mem_profiler.capture.session import Rates
from mem_profiler.live.watched import Moment, State
from web_profiles import SERVER, make_profile


class FakeWatched:
    """As `Watched`, of a process whose capture goes on until `state` is changed."""

    opened: list[FakeWatched]

    def __init__(self, pid: int, number: int = 1) -> None:
        self.pid = pid
        self.number = number
        self.state = State.CAPTURED if number else State.IDLE
        self.why = ""
        self.is_own = False
        self.moments = 0
        self.ticks = 0
        self.closed = threading.Event()
        self.threads: set[int] = set()
        self.segment: Any = SimpleNamespace(
            control=lambda: SimpleNamespace(number=self._number, identity="")
        )

    def _number(self, _name: str) -> int:
        return self.number

    def due_in(self) -> float:
        return 0.05

    def tick(self) -> State:
        self.ticks += 1
        self.threads.add(threading.get_ident())
        return self.state

    def moment(self) -> Moment | None:
        self.moments += 1
        if not self.number:
            return None
        return Moment(self.number, float(self.moments), self.state, [self.profile()])

    def profile(self) -> Profile:
        profile, _ = make_profile(SERVER)
        capture = dataclasses.replace(
            profile.capture, capture=self.number, duration_s=float(self.moments)
        )
        return dataclasses.replace(
            profile,
            domains=["host"],
            sites=dataclasses.replace(profile.sites, domain=profile.sites.domain * 0),
            capture=capture,
        )

    def begin(self, _rates: Rates) -> bool:
        if self.state is State.CAPTURED:
            return False
        self.number, self.state, self.is_own = self.number + 1, State.CAPTURED, True
        return True

    def close(self) -> None:
        self.closed.set()
