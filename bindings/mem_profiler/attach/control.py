"""Attach to a process, look after it while it is captured, detach from it.

Model: attaching makes no capture. It puts the sampler in and leads the process's calls of malloc to
it; then the process is like one that was started with the sampler. Libraries that the process opens
later are led there when `Attachment.tick` sees new code in its maps. Detaching takes the hooks out
again; the library stays, cold.

The memory of the process is read by children only (`child`): its reading may never end.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import mem_profiler
from mem_parser.errors import (
    MemError,
    NoSampler,
    PermissionDenied,
    ProcessGone,
    TargetBusy,
    TargetError,
    TargetUnsupported,
)
from mem_parser.symbols.elf import ElfImage
from mem_profiler import doctor
from mem_profiler.attach import picture, remote
from mem_profiler.attach.images import Budget, images_of, program_of
from mem_profiler.attach.memory import Memory
from mem_profiler.attach.remote import Answer, Command
from mem_profiler.confined import child
from mem_profiler.confined.child import Asked, never
from mem_profiler.entries import planning
from mem_profiler.process import procfs
from mem_profiler.segment import discovery, folders, layout

LOOK_S = 0.5  # between two looks at the maps of a process that is captured
LOOK_LIMIT_S = 5.0  # what one look may take
LOOK_AGAIN_S = 30.0  # after one that took too long
READ_LIMIT_S = 20.0  # what reading the images of a process may take
ALLOCATOR = ("malloc", "free", "calloc", "realloc", "_Znwm", "_ZdlPv")


class Attachment:
    """A process that we attached to, for the time of a capture."""

    def __init__(self, pid: int, answer: Answer) -> None:
        self.pid = pid
        self.answer = answer
        self.rescans = 0
        self.late_s = 0.0  # the longest time that new code may have been there unseen
        # Without them, the first tick leads all modules to the sampler once more.
        self._slots: _Slots = {}
        try:
            self._slots = _slots(pid)
        except MemError:
            if procfs.is_ending(pid):
                raise ProcessGone(f"pid {pid} has ended") from None
        self._last_look = time.monotonic()
        self._next_look = self._last_look + LOOK_S

    def tick(self) -> None:
        """Lead new modules to the sampler where the process has opened any. Raises nothing: what
        cannot be done now is tried again at the next look.
        """
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + LOOK_S
        try:
            self._look(now)
        except (MemError, OSError):
            if time.monotonic() - now >= LOOK_LIMIT_S:
                self._next_look = time.monotonic() + LOOK_AGAIN_S

    def _look(self, now: float) -> None:
        """Raises MemError, OSError."""
        slots = _slots(self.pid, self._slots)
        if any(self._slots.get(key) != slot for key, slot in slots.items()):
            remote.run(self.pid, Command(remote.RESCAN))
            self.rescans += 1
            self.late_s = max(self.late_s, time.monotonic() - self._last_look)
            slots = _slots(self.pid, slots)
        self._slots = slots
        self._last_look = now

    def note(self) -> str | None:
        """What a file must say about code that came during its capture; None: there was none."""
        if self.rescans == 0:
            return None
        times = "once" if self.rescans == 1 else f"{self.rescans} times"
        return (
            f"libraries were opened during the capture, {times}; what they allocated in their first"
            f" {self.late_s:.1f} s may be missing"
        )

    def detach(self) -> Answer | None:
        """Take the hooks out; None when the process has ended. Raises MemError."""
        return None if procfs.is_gone(self.pid) else detach(self.pid)


@dataclass(frozen=True)
class _Slot:
    """One slot of an image through which it calls the allocator; `address` 0: it has none.

    A library that was closed and opened again lies where it lay, but its slot tells.
    """

    address: int
    value: int


_Slots = dict[tuple[int, int, int, str], _Slot]


def _slots(pid: int, known: _Slots | None = None) -> _Slots:
    """A slot of each image with code, by (device, inode, address, path). `known` spares looking
    for those that were found before. Raises MemError, OSError.
    """
    rows = child.call(lambda _: _read_slots(pid, known or {}), f"pid {pid}", LOOK_LIMIT_S)
    return {(d, i, at, path): _Slot(address, value) for d, i, at, path, address, value in rows}


def _read_slots(pid: int, known: _Slots) -> list[Any]:
    found = []
    with _reading(pid), Memory(pid) as memory:
        budget = Budget(f"pid {pid}", span_s=LOOK_LIMIT_S / 2)
        for image in images_of(procfs.maps(pid), memory, budget):
            first = image.mappings[0]
            key = (os.makedev(*first.device), first.inode, image.start, image.path)
            address = known[key].address if key in known else image.slot_of(ALLOCATOR)
            word = memory.try_read(address, 8) if address else None
            found.append([*key, address, int.from_bytes(word or b"", "little")])
    return found


@contextlib.contextmanager
def _reading(pid: int) -> Iterator[None]:
    """Turns what reading a process may fail with into MemError."""
    try:
        yield
    except PermissionError:
        raise PermissionDenied(f"pid {pid} may not be looked into by this user") from None
    except OSError as error:
        if procfs.is_ending(pid):
            raise ProcessGone(f"pid {pid} has ended") from None
        raise TargetError(f"pid {pid} cannot be read: {error.strerror}") from None


def is_attached(pid: int) -> bool:
    """Whether hooks of an attach are in the process now. Raises MemError."""
    try:
        with discovery.open_process(pid, writable=False) as segment:
            return _by_attach(segment.control().number("startup_flags"))
    except NoSampler:
        return False


def _by_attach(flags: int) -> bool:
    return bool(flags & layout.STARTUP_ATTACHED)


def _options() -> str:
    names = ("MAX_MEMORY", "UNWIND", "SEED")
    pairs = ((name, os.environ.get(f"MEM_PROFILER_{name}")) for name in names)
    return "".join(f"{name}={value}\n" for name, value in pairs if value)


def _folder(pid: int) -> str:
    """The base folder that the target shall use: ours, where both see the same files."""
    wanted = str(folders.segment_dir())
    if wanted == folders.DEFAULT_DIR:
        return ""

    def is_ours(_asked: Asked) -> bool:
        try:
            return os.path.samefile(f"/proc/{pid}/root{wanted}", wanted)
        except OSError:
            return False

    # In its mounts the folder may be anything, one that never answers too.
    return wanted if child.call(is_ours, f"pid {pid}", READ_LIMIT_S) else ""


def attach(pid: int, asked_to_stop: Asked = never) -> Attachment:
    """Put the sampler into a process that has none. Raises TargetError and its kinds, `Stopped`."""
    if pid == os.getpid():
        raise TargetUnsupported("a process cannot attach to itself")
    doctor.raise_blocker(f"pid {pid}", doctor.examine_process(pid, quick=True))
    if procfs.stat_fields(pid)[:1] == ["T"]:
        raise TargetBusy(f"pid {pid} is stopped", hint=f"kill -CONT {pid} lets it go on")
    _check_absent(pid)
    installed = mem_profiler.library_path()
    if not installed.is_file():
        raise MemError(f"the sampler {installed} is missing", hint="make build")
    bias, build_id = _look_inside(pid, asked_to_stop)
    _check_version(pid, build_id)
    folder, options = _folder(pid), _options()
    plan, refusal = _plan(pid, bias)
    command = Command(remote.BEGIN, str(installed), folder, options, plan)
    answer = remote.run(pid, command, asked_to_stop)
    if answer.result == -errno.EALREADY:
        raise TargetBusy(
            f"pid {pid} is attached to already", hint=f"mem_profiler detach {pid} ends that"
        )
    if answer.result == -errno.EBUSY:
        raise TargetBusy(f"somebody else attaches to pid {pid} at this moment")
    if answer.result == -errno.ENOTSUP:
        raise TargetUnsupported(f"pid {pid}: {refusal or answer.text}")
    if answer.result != 0:
        why = answer.text or os.strerror(-answer.result)
        raise TargetError(f"attaching to pid {pid} failed: {why}")
    return Attachment(pid, answer)


def _look_inside(pid: int, asked_to_stop: Asked) -> tuple[int | None, str | None]:
    """The load bias of the program, and the build-id of a sampler that lies in the process."""

    def look(_asked: Asked) -> list[Any]:
        with _reading(pid), Memory(pid) as memory:
            images = images_of(procfs.maps(pid), memory)
            program = program_of(pid, images)
        theirs = next((i for i in images if picture.LIBRARY.fullmatch(i.name)), None)
        return [program and program.bias, theirs and theirs.build_id.hex()]

    bias, build_id = child.call(look, f"pid {pid}", READ_LIMIT_S, asked_to_stop)
    return bias, build_id


def _plan(pid: int, bias: int | None) -> tuple[bytes, str]:
    """How to see an allocator that is part of the program, and why that is impossible.

    Both are empty where it has none. A refusal is not the end: libraries may call that allocator
    through slots, which the sampler sees and says.
    """
    if bias is None:
        return b"", ""
    try:
        return planning.of_file(f"/proc/{pid}/exe", bias, f"pid {pid}")
    except MemError as error:
        return b"", str(error)


def _check_absent(pid: int) -> None:
    try:
        with discovery.open_process(pid, writable=False) as segment:
            attached = _by_attach(segment.control().number("startup_flags"))
    except NoSampler:
        return
    if attached:
        raise TargetBusy(
            f"pid {pid} is attached to already",
            hint=f"mem_profiler -s 60 -p {pid} captures, mem_profiler detach {pid} detaches",
        )
    raise TargetBusy(
        f"pid {pid} was started with the sampler; there is no need to attach",
        hint=f"mem_profiler -s 60 -p {pid}",
    )


def _check_version(pid: int, build_id: str | None) -> None:
    """Refuse where another build of the sampler lies in the process: it cannot be taken out."""
    ours = ElfImage.open(str(mem_profiler.library_path()))
    ours.close()
    if build_id is not None and build_id != ours.build_id:
        raise TargetUnsupported(
            f"another version of the sampler lies in pid {pid} since an earlier attach",
            hint="use that version of mem_profiler, or restart the process",
        )


def detach(pid: int) -> Answer:
    """Take the hooks out of a process that was attached to. Raises TargetError and its kinds."""
    with discovery.open_process(pid, writable=False) as segment:
        if not _by_attach(segment.control().number("startup_flags")):
            raise TargetUnsupported(
                f"pid {pid} was started with the sampler, which stays for its life",
                hint=f"mem_profiler stop {pid} ends a capture",
            )
    answer = remote.run(pid, Command(remote.DETACH))
    if answer.result == -errno.EALREADY:
        raise NoSampler(f"pid {pid} is not attached to")
    if answer.result == -errno.EBUSY:
        raise TargetBusy(f"somebody else attaches to pid {pid} at this moment")
    if answer.result != 0:
        why = answer.text or os.strerror(-answer.result)
        raise TargetError(f"detaching from pid {pid} failed: {why}")
    return answer
