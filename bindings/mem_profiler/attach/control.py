"""Attach to a process, update its hooks during a capture, detach from it.

Model: an attach starts no capture. It loads the sampler and redirects the process's calls of malloc
to it; then the process is like one that started with the sampler. Calls of libraries that the
process opens later are redirected at its next dlopen or dlsym; `Attachment.tick` redirects the rest
when it sees new code in the maps. A detach takes the hooks out again; the library stays, inactive.

Only children read the memory of the process (`child`): such a read may never end.
"""

from __future__ import annotations

import contextlib
import enum
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
    ProcessGone,
    TargetBusy,
    TargetError,
    TargetUnsupported,
)
from mem_profiler import doctor
from mem_profiler.attach import address_space, remote, threads
from mem_profiler.attach.images import Budget, images_of, program_of
from mem_profiler.attach.memory import Memory
from mem_profiler.attach.remote import Answer, Command
from mem_profiler.doctor import neighbours
from mem_profiler.entries import planning
from mem_profiler.process import procfs, tracing
from mem_profiler.samplerbuild import own_build_id
from mem_profiler.segment import discovery, folders, layout, usable
from mem_sandbox import child
from mem_sandbox.child import Asked, never

CHECK_S = 0.5  # between two readings of the maps during a capture
CHECK_LIMIT_S = 5.0  # limit of one such reading
RETRY_S = 30.0  # until the next one after a timeout
READ_LIMIT_S = 20.0  # limit of reading the images of a process
ALLOCATOR = ("malloc", "free", "calloc", "realloc", "_Znwm", "_ZdlPv")


Libraries = dict[str, int]
"""Load biases by path."""


class Need(enum.Enum):
    """What a capture needs an attach for: nothing, an allocator inside the program beside what the
    sampler sees, or everything.
    """

    NOTHING = enum.auto()
    MORE = enum.auto()
    ALL = enum.auto()


class Attachment:
    """The attach to one process, for the time of a capture."""

    def __init__(self, pid: int, answer: Answer, libraries: Libraries) -> None:
        self.pid = pid
        self.answer = answer
        self._libraries = libraries  # looked at for allocators of their own
        self.rescans = 0
        self._late = 0  # rescans that found calls to redirect
        self._late_s = 0.0  # the longest time in which such code may have run without hooks
        # Without them, the first tick redirects all modules once more.
        self._slots: _Slots = {}
        try:
            self._slots = _slots(pid)
        except MemError:
            if procfs.is_ending(pid):
                raise ProcessGone(f"pid {pid} has ended") from None
        self._last_check = time.monotonic()
        self._next_check = self._last_check + CHECK_S

    def tick(self) -> None:
        """Redirect the calls of new modules to the sampler. Raises nothing: after a failure the
        next reading tries again.
        """
        now = time.monotonic()
        if now < self._next_check:
            return
        self._next_check = now + CHECK_S
        try:
            self._rescan_changed(now)
        except (MemError, OSError):
            if time.monotonic() - now >= CHECK_LIMIT_S:
                self._next_check = time.monotonic() + RETRY_S

    def _rescan_changed(self, now: float) -> None:
        """Raises MemError, OSError."""
        slots = _slots(self.pid, self._slots)
        if any(self._slots.get(key) != slot for key, slot in slots.items()):
            plans = self._plans_of_new_libraries()
            answer = remote.run(self.pid, Command(remote.RESCAN, plan=plans))
            _note_stops(self.pid, answer)
            self.rescans += 1
            if answer.patched:
                self._late += 1
                self._late_s = max(self._late_s, time.monotonic() - self._last_check)
            slots = _slots(self.pid, slots)
        self._slots = slots
        self._last_check = now

    def _plans_of_new_libraries(self) -> bytes:
        libraries = _images(self.pid, never).libraries
        new = dict(libraries.items() - self._libraries.items())
        self._libraries = libraries
        return _plans(self.pid, b"", new)

    def note(self) -> str | None:
        """The note for a file about code that ran without hooks; None: no such code."""
        if self._late == 0:
            return None
        times = "once" if self._late == 1 else f"{self._late} times"
        return (
            f"the process opened libraries during the capture, {times}; allocations of their first"
            f" {self._late_s:.1f} s may be missing"
        )

    def detach(self) -> Answer | None:
        """Take the hooks out; None when the process has ended. Raises MemError."""
        return None if procfs.is_gone(self.pid) else detach(self.pid)


@dataclass(frozen=True)
class _Slot:
    """One slot of an image through which it calls the allocator; `address` 0: it has none.

    A library that was closed and opened again may have the same address, but its slot differs.
    """

    address: int
    value: int


_Slots = dict[tuple[int, int, int, str], _Slot]


def _slots(pid: int, known: _Slots | None = None) -> _Slots:
    """A slot of each image with code, by (device, inode, address, path). `known` has earlier
    results, which are not searched again. Raises MemError, OSError.
    """
    rows = child.call(lambda _: _read_slots(pid, known or {}), f"pid {pid}", CHECK_LIMIT_S)
    return {(d, i, at, path): _Slot(address, value) for d, i, at, path, address, value in rows}


def _read_slots(pid: int, known: _Slots) -> list[Any]:
    found = []
    with _reading(pid), Memory(pid) as memory:
        budget = Budget(f"pid {pid}", span_s=CHECK_LIMIT_S / 2)
        for image in images_of(procfs.maps(pid), memory, budget):
            first = image.mappings[0]
            key = (os.makedev(*first.device), first.inode, image.start, image.path)
            address = known[key].address if key in known else image.slot_of(ALLOCATOR)
            word = memory.try_read(address, 8) if address else None
            found.append([*key, address, int.from_bytes(word or b"", "little")])
    return found


@contextlib.contextmanager
def _reading(pid: int) -> Iterator[None]:
    """Convert the errors of reading a process to MemError."""
    try:
        yield
    except PermissionError:
        raise tracing.denied(pid) from None
    except OSError as error:
        if procfs.is_ending(pid):
            raise ProcessGone(f"pid {pid} has ended") from None
        raise TargetError(f"pid {pid} cannot be read: {error.strerror}") from None


def is_attached(pid: int) -> bool:
    """Whether the process has hooks of an attach now. Raises MemError."""
    try:
        with discovery.open_process(pid, writable=False) as segment:
            return _by_attach(segment.control().number("startup_flags"))
    except discovery.SegmentRemoved:
        return True  # only the sampler itself can tell
    except NoSampler:
        return False


def _by_attach(flags: int) -> bool:
    return bool(flags & layout.STARTUP_ATTACHED)


def _options(device: str | None) -> str:
    names = ("MAX_MEMORY", "MAX_TOTAL", "UNWIND", "SEED", "PYMEM", "ARENAS", "DEVICE")
    found = {name: os.environ.get(f"MEM_PROFILER_{name}") for name in names}
    if device is not None:
        found["DEVICE"] = device
    return "".join(f"{name}={value}\n" for name, value in found.items() if value)


def _folder(pid: int) -> str:
    """The base folder for the target: ours, where both see the same files."""
    wanted = str(folders.segment_dir())
    if wanted == folders.DEFAULT_DIR:
        return ""

    def is_ours(_asked: Asked) -> bool:
        try:
            return os.path.samefile(f"/proc/{pid}/root{wanted}", wanted)
        except OSError:
            return False

    # In its mounts the folder may be anything, even one that never answers.
    return wanted if child.call(is_ours, f"pid {pid}", READ_LIMIT_S) else ""


def attach(pid: int, asked_to_stop: Asked = never, device: str | None = None) -> Attachment:
    """Put the sampler into a process without it. ``device`` as of MEM_PROFILER_DEVICE, None: of the
    environment. Raises TargetError and its kinds, `Stopped`.
    """
    doctor.raise_blocker(f"pid {pid}", doctor.examine_process(pid, quick=True))
    if procfs.stat_fields(pid)[:1] == ["T"]:
        raise TargetBusy(f"pid {pid} is stopped", hint=f"kill -CONT {pid} continues it")
    preloaded = _is_preloaded(pid)
    installed = mem_profiler.library_path()
    if not installed.is_file():
        raise MemError(f"the sampler {installed} is missing", hint="make build")
    images = _images(pid, asked_to_stop)
    # The doctor read files; where it could not, as of a replaced one, the memory says it.
    if images.sampler is not None and images.sampler[1] != own_build_id():
        doctor.raise_blocker(f"pid {pid}", [neighbours.other_build(*images.sampler)])
    folder, options = _folder(pid), _options(device)
    plan, refusal = _plan(pid, images.bias)
    if preloaded and not plan and refusal:
        doctor.raise_blocker(f"pid {pid}", doctor.examine_process(pid))
        raise TargetUnsupported(f"pid {pid}: {refusal}")
    plans = _plans(pid, plan, {} if preloaded else images.libraries)
    flags = 0 if threads.any_filtered(pid) else remote.FOLLOW
    command = Command(remote.BEGIN, str(installed), folder, options, plans, flags)
    answer = remote.run(pid, command, asked_to_stop)
    if answer.result == -errno.EALREADY:
        # A followed child whose first sample was of this attach has a segment only now.
        _is_preloaded(pid)
        raise TargetBusy(
            f"mem_profiler is already attached to pid {pid}",
            hint=f"mem_profiler detach {pid} detaches",
        )
    if answer.result == -errno.EBUSY:
        raise TargetBusy(f"another mem_profiler is attaching to pid {pid} now", hint="try again")
    if answer.result == -errno.ENOTSUP and preloaded:
        # No slot can help here, so what only limits another attach is a blocker.
        doctor.raise_blocker(f"pid {pid}", doctor.examine_process(pid))
    if answer.result == -errno.ENOTSUP:
        raise TargetUnsupported(f"pid {pid}: {refusal or answer.text}")
    if answer.result != 0:
        why = answer.text or os.strerror(-answer.result)
        raise TargetError(f"attaching to pid {pid} failed: {why}")
    _note_stops(pid, answer)
    return Attachment(pid, answer, images.libraries)


def _note_stops(pid: int, answer: Answer) -> None:
    """Add to the segment how long threads stood still: the files of captures that follow say it,
    whoever makes them.
    """
    with (
        contextlib.suppress(MemError, OSError),
        discovery.open_process(pid, writable=True) as segment,
    ):
        field = "attach_stops"
        total_ns = segment.load((field, "total_ns")) + answer.held_ns
        longest_ns = max(segment.load((field, "longest_ns")), answer.longest_ns)
        segment.store((field, "total_ns"), min(total_ns, layout.U64_MAX))
        segment.store((field, "longest_ns"), longest_ns)
        times = segment.load((field, "times"), 32) + max(answer.holds, 1)
        segment.store((field, "times"), min(times, 0xFFFFFFFF), 32)


@dataclass(frozen=True)
class _Images:
    """The load bias of the program, path and build-id of a sampler in the process, and all else."""

    bias: int | None
    sampler: tuple[str, str] | None
    libraries: Libraries


def _images(pid: int, asked_to_stop: Asked) -> _Images:
    """Raises TargetError and its kinds, `Stopped`."""

    def read(_asked: Asked) -> list[Any]:
        with _reading(pid), Memory(pid) as memory:
            images = images_of(procfs.maps(pid), memory)
            program = program_of(pid, images)
        theirs = next((i for i in images if address_space.LIBRARY.fullmatch(i.name)), None)
        sampler = theirs and [theirs.path, theirs.build_id.hex()]
        libraries = {image.path: image.bias for image in images if image is not program}
        return [program and program.bias, sampler, libraries]

    bias, sampler, libraries = child.call(read, f"pid {pid}", READ_LIMIT_S, asked_to_stop)
    return _Images(bias, sampler and (sampler[0], sampler[1]), libraries)


def _plans(pid: int, plan: bytes, libraries: Libraries) -> bytes:
    """The plan for the program and those for libraries, as many as there is room for."""
    named = {f"/proc/{pid}/root{path}": bias for path, bias in libraries.items()}
    with contextlib.suppress(MemError):
        for other in planning.of_libraries(named).values() if named else ():
            if len(plan) + len(other) <= remote.PLAN_MAX_BYTES:
                plan += other
    return plan


def _plan(pid: int, bias: int | None) -> tuple[bytes, str]:
    """The plan for an allocator that is part of the program, and the reason if there is none.

    Both are empty if the program has no allocator. A refusal does not stop the attach: libraries
    may call that allocator through slots, which the sampler sees and reports.
    """
    if bias is None:
        return b"", ""
    try:
        return planning.of_file(f"/proc/{pid}/exe", bias, f"pid {pid}")
    except MemError as error:
        return b"", str(error)


def need(pid: int) -> Need:
    """What a capture of a process that may have a sampler needs an attach for. Raises MemError."""
    try:
        with discovery.open_process(pid, writable=False) as segment:
            control = segment.control()
    except NoSampler:
        return Need.ALL
    if usable.is_behind_program(control):
        return Need.ALL
    if not usable.may_be_beside_program(control) or usable.is_captured(control, pid):
        return Need.NOTHING
    try:
        data, _ = planning.of_file(f"/proc/{pid}/exe", 0, f"pid {pid}")
    except MemError:
        return Need.NOTHING  # the file of the capture says so
    return Need.MORE if data else Need.NOTHING


def _is_preloaded(pid: int) -> bool:
    """Whether a sampler is there already, behind the program's own malloc or beside it.

    Raises TargetBusy where one is there that needs no attach, TargetUnsupported where none helps.
    """
    try:
        with discovery.open_process(pid, writable=False) as segment:
            control = segment.control()
    except NoSampler:
        return False
    if usable.is_behind_program(control):
        return True
    if _by_attach(control.number("startup_flags")):
        raise TargetBusy(
            f"mem_profiler is already attached to pid {pid}",
            hint=f"mem_profiler -s 60 -p {pid} captures, mem_profiler detach {pid} detaches",
        )
    captured = usable.is_captured(control, pid)
    unseen = planning.unseen(f"/proc/{pid}/exe", f"pid {pid}")
    if not usable.may_be_beside_program(control) or not unseen:
        rest = " and is being captured" if captured else ""
        raise TargetBusy(
            f"pid {pid} was started with the sampler{rest}; there is no need to attach",
            hint=usable.captured_hint(pid) if captured else f"mem_profiler -s 60 -p {pid}",
        )
    if captured:
        raise TargetBusy(
            f"pid {pid} is being captured, without the program's own allocator",
            hint=f"mem_profiler stop {pid} ends that capture",
        )
    return True


def detach(pid: int) -> Answer:
    """Take the hooks of an attach out of a process. Raises TargetError and its kinds."""
    preloaded = f"pid {pid} was started with the sampler, which stays until the process ends"
    removed = False
    try:
        with discovery.open_process(pid, writable=False) as segment:
            if not _by_attach(segment.control().number("startup_flags")):
                raise TargetUnsupported(preloaded, hint=f"mem_profiler stop {pid} ends a capture")
    except discovery.SegmentRemoved:
        removed = True  # the sampler itself says what it is
    answer = remote.run(pid, Command(remote.DETACH))
    if answer.result == -errno.EALREADY and removed:
        raise TargetUnsupported(preloaded, hint="its segment was removed: root can capture it")
    if answer.result == -errno.EALREADY:
        raise NoSampler(f"mem_profiler is not attached to pid {pid}")
    if answer.result == -errno.EBUSY:
        raise TargetBusy(f"another mem_profiler is attaching to pid {pid} now", hint="try again")
    if answer.result != 0:
        why = answer.text or os.strerror(-answer.result)
        raise TargetError(f"detaching from pid {pid} failed: {why}")
    return answer
