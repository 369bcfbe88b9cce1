"""Watch one running process: its profiles, periodically.

Model: a `Watched` is used by one thread, which calls `tick` in a loop. If another controller's
capture runs, it maps the segment read-only, takes no lock, and changes nothing: any number may
watch a process. If no capture runs, it may start its own, which ends with it.
"""

from __future__ import annotations

import enum
import os
import time
from dataclasses import dataclass

from mem_parser.errors import MemError, TargetBusy
from mem_parser.heapfile.form import Form
from mem_parser.model import Profile
from mem_profiler.capture import gate, toggle
from mem_profiler.capture.recorder import Pace
from mem_profiler.capture.recording import Recording
from mem_profiler.capture.saving import Result
from mem_profiler.capture.session import ALIVE_CHECK_S, Rates, Session
from mem_profiler.live.jit_watch import ByChildren, MadeNames
from mem_profiler.process.codefiles import CodeFiles
from mem_profiler.process.death import Watch
from mem_profiler.profile.build import Ending, build
from mem_profiler.profile.keptstacks import KeptStacks
from mem_profiler.profile.readings import Readings
from mem_profiler.profile.target import Target
from mem_profiler.segment import discovery, layout, presence
from mem_profiler.segment.file import Segment

PACE = Pace(tick_s=0.5, cost_share=0.05)


def _since_boot_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class State(enum.StrEnum):
    """The state of a watched process.

    IDLE: no capture runs; the profiles are those of the latest one, if there was one. ENDED: the
    process is gone, runs another program, or has no sampler any more; `Watched.why` says which.
    """

    CAPTURED = "captured"
    IDLE = "idle"
    ENDED = "ended"


@dataclass(frozen=True)
class Moment:
    """Profiles of a process at one time: that of the host's memory, then one for each domain of
    device memory, all of capture `number`. `t_s`: seconds of the capture; `pid`: of the process as
    seen from here, 0: as it sees itself.
    """

    number: int
    t_s: float
    state: State
    profiles: list[Profile]
    pid: int = 0


@dataclass(frozen=True)
class Facts:
    """Data for a present profile besides the segment: process, reason of its end, readings."""

    number: int
    state: State
    target: Target
    ending: Ending
    readings: Readings


class Watched:
    """One watched process. Close it at the end, which ends its own capture; that of a process which
    has ended, and is in no file, is left to `recover`.

    `why` is the reason of its end; so is `left` if the process lives without the sampler. `seen_s`:
    when it was last seen alive, since the boot.
    """

    def __init__(self, pid: int, rates: Rates | None = None, pace: Pace = PACE) -> None:
        """Open the segment of a process. Where no capture runs there, begin one with `rates`; None:
        only look on. Raises MemError.
        """
        self.pid = pid
        self.why = ""
        self.left: presence.Left | None = None
        self.seen_s = _since_boot_s()
        self._pace = pace
        self._session: Session | None = None
        self._looking: Recording | None = None
        self._watch = Watch(pid)
        self._ended = False
        self._how = ""
        self._next_check = 0.0
        self._number = 0
        self._stacks: KeptStacks | None = None
        self._made: MadeNames | None = None
        try:
            if rates is None or not self.begin(rates):
                self._look_on()
        except BaseException:
            self.close()
            raise

    @property
    def is_own(self) -> bool:
        """Whether the capture is this one's, and ends with it."""
        return self._session is not None

    @property
    def leaves(self) -> bool:
        """Whether its own capture is left to `recover`."""
        session = self._session
        if session is None or not session.number or not session.watch.ended():
            return False
        return session.segment.control().number("written_capture") != session.number

    @property
    def readings(self) -> Readings:
        """The series of the capture since it is watched: of the host, and of each domain."""
        return self._recording.recorder.readings

    @property
    def segment(self) -> Segment:
        """The process's segment."""
        return self._recording.segment

    @property
    def code_files(self) -> CodeFiles | None:
        """Where the process lists the code that it makes."""
        return self._recording.code_files

    @property
    def state(self) -> State:
        """The present state of the process."""
        if self._ended:
            return State.ENDED
        control = self.segment.control()
        runs = control.running(gate.target_now_ns(self.pid))
        return State.CAPTURED if runs else State.IDLE

    @property
    def _recording(self) -> Recording:
        found = self._session.recording if self._session is not None else self._looking
        assert found is not None, "closed"
        return found

    def begin(self, rates: Rates) -> bool:
        """Begin a capture; False where another controller captures. Raises MemError."""
        try:
            session = Session(self.pid, self._pace)
        except TargetBusy:
            return False
        try:
            session.start(rates, None)
        except BaseException:
            session.close()
            raise
        self._stop_looking()
        self._session, self._stacks = session, None
        return True

    def _look_on(self) -> None:
        segment = discovery.open_process(self.pid, writable=False)
        self._looking = Recording(segment, self.pid, self._pace, changes_segment=False)

    def _stop_looking(self) -> None:
        looking, self._looking = self._looking, None
        if looking is not None:
            looking.close()
            looking.segment.close()

    def due_in(self) -> float:
        """Seconds until the next reading is due."""
        return self._recording.due_in()

    def tick(self) -> State:
        """Take a reading if one is due. Raises MemError, MemoryError, OSError."""
        if self._ended:
            return State.ENDED
        now_s = _since_boot_s()
        if self._session is not None:
            self._session.tick()
            if self._session.ended is not None:
                self._end_with(self._session)
        else:
            self._look()
        if not self._ended:
            self.seen_s = now_s
        return self.state

    def _look(self) -> None:
        """Check whether the process has ended, and take a reading of another's capture."""
        if self._watch.ended():
            how = self._watch.how()
            self._end(how, how)
        elif time.monotonic() >= self._next_check:
            self._next_check = time.monotonic() + ALIVE_CHECK_S
            self._check_sampler()
        if not self._ended:
            self._follow()
            self._recording.tick()

    def _check_sampler(self) -> None:
        """End where the process lives and has this segment's sampler no longer."""
        control = self.segment.control()
        if control.number("state") == layout.STATE_REFUSED:
            self._end(control.text("state_text"), "stopped")
            return
        self.left = left = presence.left(self.pid, control)
        if left is not None:
            self._end(left, "target ended" if left is presence.Left.EXEC else "stopped")

    def _end(self, why: str, how: str) -> None:
        """Note the end: ``why`` for viewers, ``how`` as the `end` of a header."""
        self._ended, self.why, self._how = True, why, how
        self._recording.target.gone()

    def _end_with(self, session: Session) -> None:
        how = session.ended or "unknown"
        self.left = session.left
        self._end(session.left or next(reversed(session.notes), how), how)

    def _follow(self) -> None:
        """Begin the series anew where another capture has begun."""
        number = self.segment.control().latest_capture
        if number != self._number and self._looking is not None:
            segment = self._looking.segment
            self._looking.close()
            self._looking = Recording(segment, self.pid, self._pace, changes_segment=False)
        self._number = number

    def facts(self) -> Facts | None:
        """Data for a profile of the latest capture besides the segment; None without a capture."""
        control = self.segment.control()
        number = control.latest_capture
        if number == 0:
            return None
        recording, state = self._recording, self.state
        if not self._ended:
            recording.target.refresh_mappings()
        end = {State.CAPTURED: "running", State.ENDED: self._how}.get(
            state, gate.how_it_ended(control)
        )
        ending = Ending("snapshot", end, recording.now_ns())
        return Facts(number, state, recording.target, ending, recording.recorder.readings)

    def moment(self) -> Moment | None:
        """The present profiles of the latest capture; None without any capture. Raises MemError."""
        facts = self.facts()
        if facts is None:
            return None
        if self._stacks is None:
            self._stacks = KeptStacks(self.segment)
        profiles = build(self.segment, facts.target, facts.ending, facts.readings, self._stacks)
        self._name_made_code(profiles)
        duration_s = profiles[0].capture.duration_s or 0.0
        return Moment(facts.number, duration_s, facts.state, profiles, self.pid)

    def _name_made_code(self, profiles: list[Profile]) -> None:
        """Give names to code that the program made as it ran."""
        recording = self._recording
        if self._made is None and recording.code_files is not None:
            uid = os.fstat(self.segment.fd).st_uid
            self._made = MadeNames(ByChildren(recording.code_files, uid, self.pid))
        if self._made is not None:
            self._made.put(profiles, recording.target.mappings)

    def write(self, prefix: str, form: Form = Form.AUTO, *, resident: bool = False) -> Result:
        """Save the present state of the capture, which continues, if asked for with what is
        `resident`; after the end of the process, its final state. Raises MemError.
        """
        if not self._ended:
            return toggle.snapshot(self.pid, prefix, form, resident=resident)
        kind = "capture" if self.is_own else "snapshot"
        result = self._recording.finish(
            prefix, self.pid, kind, self._how, form=form, with_events=False
        )
        if self._session is not None:
            gate.mark_written(self.segment, self._session.number)
        return result

    def close(self) -> None:
        """Stop watching, and end our own capture. Raises nothing that the target causes."""
        leaves = self.leaves
        session, self._session = self._session, None
        try:
            if session is not None and leaves:
                session.leave("target ended")
            elif session is not None:
                session.discard()
        except MemError as error:
            self.why = self.why or str(error)
        finally:
            self._stop_looking()
            self._watch.close()
