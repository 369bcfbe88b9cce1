"""Logs of events: which capture goes to which files.

Model: `begin` starts the processes that follow a capture (`mem_profiler.events.collector`), before
its gate opens or soon after. `EventLog.finish` ends them once the gate is shut. Until the capture
has rings, the drain waits for them.
"""

from __future__ import annotations

import functools
import os
import time
from dataclasses import dataclass, field

from mem_parser.memlog.filefacts import FileFacts, new_run
from mem_parser.memlog.rolling import RollingLog
from mem_parser.memlog.writer import Put
from mem_parser.model import Profile
from mem_profiler.capture.output import Where
from mem_profiler.events import RING_BYTES
from mem_profiler.events.collector import NOTE, Collector, Limits, Log, Work
from mem_profiler.events.domains import Domains
from mem_profiler.events.drain import Drain, Outlet
from mem_profiler.events.lastevents import LastEvents
from mem_profiler.events.livestate import LiveState
from mem_profiler.events.rings import RingReader, geometry_of, note_drained
from mem_profiler.events.source import SegmentSource
from mem_profiler.profile import build
from mem_profiler.profile.build import WRITER, Ending
from mem_profiler.profile.target import Target
from mem_profiler.segment.file import Segment
from mem_sandbox.child import Asked, Wish

WAIT_S = 0.001


@dataclass(frozen=True)
class Logging:
    """A capture's log of events: files of `where`, rings of `ring_bytes`.

    `is_followed`: a reader follows the growing log and needs new threads and marks soon.
    `launches`: recorded launches, names of `layout.LAUNCH_WANTS`.
    """

    where: Where
    ring_bytes: int = RING_BYTES
    limits: Limits = field(default_factory=Limits)
    is_followed: bool = False
    launches: tuple[str, ...] = ()


@dataclass(frozen=True)
class Followed:
    """The capture of a segment that a log follows. The target's clock is `clock_offset_ns` later
    than this process's.
    """

    segment: Segment
    target: Target
    number: int
    clock_offset_ns: int

    def now_ns(self) -> int:
        """The target's clock."""
        return time.monotonic_ns() + self.clock_offset_ns

    def facts(self) -> Profile:
        """The facts of the capture as they are now."""
        return build.facts(self.segment, self.target, Ending("capture", "running", self.now_ns()))


def begin(followed: Followed, pid: int, logging: Logging) -> Collector:
    """Follow a capture. Raises MemError."""
    drain = functools.partial(_drain, followed, logging.is_followed)
    note = functools.partial(note_drained, followed.segment)
    work = Work(drain, note, (followed.segment.fd,))
    return Collector(logging.where, pid, work, logging.limits)


class _PipeFiles:
    """The files of a log, seen from the drain: whole blocks go into the pipe."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def begin(self, number: int) -> Put:  # noqa: ARG002 - the other side has names
        """Begin a file."""
        return self._put

    def _put(self, block: bytes) -> None:
        self._send(len(block).to_bytes(4, "little") + block)

    def end(self) -> None:
        """End the file."""
        self._send(bytes(4))

    def note_drained(self, numbers: list[int]) -> None:
        """Tell how far the log has come."""
        body = b"".join(number.to_bytes(8, "little") for number in numbers)
        self._send(NOTE.to_bytes(4, "little") + len(numbers).to_bytes(4, "little") + body)

    def close(self) -> None:
        """Nothing is open here."""

    def _send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._pipe, view) :]


def write_last(followed: Followed, pid: int, where: Where, how: str) -> Log | None:
    """Write the events left in a capture's rings and in no file; None if there are none. `how` is
    that of the log's END.

    Raises MemError.
    """
    control = followed.segment.control()
    if not RingReader(followed.segment, control, drained=True).has_more():
        return None
    work = Work(
        functools.partial(_write_last, followed),
        functools.partial(note_drained, followed.segment),
        (followed.segment.fd,),
    )
    with Collector(where, pid, work, Limits()) as collector:
        return collector.finish(how)


def _drain(
    followed: Followed, prompt_facts: bool, limits: Limits, pipe: int, asked: Wish
) -> dict[str, int]:
    """The work of the process that drains."""
    segment = followed.segment
    if not _wait_for_rings(followed, asked):
        return {"events": 0, "lost": 0, "senseless": 0}
    files = _PipeFiles(pipe)
    state, domains = LiveState(), Domains(segment)
    source = SegmentSource(segment, followed.facts, state)
    log = RollingLog(files, _file_facts(segment, domains), source, most_bytes=limits.file_bytes)
    outlet = Outlet(log, state, domains, files.note_drained)
    drain = Drain(
        segment, RingReader(segment, segment.control()), outlet, followed.now_ns,
        prompt_facts=prompt_facts,
    )  # fmt: skip
    source.between = drain.read_rings
    told = drain.run(asked)
    # The program may have been quiet for long: its live blocks at the end are known, too.
    log.end(asked.words, drain.end_ns())
    drain.note_all()
    return told


def _write_last(followed: Followed, limits: Limits, pipe: int, asked: Wish) -> dict[str, int]:
    """The same, of a capture that nobody drained."""
    segment = followed.segment
    files = _PipeFiles(pipe)
    last = LastEvents(segment)
    source = SegmentSource(segment, followed.facts, last.state)
    facts = _file_facts(segment, Domains(segment))
    log = RollingLog(files, facts, source, most_bytes=limits.file_bytes)
    last.write_to(log)
    while not asked():
        time.sleep(WAIT_S)
    log.end(asked.words)
    files.note_drained(last.taken)
    return last.told


def _file_facts(segment: Segment, domains: Domains) -> FileFacts:
    control = segment.control()
    slot = control.capture
    return FileFacts(
        run=new_run(),
        number=0,
        pid=control.number("pid"),
        domains=domains.names,
        rates_bytes=domains.rates_bytes,
        start_ns=int(slot["start_ns"]),
        start_real_ns=int(slot["start_realtime_ns"]),
        writer=WRITER,
    )


def _wait_for_rings(followed: Followed, asked: Asked) -> bool:
    """Wait until the capture has begun; False: it has no rings, or never began."""
    while True:
        ends = asked()
        control = followed.segment.control()
        if control.number("capture_number") >= followed.number:
            return geometry_of(control) is not None
        if ends:
            return False
        time.sleep(WAIT_S)
