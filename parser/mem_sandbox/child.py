"""Work in a child process that can neither hang its parent nor take its memory.

Model: a read of a foreign process may never end: its memory may be on a file system that does not
answer, and the kernel then waits without reacting to any signal, even SIGKILL. So a forked child
does such work. The parent waits for one message, with a deadline, and still reacts to the user. It
kills a child that does not answer; where that does not help it leaves the child behind, which ends
when the kernel's wait ends. The child has nothing open but its given descriptors, no terminal, no
pipe, no lock, so that no other process waits for it. The child ends with its parent.

The message is JSON, never a pickle: hostile data may control the child, and the parent may have
more rights than it.
"""

from __future__ import annotations

import contextlib
import encodings.ascii  # noqa: F401 - a child without rights may be unable to import it
import fcntl
import gc
import json
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Self

from mem_parser import errors
from mem_parser.errors import MemError, TargetBusy
from mem_parser.inherited_signals import wait_for
from mem_sandbox.syscalls import die_with_parent, lower_limit

MEMORY_BYTES = 1 << 30  # on top of the parent's: enough for the tables of any honest process
MESSAGE_MAX_BYTES = 16 << 20  # an environment, in hexadecimal digits, may have 12
GRACE_S = 5.0  # for a child after a request to stop
REAP_S = 0.5  # for a child after SIGKILL
POLL_S = 0.05
WORDS_MAX = 512  # one write to a pipe

Asked = Callable[[], bool]


class Stopped(Exception):
    """The user asked to stop before the work changed anything in the process."""


def never() -> bool:
    """The default: no request to stop."""
    return False


class Wish:
    """Argument of the work's function: whether the parent asks it to end, and the parent's
    messages.
    """

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._poll = select.poll()
        self._poll.register(pipe, select.POLLIN)
        self._asked = False
        self.words = ""

    def __call__(self) -> bool:
        """Whether the parent asks; once it does, it always did."""
        if not self._asked and self._poll.poll(0):
            self._asked = True
            self.words = os.read(self._pipe, WORDS_MAX).decode(errors="replace").strip()
        return self._asked


def call(
    work: Callable[[Wish], Any],
    what: str,
    deadline_s: float,
    asked_to_stop: Asked = never,
    *,
    keep: Sequence[int] = (),
    enter: Callable[[], None] | None = None,
    memory_bytes: int = MEMORY_BYTES,
) -> Any:
    """Return what `work` returns in a child: a value that JSON can represent.

    Parameters and errors are those of `Child` and its `result`.
    """
    with Child(work, what, keep=keep, enter=enter, memory_bytes=memory_bytes) as child:
        return child.result(deadline_s, asked_to_stop)


class Child:
    """A forked process at work. Use as a context manager: it never outlives that."""

    def __init__(
        self,
        work: Callable[[Wish], Any],
        what: str,
        *,
        keep: Sequence[int] = (),
        enter: Callable[[], None] | None = None,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        """Begin. `work` gets a function that says whether the user asked to stop.

        `what` begins the message of a failure ("pid 4711"). `keep` are descriptors that the child
        needs. The child first calls `enter`, to give up rights; where that fails, so does the work.
        Raises MemError where fork fails.
        """
        self._what = what
        self._status: int | None = None
        parent = os.getpid()
        pipes: list[int] = []
        try:
            pipes += os.pipe2(os.O_CLOEXEC)
            pipes += os.pipe2(os.O_CLOEXEC)
            self._pid = os.fork()
        except OSError as error:
            for fd in pipes:
                os.close(fd)
            raise MemError(
                f"{what}: mem_profiler cannot start a child process to read it: {error.strerror}"
            ) from None
        self._answer, result, wish, self._wish = pipes
        if self._pid == 0:
            os.close(self._answer)
            os.close(self._wish)
            gc.freeze()  # only the parent may collect, and so close, its own garbage
            let_go_of_all_but((wish, result, *keep))
            _serve(parent, what, work, (wish, result), enter, memory_bytes)
        os.close(result)
        os.close(wish)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        os.close(self._answer)
        os.close(self._wish)
        self._end()

    def _end(self) -> int:
        """End the child if necessary; its wait status, 0 where it stays behind."""
        if self._status is not None or not self._pid:
            return self._status or 0
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        give_up = time.monotonic() + REAP_S
        pid, self._pid = self._pid, 0
        nap_s = 0.0005
        while True:
            ended, status = wait_for(pid, os.WNOHANG)
            if ended or time.monotonic() >= give_up:
                return status
            time.sleep(nap_s)
            nap_s = min(nap_s * 1.5, 0.02)

    def wake(self) -> None:
        """Continue a stopped child: the user that it runs as may try to keep it from answering."""
        if self._status is None and self._pid:
            pid, status = wait_for(self._pid, os.WNOHANG | os.WUNTRACED)
            if pid and os.WIFSTOPPED(status):
                os.kill(pid, signal.SIGCONT)
            elif pid:
                self._status = status

    def ask_to_stop(self, words: str = "") -> None:
        """Ask the work's function to end; its `Wish` has the words of the first time."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._wish, words.encode()[: WORDS_MAX - 1] + b"\n")

    @property
    def has_ended(self) -> bool:
        """Whether there is an answer, or will be none: `result` does not wait."""
        poll = select.poll()
        poll.register(self._answer, select.POLLIN)
        return bool(poll.poll(0))

    def result(self, deadline_s: float, asked_to_stop: Asked = never) -> Any:
        """Wait for what the work returns.

        Raises `Stopped` and the kinds of MemError that the work raises; TargetBusy where no answer
        comes in `deadline_s`, or the child ends without one.
        """
        message = self._await(deadline_s, asked_to_stop)
        if message is None:
            ended = os.waitstatus_to_exitcode(self._end())
            how = "without an answer" if ended >= 0 else f"by {signal_name(-ended)}"
            raise TargetBusy(f"{self._what}: the child process that reads it ended {how}")
        return _unpacked(message)

    def _await(self, deadline_s: float, asked_to_stop: Asked) -> bytes | None:
        """The child's message; None: it ended without one. Raises TargetBusy, Stopped."""
        give_up = time.monotonic() + deadline_s
        told = False
        message = bytearray()
        poll = select.poll()
        poll.register(self._answer, select.POLLIN)
        while True:
            left = give_up - time.monotonic()
            if left <= 0:
                raise Stopped if told else self._late(deadline_s)
            if not told and asked_to_stop():
                told = True
                self.ask_to_stop()
                give_up = min(give_up, time.monotonic() + GRACE_S)
            if not poll.poll(min(POLL_S, left) * 1000):
                self.wake()
                continue
            part = os.read(self._answer, 1 << 16)
            if not part:
                return bytes(message) if message.endswith(b"\n") else None
            message += part
            if len(message) > MESSAGE_MAX_BYTES:
                raise MemError(f"{self._what}: the answer of the child process is too long")

    def _late(self, deadline_s: float) -> TargetBusy:
        return TargetBusy(
            f"{self._what} did not answer for {deadline_s:.0f} s",
            hint="its memory may be on a file system that does not answer",
        )


def write_all(fd: int, data: bytes) -> None:
    """Write all of ``data``, however small the pieces are. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def whole_number(told: Any, highest: int) -> int:
    """Return what a child tells as a whole number, 0 to ``highest``. Raises ValueError."""
    if not isinstance(told, int) or not 0 <= told <= highest:
        raise ValueError
    return told


def signal_name(number: int) -> str:
    """Return a name such as `SIGSEGV`."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _serve(  # noqa: PLR0917 - called in one place
    parent: int,
    what: str,
    work: Callable[[Wish], Any],
    pipes: tuple[int, int],
    enter: Callable[[], None] | None,
    memory_bytes: int,
) -> NoReturn:
    """Do the work and end, without flushing or cleaning up anything of the parent's.

    `pipes`: the end with the user's request to stop, the end for the answer.
    """
    wish, result = pipes
    try:
        die_with_parent(parent)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)  # the parent gets them, and notifies the child
        limit_memory(memory_bytes)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

        def begin() -> Any:
            if enter is not None:
                enter()
                die_with_parent(parent)
            return work(Wish(wish))

        write_all(result, _outcome(what, begin))
    finally:
        os._exit(0)


def _outcome(what: str, work: Callable[[], Any]) -> bytes:
    try:
        told = {"result": work()}
    except Stopped:
        told = {"error": "Stopped"}
    except MemError as error:
        told = {"error": type(error).__name__, "text": str(error), "hint": error.hint}
    except MemoryError:
        text = f"{what}: reading it needs more memory than the child process may take"
        told = {"error": "TargetUnsupported", "text": text}
    except Exception as error:
        told = unexpected(error)
    return json.dumps(told).encode() + b"\n"


def unexpected(error: Exception) -> dict[str, str]:
    """Return what a child tells of an error: a line is all that a user can use. The variable shows
    the rest on stderr.
    """
    if os.environ.get("MEM_PROFILER_DEBUG"):
        with contextlib.suppress(OSError):
            sys.stderr.write("".join(traceback.format_exception(error)))
            sys.stderr.flush()
    text = f"unexpected {type(error).__name__}: {error}"
    return {"error": "MemError", "text": text, "hint": "MEM_PROFILER_DEBUG=1 shows where"}


def _unpacked(message: bytes) -> Any:
    try:
        told = json.loads(message)
        if "error" not in told:
            return told["result"]
        name, text, hint = told["error"], str(told.get("text")), told.get("hint")
    except (ValueError, KeyError, TypeError, RecursionError):
        raise MemError("a child process of mem_profiler gave an invalid answer") from None
    if name == "Stopped":
        raise Stopped
    kind = getattr(errors, str(name), MemError)
    if not (isinstance(kind, type) and issubclass(kind, MemError)):
        kind = MemError
    raise kind(text, hint=str(hint) if hint else None)


def limit_memory(more_bytes: int) -> None:
    """Limit this process to `more_bytes` more than it has mapped now."""
    with open("/proc/self/statm", "rb") as file:
        now_bytes = int(file.read().split()[0]) * resource.getpagesize()
    lower_limit(resource.RLIMIT_AS, now_bytes + more_bytes)


def read_only_descriptors() -> list[int]:
    """Return the open descriptors through which nothing can be written."""
    found = []
    for fd in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):  # the one that listed them
            if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
                found.append(fd)
    return found


def let_go_of_all_but(keep: Sequence[int]) -> None:
    """Redirect every descriptor but those in `keep` to nothing.

    Closes none: objects of the parent own these numbers and may close them at any time, which must
    not hit a file opened since.
    """
    nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    kept = {nowhere, *keep, *((2,) if os.environ.get("MEM_PROFILER_DEBUG") else ())}
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd not in kept:
            os.dup2(nowhere, fd, inheritable=False)
