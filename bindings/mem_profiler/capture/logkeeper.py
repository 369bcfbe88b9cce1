"""The process that writes the log of an open capture's events: `mem_profiler start --events`.

Model: a helper of the kind `log` (`mem_profiler.capture.holder`). `stop` or `recover` write the
`.heap` file of the capture, as without a log. On SIGTERM the helper ends the log and leaves the
capture running: the rings then keep the latest events. If the log ends early, because the file
system is full or its drain was killed, the helper stays to report why.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from mem_profiler.capture import gate, holder
from mem_profiler.capture.holder import Beside
from mem_profiler.events.collector import Limits, Log
from mem_profiler.events.rings import geometry_of
from mem_profiler.segment.file import Control, Segment
from mem_sandbox.child import whole_number

if TYPE_CHECKING:
    from mem_profiler.capture.session import Rates

KIND = "log"
WITH_LOG, LOG_ENDED = "capturing, events", "capturing, log ended"
ENDED_NOTE = (
    "the process that wrote the log of events had ended before the capture:"
    " it was killed, or told to end"
)
_COUNT_MAX, _TEXT_MAX = 1 << 62, 1000


def start(pid: int, rates: Rates) -> int:
    """Start an open-ended capture with a log; returns its number. Raises MemError."""
    logging = rates.logging
    assert logging is not None
    assert isinstance(logging.where, str)
    wanted = [
        rates.host_bytes, rates.device_bytes, rates.depth_limit, os.path.abspath(logging.where),
        logging.ring_bytes, logging.limits.file_bytes, logging.limits.files,
    ]  # fmt: skip
    return int(holder.start(KIND, pid, wanted)["number"])


def end(segment: Segment, pid: int) -> Log | None:
    """End the capture of a segment and its log, if such a process writes one; else None.

    Raises MemError.
    """
    keeper = holder.holder(segment, KIND)
    if keeper is None:
        return None
    words: holder.Words | None = None
    with contextlib.suppress(OSError):  # another user's
        words = holder.Words(keeper)
    try:
        gate.stop(segment, pid, segment.control().number("capture_number"))
        holder.wait_for_end(segment, pid, KIND)
        return _log(words.read()) if words is not None else Log([], 0, {}, "")
    finally:
        if words is not None:
            words.close()


def state(segment: Segment, control: Control, now_ns: int) -> str | None:
    """The state of a running capture's events; None if it writes no events, or no reader was
    requested.
    """
    if not control.running(now_ns) or geometry_of(control) is None:
        return None
    if not int(control.capture["owner_pid"]):
        return None  # the rings keep the last events
    if segment.lock_holder() is None:
        return LOG_ENDED
    keeper = holder.holder(segment, KIND)
    if keeper is None:
        return WITH_LOG
    try:
        words = holder.Words(keeper)
    except OSError:
        return WITH_LOG
    told = words.read()
    words.close()
    return WITH_LOG if told is None else LOG_ENDED


def _log(told: Any) -> Log:
    """The helper's message, validated: another program may have its name."""
    try:
        return Log(
            [str(path) for path in told["paths"]],
            whole_number(told["dropped"], _COUNT_MAX),
            {str(name): whole_number(number, _COUNT_MAX) for name, number in told["told"].items()},
            str(told["problem"])[:_TEXT_MAX],
        )
    except (TypeError, KeyError, ValueError, AttributeError):
        return Log([], 0, {}, ENDED_NOTE)


class _LogKeeper(Beside):
    """One capture with its log."""

    def tick(self) -> None:
        """Report at once that the log ended early."""
        if self.session.recording.log_has_ended:
            _say(self.session.recording.end_log(""))

    def leave(self, how: str) -> None:
        """End the log; others write the capture's file."""
        _say(self.session.leave(how))


def _say(log: Log | None) -> None:
    if log is None:
        return
    holder.say_at_end(
        {
            "paths": log.paths,
            "dropped": log.dropped_files,
            "told": log.told,
            "problem": log.problem,
        }
    )


def _begin(pid: int, wanted: Any) -> Beside:
    from mem_profiler.capture.session import Rates, Session
    from mem_profiler.events.logs import Logging

    rate, device_rate, depth_limit, where, ring_bytes, file_bytes, files = wanted
    session = Session(pid)
    try:
        logging = Logging(where, ring_bytes, Limits(file_bytes, files))
        session.start(Rates(rate, device_rate, depth_limit, logging), None)
    except BaseException:
        session.close()
        raise
    return _LogKeeper(session)


def serve(pid: int, wanted: str) -> None:
    """Keep the log of a process, in the helper."""
    holder.serve(_begin, pid, wanted)
