"""Helper processes that keep a capture running after the command that started it has ended.

Model: `start` starts such a kind of `mem_profiler.helper`, detached, and waits for one line of JSON
from it: an answer, or an error. `serve` is the other side. The process holds the lock of the
segment, and follows the capture until another process shuts its gate or starts another one, the
program ends, the segment is removed, or SIGTERM arrives. It writes its result to its standard
output, an unnamed file, which a process with its rights reads through /proc (`Words`).
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mem_parser import errors
from mem_parser.errors import MemError, TargetError
from mem_profiler.capture import gate
from mem_profiler.capture.loop import PAUSE_MAX_S, PAUSE_MIN_S
from mem_profiler.segment.file import Segment

if TYPE_CHECKING:
    from mem_profiler.capture.session import Session

START_S = 60.0
END_S = 90.0
TOLD_TO_END = "log stopped"
_HELPER = "mem_profiler.helper"
_ANSWER_BYTES = 8192
_WORDS_BYTES = 16 << 20


def start(kind: str, pid: int, wanted: Any) -> dict[str, Any]:
    """Start a helper of a kind; returns its answer. Raises MemError."""
    roots = [path for path in sys.path if path]
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", _HELPER, kind, str(pid), json.dumps(wanted)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        start_new_session=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(roots)},
    )  # fmt: skip
    assert child.stdout is not None
    with child.stdout as pipe:
        ready = select.select([pipe], [], [], START_S)[0]
        line = pipe.readline(_ANSWER_BYTES) if ready else b""
    answer = json.loads(line) if line.endswith(b"\n") else {"error": "the log did not begin"}
    if "error" in answer:
        child.kill()
        child.wait()
        error = getattr(errors, str(answer.get("kind")), TargetError)
        raise error(answer["error"], hint=answer.get("hint"))
    child.returncode = 0  # it outlives this process
    return dict(answer)


def holder(segment: Segment, kind: str) -> int | None:
    """The helper of a kind that holds a segment's lock; None: another process or none holds it."""
    pid = segment.lock_holder()
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return None
    named = [_HELPER.encode(), kind.encode()]
    return pid if named in (words[k : k + 2] for k in range(len(words))) else None


def wait_for_end(segment: Segment, pid: int, kind: str) -> None:
    """Wait until the helper has ended. Raises TargetError on a timeout."""
    give_up = time.monotonic() + END_S
    while holder(segment, kind) is not None:
        if time.monotonic() > give_up:
            raise TargetError(f"the log of pid {pid} does not end")
        time.sleep(PAUSE_MIN_S)


class Words:
    """The final message of a helper; opened before it ends, by a process with its rights."""

    def __init__(self, beside: int) -> None:
        """Raises OSError."""
        self._fd = os.open(f"/proc/{beside}/fd/1", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)

    def read(self) -> Any:
        """The message so far; None if it is incomplete."""
        try:
            return json.loads(os.pread(self._fd, _WORDS_BYTES, 0))
        except (OSError, ValueError, RecursionError):
            return None

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


class Beside:
    """One capture in the helper, started by `begin` of the class."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._told_to_end = False

    @property
    def answer(self) -> dict[str, Any]:
        """What `start` returns."""
        return {"number": self.session.number}

    def tick(self) -> None:
        """Called periodically during the capture."""

    def leave(self, how: str) -> None:
        """End what this process does for the capture; `how` is as the `end` of a header."""
        raise NotImplementedError

    def end(self, *_: object) -> None:
        """Make `keep` return."""
        self._told_to_end = True

    def keep(self) -> None:
        """Follow the capture until it ends, or this process is told to end."""
        session = self.session
        while not self._told_to_end and not session.over:
            session.tick()
            self.tick()
            if session.segment.control().gate_capture != session.number:
                break
            if not os.fstat(session.segment.fd).st_nlink:
                session.stop()  # no other process could
                break
            session.watch.ended(min(PAUSE_MAX_S, max(PAUSE_MIN_S, session.due_in())))
        self.leave(self._how())

    def _how(self) -> str:
        session = self.session
        if not session.over and session.watch.ended():
            session.tick()
        if session.ended is not None:
            return session.ended
        control = session.segment.control()
        if self._told_to_end and control.gate_capture == session.number:
            return TOLD_TO_END
        return gate.how_it_ended(control)


def say_at_end(words: Any) -> None:
    """Publish a message to readers of this process's output."""
    data = json.dumps(words).encode()
    os.ftruncate(1, 0)
    os.pwrite(1, data, 0)


def serve(begin: Callable[[int, Any], Beside], pid: int, wanted: str) -> None:
    """Keep a capture of a process; the other side of `start`."""
    try:
        beside = begin(pid, json.loads(wanted))
    except MemError as error:
        told = {"error": str(error), "hint": error.hint, "kind": type(error).__name__}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.exit(error.exit_code)
    signal.signal(signal.SIGTERM, beside.end)
    words = os.memfd_create("words", os.MFD_CLOEXEC)
    sys.stdout.write(json.dumps(beside.answer) + "\n")
    sys.stdout.flush()
    os.dup2(words, 1, inheritable=False)
    os.close(words)
    beside.keep()
