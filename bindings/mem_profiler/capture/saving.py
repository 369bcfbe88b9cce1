"""Write a capture's files: a child without rights reads the segment.

Model: the child makes the profiles of a capture from the segment and sends each file's bytes
through a pipe; this process copies them to where the user wants them, and interprets nothing of
them but their lengths. So no process with the user's rights parses a segment that a hostile target
wrote, and only this process writes to the folder of the results.

In the pipe: one line of JSON, the domains of the files; then for each file its pieces, each after
its length in 4 bytes, and a length of 0 at the end.
"""

from __future__ import annotations

import io
import json
import os
import re
import select
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, NoReturn

from mem_parser.errors import MemError, TargetBusy
from mem_parser.heapfile.form import Form
from mem_parser.heapfile.writer import write_heap_to
from mem_parser.model import Count, Profile, Unit
from mem_profiler.capture import output
from mem_profiler.capture.output import Where
from mem_profiler.events.collector import Log
from mem_profiler.profile.build import WRITER
from mem_profiler.profile.tables import cut_stacks
from mem_profiler.segment import layout
from mem_profiler.segment.file import Segment
from mem_sandbox import confine
from mem_sandbox.child import Asked, Child, whole_number, write_all

SAVE_LIMIT_S = 600.0
SILENCE_LIMIT_S = 300.0  # between two pieces: a million sites take some seconds
WAKE_S = 0.5
MEMORY_BYTES = 4 << 30  # a million sites with their live blocks take 1 GiB
PIECE_BYTES = 1 << 20
DOMAINS_MAX = 1 + layout.DOMAIN_ROWS
LAST_WORDS_S = 30.0  # for the child's message after its last file
FILE_TIMES, FILE_FLOOR_BYTES = 64, 64 << 20  # most bytes of a file, by the segment's bytes
NOTES_MAX, TEXT_MAX, COUNT_MAX = 100, 1000, 1 << 62
_DOMAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_END = re.compile(r"(?!signal)[a-z][a-z ]{0,30}|signal \d{1,3} [A-Z0-9+]{1,20}")

Make = Callable[[], list[Profile]]


@dataclass
class Result:
    """A written file, and the facts that a command prints about it.

    `exe_build_id` is that of the program as the file has it: empty if it has none, None if the
    program is not among the modules; `is_uncrossed` if others are, as under a JVM. `named`: the
    file holds the names of its addresses. `forked`: the process became no other program since.
    `peak_bytes`: estimated, 0 where the capture did not look for it. `inuse_bytes`: estimated.
    `peak_rss_bytes`: the highest that a reading saw, 0 where there was none.
    `until_s`: the time up to which the capture saw its process, 0 where that is unknown.
    `log` is that of the capture's events, where it has one.
    """

    path: str
    pid: int
    exe: str
    command: str
    kind: str
    end: str
    duration_s: float
    samples: int
    lost: int
    cut: int
    size_bytes: int
    notes: list[str]
    depth_limit: int
    domain: str
    comm: str = ""
    failed: int = 0
    packed: bool = False
    exe_build_id: str | None = None
    is_uncrossed: bool = False
    named: bool = False
    forked: bool = False
    peak_bytes: int = 0
    peak_rss_bytes: int = 0
    inuse_bytes: int = 0
    until_s: float = 0.0
    log: Log | None = None
    devices: list[Result] = field(default_factory=list)


def save(
    prefix: Where,
    pid: int,
    segment: Segment,
    make: Make,
    form: Form = Form.AUTO,
    *,
    keep: Sequence[int] = (),
) -> Result:
    """Write the profiles of a capture as the next files of `prefix` and `pid`. Raises MemError.

    `make` runs in the child, which has the segment's descriptor and those of `keep`, no other. The
    result is that of the first document, the host's; those of device memory are its `devices`.
    """
    read, write = os.pipe2(os.O_CLOEXEC)

    def work(_asked: Asked) -> list[dict[str, Any]]:
        profiles = make()
        packed = _send(write, profiles, form)
        return [
            _facts(profile) | {"packed": one} for profile, one in zip(profiles, packed, strict=True)
        ]

    try:
        with Child(
            work,
            f"pid {pid}",
            keep=(segment.fd, write, *keep),
            enter=confine.enter,
            memory_bytes=MEMORY_BYTES,
        ) as child:
            os.close(write)
            write = -1
            most = FILE_FLOOR_BYTES + FILE_TIMES * segment.used_bytes()
            return _receive(prefix, pid, _Pieces(read, child, most))
    except TargetBusy as error:
        raise MemError(str(error), hint=output.kept_hint(pid)) from None
    finally:
        os.close(read)
        if write >= 0:
            os.close(write)


def _receive(prefix: Where, pid: int, pieces: _Pieces) -> Result:
    domains = pieces.domains()
    fills: dict[str, Callable[[IO[bytes]], None]] = {
        "" if k == 0 else domain: pieces.copy for k, domain in enumerate(domains)
    }
    paths = output.write_files(prefix, pid, fills)
    told = pieces.child.result(LAST_WORDS_S)
    try:
        host, *others = [_result(path, pid, facts) for path, facts in zip(paths, told, strict=True)]
    except (TypeError, KeyError, ValueError, OverflowError, OSError):
        raise MemError(f"{paths[0]} is written, but its summary is invalid") from None
    host.devices = others
    return host


def _result(path: str, pid: int, facts: dict[str, Any]) -> Result:
    """The child's report on a file, validated: a hostile segment may control the child.

    Raises TypeError, KeyError, ValueError, OverflowError, OSError.
    """
    end = str(facts["end"])
    return Result(
        path=path,
        pid=pid,
        exe=_text(facts["exe"]),
        comm=_text(facts["comm"]),
        command=_text(facts["command"]),
        kind=_text(facts["kind"]),
        end=end if _END.fullmatch(end) else "unknown",
        duration_s=_seconds(facts["duration_s"]),
        samples=whole_number(facts["samples"], COUNT_MAX),
        lost=whole_number(facts["lost"], COUNT_MAX),
        cut=whole_number(facts["cut"], COUNT_MAX),
        size_bytes=os.stat(path).st_size,
        notes=[_text(note) for note in facts["notes"][:NOTES_MAX]],
        depth_limit=whole_number(facts["depth_limit"], COUNT_MAX),
        domain=_text(facts["domain"]),
        failed=whole_number(facts["failed"], COUNT_MAX),
        packed=bool(facts["packed"]),
        exe_build_id=None if facts["build_id"] is None else _text(facts["build_id"]),
        is_uncrossed=bool(facts["is_uncrossed"]),
        forked=bool(facts["forked"]),
        peak_bytes=whole_number(facts["peak_bytes"], COUNT_MAX),
        peak_rss_bytes=whole_number(facts["peak_rss_bytes"], COUNT_MAX),
        inuse_bytes=whole_number(facts["inuse_bytes"], COUNT_MAX),
        until_s=_seconds(facts["until_s"]),
    )


def _text(told: Any) -> str:
    return str(told)[:TEXT_MAX]


def _seconds(told: Any) -> float:
    if not isinstance(told, int | float) or not 0 <= told < COUNT_MAX:
        raise ValueError
    return float(told)


def _facts(profile: Profile) -> dict[str, Any]:
    """Runs in the child."""
    failed = profile.sites.failed_blocks
    exe = next((m for m in profile.modules if m.path == profile.capture.exe), None)
    names = (
        "comm", "exe", "command", "kind", "end", "duration_s", "samples", "notes", "depth_limit",
    )  # fmt: skip
    return {name: getattr(profile.capture, name) for name in names} | {
        "domain": profile.domains[0],
        "build_id": None if exe is None else exe.build_id or "",
        "is_uncrossed": exe is None and bool(profile.modules),
        "forked": bool(profile.capture.parent_pid),
        "inuse_bytes": round(profile.total(Count.INUSE, Unit.SPACE).value),
        "until_s": profile.captured_at_s or 0.0,
        "peak_bytes": round(profile.capture.peak_bytes or 0),
        "peak_rss_bytes": profile.capture.memory.peak_rss_bytes or 0,
        "lost": profile.samples_missing,
        "cut": cut_stacks(profile.sites, profile.stacks),
        "failed": 0 if failed is None else int(failed.sum()),
    }


class _Pieced(io.RawIOBase):
    """A file object that writes to the pipe, piece by piece. Runs in the child."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def writable(self) -> bool:
        """Always true."""
        return True

    def write(self, data: Any) -> int:
        """Send part of `data`; returns its length."""
        piece = bytes(memoryview(data)[:PIECE_BYTES])
        if piece:
            write_all(self._pipe, len(piece).to_bytes(4, "little") + piece)
        return len(piece)


def _send(pipe: int, profiles: list[Profile], form: Form) -> list[bool]:
    """Returns which files are packed. Runs in the child."""
    packed = []
    write_all(pipe, json.dumps([profile.domains[0] for profile in profiles]).encode() + b"\n")
    for profile in profiles:
        with io.BufferedWriter(_Pieced(pipe), PIECE_BYTES) as file:
            packed.append(write_heap_to(file, profile, writer=WRITER, form=form) is Form.GZIP)
        write_all(pipe, bytes(4))
    return packed


class _Pieces:
    """The other end of the pipe, with a timeout for a silent child."""

    def __init__(self, pipe: int, child: Child, most_bytes: int) -> None:
        self.child = child
        self._pipe = pipe
        self._left_bytes = most_bytes
        self._poll = select.poll()
        self._poll.register(pipe, select.POLLIN)
        self._give_up = time.monotonic() + SAVE_LIMIT_S

    def _exactly(self, size: int) -> bytes:
        parts = []
        while size:
            part = os.read(self._pipe, size) if self._ready() else b""
            if not part:
                self._fail()
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _ready(self) -> bool:
        """Wait until there is more, or the child has ended."""
        give_up = min(self._give_up, time.monotonic() + SILENCE_LIMIT_S)
        while time.monotonic() < give_up:
            if self._poll.poll(WAKE_S * 1000):
                return True
            self.child.wake()
        return False

    def _fail(self) -> NoReturn:
        """Raise the child's error about an incomplete file."""
        self.child.result(1.0)
        raise MemError("the child process of mem_profiler that reads the capture ended too early")

    def domains(self) -> list[str]:
        """The domains of the files, in their order."""
        line = bytearray()
        while not line.endswith(b"\n"):
            if len(line) > DOMAINS_MAX * 200:
                self._fail()
            line += self._exactly(1)
        try:
            names = json.loads(line)
        except (ValueError, RecursionError):
            names = None
        good = isinstance(names, list) and 0 < len(names) <= DOMAINS_MAX
        if not good or not all(isinstance(n, str) and _DOMAIN.fullmatch(n) for n in names):
            raise MemError("the names of the capture's domains are invalid")
        if len(set(names)) != len(names):
            raise MemError("two domains of the capture have one name")
        return [str(name) for name in names]

    def copy(self, out: IO[bytes]) -> None:
        """Write the next file's bytes to `out`."""
        while size := int.from_bytes(self._exactly(4), "little"):
            self._left_bytes -= size
            if size > PIECE_BYTES or self._left_bytes < 0:
                self._fail()
            out.write(self._exactly(size))
