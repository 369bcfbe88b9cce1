"""A process that a test watches without there being one: it obeys, and counts what is done."""

from __future__ import annotations

import dataclasses
import json
import threading
from types import SimpleNamespace
from typing import Any

from mem_cli.serve.answers import Answers
from mem_cli.watching.worker import About, Question
from mem_parser.errors import TargetBusy
from mem_parser.model import Profile
from mem_profiler.capture.session import Rates
from mem_profiler.live.watched import Facts, Moment, State
from mem_profiler.profile.build import Ending
from mem_profiler.profile.readings import Readings
from mem_profiler.profile.target import Target
from web_profiles import SERVER, make_profile

WAIT_S = 30.0


class FakeWatched:
    """As `Watched`, of a process whose capture goes on until `state` is changed."""

    opened: list[FakeWatched]

    def __init__(self, pid: int, number: int = 1) -> None:
        self.pid = pid
        self.number = number
        self.state = State.CAPTURED if number else State.IDLE
        self.why = ""
        self.is_own = False
        self.code_files = None
        self.moments = 0
        self.ticks = 0
        self.closed = threading.Event()
        self.may_close = threading.Event()
        self.may_close.set()
        self.threads: set[int] = set()
        self.segment: Any = SimpleNamespace(
            control=lambda: SimpleNamespace(latest_capture=self.number, identity="")
        )

    @property
    def leaves(self) -> bool:
        return self.is_own

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

    def facts(self) -> Facts | None:
        self.moments += 1
        if not self.number:
            return None
        return Facts(
            self.number, self.state, Target(None), Ending("snapshot", "running"), Readings()
        )

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
        self.may_close.wait(WAIT_S)
        self.closed.set()


class FakeWorker:
    """As `Worker`, without any process: answers tell the moment, and `fails` makes it end."""

    def __init__(self, watched: FakeWatched) -> None:
        self.cost_s = 0.0
        self.has_failed = False
        self.closed = False
        self.fails = False
        self.taken: list[tuple[About, Facts | None]] = []
        self.asked: list[Question] = []
        self._answers = Answers(lambda _: [watched.profile()])

    def reads(self, _segment: Any) -> bool:
        return not self.has_failed

    def take(self, about: About, facts: Facts | None, _meanwhile: Any = None) -> None:
        self._answers.take(about, facts)
        self.taken.append((about, facts))

    def make(self, question: Question, _meanwhile: Any = None) -> bytes:
        self.asked.append(question)
        if self.fails:
            self.has_failed = True
            raise TargetBusy("the process that reads it failed")
        if question[0] == "moment":
            about, facts = self.taken[-1]
            words = {"seq": about.seq, "state": str(about.state), "own": about.own}
            return json.dumps(words | {"why": about.why, "had": facts is not None}).encode()
        return self._answers.make(question)

    def close(self) -> None:
        self.closed = True
