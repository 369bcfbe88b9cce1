"""Processes that this server attached to, and those that it could.

Model: an `Attachments` attaches to one process at a time, and keeps what it attached to up to date
in a thread of its own. What this server did not attach to it does not detach from; all that it did
is detached from in the end, but where somebody else captures: that process keeps the sampler, and a
line says so.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mem_cli.console import say
from mem_cli.errors import hint_of, say_error
from mem_cli.profiler.attaching import detached_line
from mem_cli.profiler.watchdog import Watchdog
from mem_parser.errors import MemError, NoSampler, TargetBusy, TargetError, TargetUnsupported
from mem_parser.escape import one_line
from mem_profiler import attach as attaching
from mem_profiler.attach import Attachment, Stopped
from mem_profiler.capture import gate
from mem_profiler.doctor import access
from mem_profiler.process import procfs
from mem_profiler.process.tracing import user_name
from mem_profiler.segment import discovery

MOST = 64
MOST_OTHERS = 100
"""Processes without a sampler that are listed: the largest of those that are looked for."""
LONGEST_LINE = 300
"""Characters of a command line that are shown."""
TICK_S = 0.5
WAIT_S = 30.0


@dataclass(frozen=True)
class Other:
    """A process without a sampler, which this user may attach to if nothing speaks against it.
    ``line`` is the beginning of its command line.
    """

    pid: int
    user: str
    command: str
    rss_bytes: int
    line: str

    def has(self, words: list[str]) -> bool:
        """Whether all words, in small letters, are in what the list shows of it."""
        text = f"{self.pid} {self.command} {self.user} {self.line}".lower()
        return all(word in text for word in words)


def others(known: set[int]) -> list[Other]:
    """Return the processes of this user (root: of all) that are not ``known``, the largest first,
    this server and its children left out. Nothing is opened: whether an attach works shows when it
    is tried.
    """
    mine, found = {os.getpid()}, []
    for pid in sorted(procfs.pids()):
        facts = procfs.stat_fields(pid)
        if len(facts) > 1 and facts[1].isdigit() and int(facts[1]) in mine:
            mine.add(pid)
        if pid in known or pid in mine:
            continue
        resident, status = procfs.resident(pid), procfs.status(pid)
        if resident is None or not resident.rss_bytes or status is None:
            continue  # a thread of the kernel, or gone
        if os.geteuid() in {0, status.uids[1]}:
            found.append((resident.rss_bytes, pid, status.uids[0]))
    found.sort(reverse=True)
    return [
        Other(pid, user_name(uid), procfs.program_name(pid) or "?", size, line_of(pid))
        for size, pid, uid in found
    ]


def line_of(pid: int) -> str:
    """Return what the list shows of a command line, as it is now."""
    return one_line(procfs.command_now(pid))[:LONGEST_LINE]


def without_sampler(pid: int, error: NoSampler) -> dict[str, Any]:
    """Return what the page of such a process goes by: ``attach`` is its row where nothing that is
    known speaks against an attach; else why not is in `text` and `hint`.
    """
    if error.hint is None:  # it cannot have one
        return {"attach": None}
    against = next((f for f in access.permission(pid) if f.status == "blocker"), None)
    if against is not None:
        why = f"{str(error).rstrip('.')}, and this server may not attach to it: {against.text}"
        return {"text": why, "hint": against.cure, "attach": None}
    words = procfs.status(pid)
    user = user_name(words.uids[0]) if words is not None else "?"
    return {"attach": {"pid": pid, "command": procfs.program_name(pid) or "?", "user": user}}


class Attachments:
    """What this server attached to. Close it in the end. ``watchdog`` hears of each."""

    def __init__(self, watchdog: Watchdog | None = None) -> None:
        self._watchdog = watchdog
        self._lock = threading.Lock()
        self._busy = threading.Lock()
        self._held: dict[int, Attachment] = {}
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def pids(self) -> set[int]:
        """The processes that it attached to."""
        with self._lock:
            return set(self._held)

    def attach(self, pid: int) -> None:
        """Attach to a process. Raises MemError."""
        if pid == os.getpid():
            raise TargetUnsupported(f"pid {pid} is this server")
        with self._one_at_a_time():
            if self._closing.is_set():
                raise TargetBusy("the server is ending")
            if len(self.pids) >= MOST:
                raise TargetBusy(f"this server is attached to {MOST} processes already")
            try:
                one = attaching.attach(pid, self._closing.is_set)
            except Stopped:
                raise TargetBusy("the server is ending") from None
            except OSError as error:
                raise TargetError(f"pid {pid}: cannot be attached to: {error.strerror}") from None
            if self._watchdog is not None:
                self._watchdog.attached(pid)
            with self._lock:
                self._held[pid] = one
                if self._thread is None:
                    self._thread = threading.Thread(target=self._keep, name="attachments")
                    self._thread.start()

    def detach(self, pid: int) -> None:
        """Detach from a process that it attached to. Raises MemError."""
        with self._one_at_a_time():
            with self._lock:
                one = self._held.get(pid)
            if one is None:
                raise TargetError(
                    f"this server did not attach to pid {pid}", hint=f"mem_profiler detach {pid}"
                )
            if not procfs.is_gone(pid):
                _check_idle(pid)
            one.detach()
            self._forget(pid)

    @contextlib.contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        if not self._busy.acquire(timeout=WAIT_S):
            raise TargetBusy("this server is busy with another process")
        try:
            yield
        finally:
            self._busy.release()

    def _keep(self) -> None:
        """Redirect what the processes open meanwhile; forget those that have ended."""
        while not self._closing.wait(TICK_S):
            with self._lock:
                held = list(self._held.values())
            for one in held:
                with self._busy:
                    if one.pid not in self.pids:
                        continue
                    if procfs.is_gone(one.pid):
                        self._forget(one.pid)
                    else:
                        one.tick()

    def _forget(self, pid: int) -> None:
        """A process has ended, or is left as it was found."""
        if self._watchdog is not None:
            self._watchdog.left(pid)
        with self._lock:
            self._held.pop(pid, None)

    def close(self) -> None:
        """Detach from all; a failure is printed, and the others are detached from nevertheless."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
        with self._busy:
            while self._held:
                one = next(iter(self._held.values()))
                try:
                    if not procfs.is_gone(one.pid):
                        _check_idle(one.pid)
                    answer = one.detach()
                except MemError as error:
                    say_error(str(error), hint_of(error))
                    continue
                finally:
                    self._forget(one.pid)
                if answer is not None:
                    say(detached_line(one.pid, answer), err=True)


def _check_idle(pid: int) -> None:
    """Raises TargetBusy where somebody captures, and MemError."""
    with discovery.open_process(pid) as segment:
        gate.lock(segment, pid)
        gate.check_idle(segment, pid)
