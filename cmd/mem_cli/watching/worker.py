"""Worker processes that read and name a target's data, and the viewer's end of them.

Model: for each process that is watched there are two children of the forkserver.

- The *reader* has no rights at all (`confine.enter`): as root it is a user of its own, it opens no
  file but those that everybody may read, starts no program, reaches no network. It has the segment
  to read only, and makes the answers (`Answers`), which each command has of its own.
- The *namer* opens the programs that the target has mapped, and the files in which it lists the
  code that it makes (`codecopies`), for the reader, with which it talks directly. As root it is the
  user of the target; for a target of root's that may do less than root, as in a container, a user
  of its own.

The viewer, a server or a terminal, sends questions and gets bytes, of which this module reads the
length. Both children end with the
watch, or when one of them does.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import pickle
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from mem_cli.watching import codecopies
from mem_cli.watching.codecopies import Copying, Place
from mem_parser import errors
from mem_parser.errors import MemError, TargetBusy
from mem_parser.escape import json_ascii
from mem_parser.model import Profile
from mem_parser.symbols import remote_files
from mem_parser.symbols.cache import CACHE_VARIABLE
from mem_profiler.live.jit_watch import MadeNames
from mem_profiler.live.watched import Facts, State
from mem_profiler.process import procfs, stillmapped
from mem_profiler.process.codefiles import CodeFiles
from mem_profiler.process.pagemap import ENDED_NOTE
from mem_profiler.profile.build import build
from mem_profiler.profile.keptstacks import KeptStacks
from mem_profiler.segment import devices, presence
from mem_profiler.segment.file import Segment
from mem_sandbox import confine
from mem_sandbox.child import limit_memory, unexpected
from mem_sandbox.confine import Owner
from mem_sandbox.forkserver import Forkserver, Started, Work
from mem_sandbox.messages import Broken, Idle, do_nothing, receive, send
from mem_sandbox.syscalls import die_with_parent

MEMORY_BYTES = 2 << 30
CPU_S = 1 << 30
"""It has no end of its own: a question has one."""
ANSWER_MAX_BYTES = 256 << 20
QUESTION_MAX_BYTES = 256 << 20
FILES_MAX_BYTES = 64 << 20
"""Of a question of files, and of its answer."""
TAKE_LIMIT_S = 600.0
"""For a moment: the first one reads the debug information of all programs."""
MAKE_LIMIT_S = 60.0


Read = Callable[[Facts], list[Profile]]
Question = tuple[str | int | float | bool, ...]
Given = tuple[str, int, tuple[str, ...]]
"""Of a segment: its path, the most bytes to reserve, notes on what cannot be read beside it."""


@dataclasses.dataclass(frozen=True)
class About:
    """What the viewer knows of a moment: nothing that the target wrote. ``seq`` grows with each;
    ``at_s`` is of the monotonic clock, ``clock`` the time of day; ``own``: the capture is the
    viewer's, at the end of the process: left to `recover`; ``why`` is of `State.ENDED`.
    """

    seq: int
    pid: int
    at_s: float
    clock: str
    state: State
    own: bool = False
    why: str = ""
    program: str = ""


class Answers(Protocol):
    """All that a viewer wants to know of one process. It is used by one thread."""

    def take(self, about: About, facts: Facts | None) -> None:
        """Read what the process has now; ``facts`` None: it has had no capture. Raises MemError,
        MemoryError, OSError.
        """

    def make(self, question: Question) -> bytes:
        """Answer a question about the latest moment. Raises MemError, MemoryError, ValueError,
        ArithmeticError.
        """


OpenAnswers = Callable[[Read], Answers]
"""From what makes profiles of the segment."""


def works(open_answers: OpenAnswers) -> Mapping[str, Work]:
    """Return what the children of a forkserver do for a viewer."""
    return {"read": functools.partial(read_process, open_answers), "name": name_files}


# In the reader.


def read_process(open_answers: OpenAnswers, given: Given, fds: Sequence[int]) -> None:
    """Answer questions about a process until the server closes its end. ``fds``: the segment, the
    server, the namer; then of a process whose mappings are followed the lists of them.
    """
    segment_fd, server, namer, *lists = fds
    parent = os.getppid()
    limit_memory(MEMORY_BYTES)
    confine.enter(CPU_S)
    die_with_parent(parent)
    remote_files.ask_by(lambda question: _ask_namer(namer, question))
    _answer_all(server, lambda: open_answers(_reading(segment_fd, namer, given, lists)))


def _reading(segment_fd: int, namer: int, given: Given, lists: list[int]) -> Read:
    path, reserve_max_bytes, notes = given
    segment = Segment(segment_fd, path, writable=False)
    segment.reserve_max_bytes = reserve_max_bytes
    stacks = KeptStacks(segment)
    made = MadeNames(functools.partial(codecopies.find, namer))

    def read(facts: Facts) -> list[Profile]:
        mapped = None if facts.ending.target_ended else stillmapped.of_descriptors(lists)
        ending = dataclasses.replace(facts.ending, notes=(*facts.ending.notes, *notes))
        profiles = build(segment, facts.target, ending, facts.readings, stacks, mapped=mapped)
        made.put(profiles, facts.target.mappings)
        return profiles

    return read


def _answer_all(server: int, open_answers: Callable[[], Answers]) -> None:
    answers: Answers | None = None
    while (message := receive(server, QUESTION_MAX_BYTES)) is not None:
        began_s, body = time.process_time(), b""
        told: dict[str, Any] = {}
        try:
            answers = answers or open_answers()
            body = _answered(answers, message.head, message.body)
        except MemError as error:
            told = {"error": type(error).__name__, "text": str(error), "hint": error.hint}
        except MemoryError:
            told = {"error": "TargetUnsupported", "text": "reading it needs too much memory"}
        except Exception as error:
            told = unexpected(error) | {"error": "TargetError"}
        send(server, told | {"cpu_s": time.process_time() - began_s}, body)


def _answered(answers: Answers, question: Question, body: bytes) -> bytes:
    if question[0] == "take":
        about, facts = pickle.loads(body)  # noqa: S301 - from the server, which has more rights
        answers.take(about, facts)
        return b""
    return answers.make(tuple(question))


def _ask_namer(namer: int, question: Any) -> Any:
    try:
        send(namer, None, json_ascii(question).encode())
        message = receive(namer, FILES_MAX_BYTES, TAKE_LIMIT_S)
        if message is None:
            raise Broken("it has ended")
        return json.loads(message.body)
    except (Broken, TimeoutError, ValueError, RecursionError) as error:
        raise MemError(f"the process that reads programs does not answer: {error}") from None


# In the namer.


def owner_of(pid: int) -> Owner:
    """Return the effective user of a process; this process's own where it is gone."""
    words = procfs.status_words(pid)
    try:
        uid, gid = (int(words[name].split()[1]) for name in ("Uid", "Gid"))
        groups = tuple(int(word) for word in words["Groups"].split())
        return Owner(uid, gid, groups, _is_equal(pid, int(words["CapEff"], 16)))
    except (KeyError, IndexError, ValueError):
        return Owner(os.geteuid(), os.getegid())


def _is_equal(pid: int, capabilities: int) -> bool:
    """Tell whether a process of root's is in no container, and has all rights of this one."""
    mine = int(procfs.status_words("self").get("CapEff", "0"), 16)
    try:
        same = all(
            os.stat(f"/proc/{pid}/ns/{kind}").st_ino == os.stat(f"/proc/self/ns/{kind}").st_ino
            for kind in ("mnt", "user")
        )
        same = same and os.path.samefile(f"/proc/{pid}/root", "/proc/self/root")
    except OSError:
        return False
    return same and not mine & ~capabilities


def name_files(given: tuple[Owner, Place | None], fds: Sequence[int]) -> None:
    """Answer questions of files until the reader closes its end. ``fds``: the reader, and folders
    of the target.
    """
    owner, place = given
    reader, *places = fds
    copying = Copying(place, places)
    parent = os.getppid()
    before = os.geteuid()
    confine.become(owner)
    die_with_parent(parent)
    if os.geteuid() != before:
        os.environ[CACHE_VARIABLE] = ""  # that of the environment is another user's
    while (message := receive(reader, FILES_MAX_BYTES)) is not None:
        if message.head is not None:
            copying.answer(reader, message.head)
            continue
        told = remote_files.answer(json.loads(message.body))
        send(reader, None, json_ascii(told).encode())


# In the viewer.


class Worker:
    """The reader and the namer of one process. Close it in the end."""

    def __init__(
        self,
        forkserver: Forkserver,
        pid: int,
        segment: Segment,
        code_files: CodeFiles | None = None,
    ) -> None:
        """Start them; they get the segment to read only. Raises MemError."""
        self._pid = pid
        self._born: list[Started] = []
        self.cost_s = 0.0
        ours, theirs = socket.socketpair()
        reader, namer = socket.socketpair()
        opened: list[int] = []
        try:
            opened.append(os.open(f"/proc/self/fd/{segment.fd}", os.O_RDONLY | os.O_CLOEXEC))
            lists, notes = _lists(pid, segment)
            opened += lists
            place = None if code_files is None else Place.of(code_files, segment)
            places = () if code_files is None else code_files.places
            named = (owner_of(pid), place)
            self._born.append(forkserver.start("name", named, (namer.fileno(), *places)))
            given = (segment.path, segment.reserve_max_bytes, notes)
            fds = (opened[0], theirs.fileno(), reader.fileno(), *lists)
            self._born.append(forkserver.start("read", given, fds))
        except (OSError, MemError) as error:
            ours.close()
            self._end()
            raise MemError(f"pid {pid} cannot be read: {error}") from None
        finally:
            for fd in opened:
                os.close(fd)
            for one in (theirs, reader, namer):
                one.close()
        self._socket: socket.socket | None = ours
        self._file = _file_of(segment)

    def reads(self, segment: Segment) -> bool:
        """Tell whether it reads this segment, and still runs."""
        return self._socket is not None and _file_of(segment) == self._file

    @property
    def has_failed(self) -> bool:
        """Whether it has ended."""
        return self._socket is None

    def take(self, about: About, facts: Facts | None, idle: Idle = do_nothing) -> None:
        """Let it read what the process has now. ``idle`` is called while it does, and may raise.
        Raises MemError.
        """
        if facts is not None and facts.state is not State.ENDED:
            # Moments are for what a process had before it freed all, and may be large.
            readings = dataclasses.replace(facts.readings, moments=type(facts.readings.moments)())
            facts = dataclasses.replace(facts, readings=readings)
        self._ask(("take",), pickle.dumps((about, facts)), TAKE_LIMIT_S, idle)

    def make(self, question: Question, idle: Idle = do_nothing) -> bytes:
        """Return its answer, of which nothing is known. Raises MemError."""
        return self._ask(question, b"", MAKE_LIMIT_S, idle)

    def _ask(self, question: Question, body: bytes, limit_s: float, idle: Idle) -> bytes:
        if self._socket is None:
            raise TargetBusy(f"the process that reads pid {self._pid} has ended")
        began_s = time.monotonic()
        try:
            send(self._socket.fileno(), question, body)
            message = receive(self._socket.fileno(), ANSWER_MAX_BYTES, limit_s, idle)
            if message is None:
                raise Broken("it has ended")
            found = _understood(message.head)
        except Broken as error:
            self.close()
            raise TargetBusy(f"the process that reads pid {self._pid} failed: {error}") from None
        except TimeoutError:
            self.close()
            raise TargetBusy(
                f"pid {self._pid}: {_text_of(question)} took longer than {limit_s:.0f} s"
            ) from None
        except BaseException:
            self.close()  # an answer would be taken for that of the next question
            raise
        self.cost_s += min(max(found.cost_s, 0.0), time.monotonic() - began_s)
        if found.error is not None:
            raise found.error
        return message.body

    def close(self) -> None:
        """End both. A second call does nothing."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._end()

    def _end(self) -> None:
        for one in self._born:
            one.close()
        self._born.clear()


def _lists(pid: int, segment: Segment) -> tuple[list[int], tuple[str, ...]]:
    """The descriptors of a process's mappings, where they are followed, and what is missing."""
    control = segment.control()
    if "mmap" not in devices.asked(control):
        return [], ()
    opened, notes = presence.open_of(pid, control, stillmapped.LISTS) or ([], [ENDED_NOTE])
    return opened, tuple(notes)


def _text_of(question: Question) -> str:
    """Return a question as a line, for errors."""
    return " ".join(map(str, question))[:100]


def _file_of(segment: Segment) -> tuple[int, int]:
    status = os.fstat(segment.fd)
    return status.st_dev, status.st_ino


@dataclasses.dataclass(frozen=True)
class _Told:
    cost_s: float
    error: MemError | None


def _understood(head: Any) -> _Told:
    """Return what the head of an answer says. Raises Broken."""
    try:
        cost_s, name = head["cpu_s"], head.get("error")
        if not isinstance(cost_s, int | float) or not 0 <= cost_s < CPU_S:
            raise ValueError
        if name is None:
            return _Told(float(cost_s), None)
        kind = getattr(errors, str(name))
        if not (isinstance(kind, type) and issubclass(kind, MemError)):
            raise TypeError
        hint = head.get("hint")
        text = errors.one_line(str(head["text"]))[:1000]
        return _Told(float(cost_s), kind(text, hint=None if hint is None else str(hint)[:1000]))
    except (LookupError, TypeError, ValueError, AttributeError):
        raise Broken("its answer makes no sense") from None
