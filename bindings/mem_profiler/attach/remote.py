"""Run one command of the sampler inside another process.

Model: `run` reads the address space, tries threads until it can borrow one, and follows the loader
thread through the frame in the target's memory: write the library, wait for the answer, release the
loader. Every wait ends; when the user asks to stop, `run` tells the loader to give up, which it
does unless it is inside the sampler already.

Where the process has the sampler already (it is never unloaded), the loader opens nothing and calls
its function there.

A child (`child`) does all of it, since reading the memory of a hostile process may never end. A
kill of the child at any moment does no harm: the process goes on. The child opens no file that the
process names, and writes only into the process's own memory.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import time
from dataclasses import dataclass
from typing import Any

import mem_profiler
from mem_parser.errors import (
    PermissionDenied,
    ProcessGone,
    TargetBusy,
    TargetError,
    TargetUnsupported,
    UsageProblem,
)
from mem_parser.processfacts import AttachStops
from mem_profiler._inject import ffi, lib
from mem_profiler.attach import address_space, kill_points, lock, threads
from mem_profiler.attach.address_space import AddressSpace
from mem_profiler.attach.memory import Memory
from mem_profiler.process import procfs, tracing
from mem_sandbox import child
from mem_sandbox.child import Asked, Stopped, never

BORROW_MS = 3000  # one thread: far longer than creating a thread takes
SEARCH_S = 5.0  # for a thread at a safe point
ANSWER_S = 15.0  # for dlopen and the sampler's own work
LEAVE_S = 2.0  # for the loader to remove the region
WHOLE_S = 60.0  # more than all of these together, twice: then the child hangs in the kernel
POLL_S = 0.0005
POLL_MAX_S = 0.01
ROUND_S = 0.02
TRIES_PER_ROUND = 6
RUNNING_FROM_ROUND = 3  # from this round on, try threads that run their own code too
PLAN_MAX_BYTES = int(lib.MP_PLAN_BYTES)

BEGIN, RESCAN, DETACH = lib.MP_ATTACH_BEGIN, lib.MP_ATTACH_RESCAN, lib.MP_ATTACH_DETACH
FOLLOW = lib.MP_ATTACH_FOLLOW  # of Command.flags

_UNSAFE = {
    lib.MP_UNSAFE_RUNNING: "runs",
    lib.MP_UNSAFE_SYSCALL: "is in a system call that must not be interrupted",
    lib.MP_UNSAFE_FORBIDDEN: "is inside the allocator or the loader",
    lib.MP_UNSAFE_FUTEX: "waits for a lock",
    lib.MP_UNSAFE_UNKNOWN: "has callers that its stack does not show",
    lib.MP_UNSAFE_SEQUENCE: "is in a restartable sequence",
    lib.MP_UNSAFE_STOPPED: "is stopped",
}


@dataclass(frozen=True)
class Answer:
    """The answer of the sampler's function. `held_ns`: how long the engine held threads, all
    `holds` of them together, those in vain included; `longest_ns`: the longest of them.
    """

    result: int
    text: str
    patched: int
    restored: int
    failed: int
    modules: int
    held: int
    kept: int
    held_ns: int
    longest_ns: int
    holds: int

    @property
    def stops(self) -> AttachStops:
        """The same in seconds."""
        return AttachStops(max(self.holds, 1), self.held_ns / 1e9, self.longest_ns / 1e9)


@dataclass(frozen=True)
class Command:
    """One command: BEGIN, RESCAN or DETACH. Paths as the target sees them."""

    number: int
    installed_path: str = ""
    folder: str = ""
    options: str = ""
    plan: bytes = b""
    flags: int = 0


def run(pid: int, command: Command, asked_to_stop: Asked = never) -> Answer:
    """Run a command in a process and return its answer, good or bad.

    Raises TargetError and its kinds where the command did not run, `Stopped` where the user stopped
    it.
    """
    told = child.call(
        lambda asked: dataclasses.asdict(_in_child(pid, command, asked)),
        f"pid {pid}",
        WHOLE_S,
        asked_to_stop,
    )
    return _answer(told)


def _answer(told: Any) -> Answer:
    """The checked answer of the child, which read a foreign process."""
    try:
        values: dict[str, Any] = {
            field.name: (str if field.name == "text" else int)(told[field.name])
            for field in dataclasses.fields(Answer)
        }
        return Answer(**values)
    except (TypeError, KeyError, ValueError, OverflowError):
        raise TargetError(
            "the child process of mem_profiler that attaches gave an invalid answer"
        ) from None


def _in_child(pid: int, command: Command, asked_to_stop: Asked) -> Answer:
    try:
        with lock.held(pid), Memory(pid, writable=True) as memory:
            return _run(pid, command, memory, asked_to_stop)
    except PermissionError:
        raise tracing.denied(pid) from None
    except (ProcessLookupError, FileNotFoundError):
        raise ProcessGone(f"pid {pid} has ended") from None
    except OSError as error:
        if procfs.is_ending(pid):
            raise ProcessGone(f"pid {pid} has ended") from None
        raise TargetError(f"the memory of pid {pid} cannot be read: {error.strerror}") from None


def _run(pid: int, command: Command, memory: Memory, asked_to_stop: Asked) -> Answer:
    space = address_space.read(pid, memory)
    library = mem_profiler.library_path().read_bytes() if space.library is None else b""
    frame = _frame(space, command, len(library))
    borrowed = _borrow(space, frame, command.plan, asked_to_stop)
    talk = _Talk(pid, borrowed, memory, library, asked_to_stop)
    talk.follow()
    failure = talk.field("failure")
    if failure == lib.MP_FAILED_MEMFD and _same_mounts(pid):
        # It can make no memory file, but the library's path means the same to the target.
        # Through /proc: opened from there, the sampler begins nothing by itself.
        frame.path = os.fsencode(f"/proc/self/root{mem_profiler.library_path()}")
        borrowed = _after(borrowed, _borrow(space, frame, command.plan, asked_to_stop))
        talk = _Talk(pid, borrowed, memory, b"", asked_to_stop)
        talk.follow()
        failure = talk.field("failure")
    if failure in (lib.MP_FAILED_NOT, lib.MP_FAILED_CALL):
        return talk.answer()
    if failure == lib.MP_FAILED_WAIT and asked_to_stop():
        raise Stopped
    raise talk.error()


def _same_mounts(pid: int) -> bool:
    try:
        return os.stat(f"/proc/{pid}/ns/mnt").st_ino == os.stat("/proc/self/ns/mnt").st_ino
    except OSError:
        return False


def _frame(space: AddressSpace, command: Command, library_bytes: int) -> Any:
    frame = ffi.new("struct mp_payload_frame *")
    frame.library_bytes = library_bytes
    for name, address in space.functions.items():
        setattr(frame, name, address)
    frame.dlopen_flags = space.dlopen_flags
    frame.memfd_name = b"libmem_sampler.so"
    # The loader knows libraries by name: "/./" makes ours differ from those of other injectors.
    frame.proc_self, frame.proc, frame.fd_folder = b"/proc/self", b"/proc/", b"/./fd/"
    frame.symbol = address_space.FUNCTION.encode()
    if space.library is not None:
        frame.dlopen = 0
        frame.entry = space.library.address_of(address_space.FUNCTION)
    request = frame.request
    request.version = lib.MP_ATTACH_VERSION
    request.command, request.flags = command.number, command.flags
    request.installed_path = _fitting(os.fsencode(command.installed_path), request.installed_path)
    request.dir = _fitting(os.fsencode(command.folder), request.dir)
    request.options = _fitting(command.options.encode(), request.options)
    return frame


def _fitting(text: bytes, array: Any) -> bytes:
    room = len(array) - 1
    if len(text) > room:
        shown = text.decode("utf-8", "replace")
        raise UsageProblem(f"{shown} is longer than the {room} bytes that an attach can pass")
    return text


@dataclass
class _Borrowed:
    """A borrowed thread, with the region that it left behind; the holds as in `Answer`."""

    tid: int
    region: int
    held_ns: int
    longest_ns: int
    holds: int


def _after(first: _Borrowed, second: _Borrowed) -> _Borrowed:
    """The second of two borrowings of one command, with the holds of both."""
    return _Borrowed(
        second.tid,
        second.region,
        first.held_ns + second.held_ns,
        max(first.longest_ns, second.longest_ns),
        first.holds + second.holds,
    )


def _job(space: AddressSpace, plan: bytes) -> tuple[Any, list[Any]]:
    """The engine's job without the thread, and the objects that must live as long as it."""
    modules = ffi.new(
        "struct mp_inject_module[]",
        [(image.start, image.end, image.header) for image in space.images],
    )
    ranges = ffi.new("struct mp_inject_range[]", [(*row, 0) for row in space.ranges])
    waits = ffi.new("int64_t[]", list(threads.WAIT_RANK))
    rests = ffi.new("int64_t[]", list(threads.RESTS))
    job = ffi.new("struct mp_inject_job *")
    job.pid, job.pad, job.pad_bytes = space.pid, space.pad, space.pad_bytes
    job.modules, job.module_count = modules, len(space.images)
    job.ranges, job.range_count = ranges, len(space.ranges)
    job.waits, job.wait_count = waits, len(threads.WAIT_RANK)
    job.rests, job.rest_count = rests, len(threads.RESTS)
    job.futex, job.restart = threads.FUTEX, threads.RESTART
    job.timeout_ms = BORROW_MS
    job.filtered = _filtered(space.pid)
    job.kill_at, job.kill_pid = kill_points.of_engine(space.pid)
    keep = [modules, ranges, waits, rests]
    if plan:
        if len(plan) > PLAN_MAX_BYTES:
            raise TargetUnsupported(f"the allocator of pid {space.pid} has too many entry points")
        data = ffi.new("char[]", plan)
        job.plan, job.plan_bytes = data, len(plan)
        keep.append(data)
    return job, keep


def _filtered(pid: int) -> int:
    """0: no seccomp filter; 1: filters to read first; 2: the same filters as ours.

    In a container without the right to read filters, the target's filters are the container's: as
    many as ours, under which we run.
    """
    theirs, ours = procfs.status_words(pid), procfs.status_words(os.getpid())
    if theirs.get("Seccomp", "0") != "2":
        return 0
    count = theirs.get("Seccomp_filters")
    return 2 if count is not None and count == ours.get("Seccomp_filters") else 1


def _candidates(space: AddressSpace, round_number: int) -> list[tuple[int, bool]]:
    """(thread, whether the engine may borrow it while it runs) to try in this round."""
    found = [(tid, False) for tid in threads.waiting(space.pid)]
    # Each round begins with another thread, so that a hopeless one does not hide the others.
    shift = round_number % len(found) if found and round_number > 0 else 0
    found = found[shift:] + found[:shift]
    if round_number >= RUNNING_FROM_ROUND:
        waiting = {tid for tid, _ in found}
        running = [tid for tid in threads.ids(space.pid) if tid not in waiting]
        shift = round_number % len(running) if running else 0
        found += [(tid, True) for tid in running[shift:] + running[:shift]]
    return found[:TRIES_PER_ROUND]


def _borrow(space: AddressSpace, frame: Any, plan: bytes, asked_to_stop: Asked) -> _Borrowed:
    job, keep = _job(space, plan)
    try:
        return _search(space, job, frame, asked_to_stop)
    finally:
        lib.mp_inject_close(job)
        del keep


def _search(space: AddressSpace, job: Any, frame: Any, asked_to_stop: Asked) -> _Borrowed:
    """Try threads until the engine can borrow one. Raises TargetError, `Stopped`."""
    give_up = time.monotonic() + SEARCH_S
    unsafe = lib.MP_UNSAFE_SYSCALL
    round_number = 0
    while time.monotonic() < give_up:
        for tid, may_run in _candidates(space, round_number):
            job.tid, job.may_run = tid, may_run
            code = lib.mp_inject_borrow(job, frame)
            if code == 0:
                return _Borrowed(tid, job.region, job.held_ns, job.longest_ns, job.holds)
            if code == -errno.EAGAIN and job.unsafe != lib.MP_UNSAFE_NOT:
                unsafe = job.unsafe
            elif code != -errno.ESRCH or procfs.is_ending(space.pid):
                raise _refused(space.pid, -code, ffi.string(job.text).decode(), job.step)
            if unsafe == lib.MP_UNSAFE_STOPPED:
                raise TargetBusy(
                    f"pid {space.pid} is stopped", hint=f"kill -CONT {space.pid} continues it"
                )
        if asked_to_stop():
            raise Stopped
        if procfs.is_ending(space.pid):
            raise ProcessGone(f"pid {space.pid} has ended")
        time.sleep(ROUND_S)
        round_number += 1
    raise TargetBusy(
        f"pid {space.pid} was at no safe point for {SEARCH_S:.0f} s: its thread {_UNSAFE[unsafe]}",
        hint="try again, or start it with `mem_profiler run`",
    )


def _refused(pid: int, code: int, text: str, step: int) -> TargetError:
    if code == errno.ESRCH or procfs.is_ending(pid):
        return ProcessGone(f"pid {pid} has ended")
    if code == errno.ETIMEDOUT:
        return TargetBusy(
            f"pid {pid} made no new thread in time; mem_profiler restored it", hint="try again"
        )
    if step >= lib.MP_STEP_CREATED:
        return TargetError(
            f"pid {pid} cannot make a new thread: {text}",
            hint="see ulimit -u, and the limits and the seccomp profile of its container",
        )
    if code == errno.EPERM:
        tracer = procfs.tracer(pid)
        if tracer:
            name = procfs.program_name(tracer)
            return TargetBusy(
                f"pid {tracer} ({name}) traces pid {pid}",
                hint="a process can have only one tracer: end that one first",
            )
        return tracing.denied(pid)
    if code == errno.EACCES:
        return PermissionDenied(
            f"pid {pid}: {text}", hint="root (CAP_SYS_ADMIN) can read and judge the filter"
        )
    if code in (errno.ENOEXEC, errno.ENOTSUP):
        return TargetUnsupported(
            f"pid {pid}: {text}",
            hint="start it with `mem_profiler run`, or with LD_PRELOAD of the sampler",
        )
    return TargetError(f"pid {pid}: {text}; mem_profiler restored it")


def _base(path: str) -> str:
    return os.path.basename(path.removesuffix(" (deleted)"))


class _Talk:
    """The conversation with the loader through its frame."""

    def __init__(
        self, pid: int, borrowed: _Borrowed, memory: Memory, library: bytes, asked_to_stop: Asked
    ) -> None:
        self.pid = pid
        self._borrowed = borrowed
        self._memory = memory
        self._library = library
        self._asked_to_stop = asked_to_stop
        self._frame = ffi.new("struct mp_payload_frame *")
        self._handed = False

    def field(self, name: str) -> int:
        """A number of the frame at its last reading."""
        return int(getattr(self._frame, name))

    def _read(self) -> None:
        raw = self._memory.read(self._borrowed.region, ffi.sizeof("struct mp_payload_frame"))
        ffi.memmove(self._frame, raw, len(raw))

    def _set(self, name: str, value: int) -> None:
        offset = ffi.offsetof("struct mp_payload_frame", name)
        self._memory.write(self._borrowed.region + offset, value.to_bytes(4, "little"))

    def follow(self) -> None:
        """Follow the loader to its end. Raises TargetError, `Stopped`."""
        give_up = time.monotonic() + ANSWER_S
        nap = POLL_S
        while True:
            self._read()
            stage = self.field("stage")
            kill_points.at(f"stage-{stage}", self.pid)
            if stage == lib.MP_LOADER_DONE:
                break
            if stage < lib.MP_LOADER_CALLING and self._asked_to_stop() and self._give_up():
                raise Stopped
            if stage == lib.MP_LOADER_WANTS_LIBRARY and not self._handed:
                self._hand_over()
                nap = POLL_S
            if procfs.is_ending(self.pid):
                raise ProcessGone(f"pid {self.pid} has ended")
            if time.monotonic() > give_up:
                self._give_up()
                self._set("ack", 1)  # nobody will read its answer
                raise self._late(stage)
            time.sleep(nap)
            nap = min(nap * 1.5, POLL_MAX_S)
        self._set("ack", 1)
        kill_points.at("acknowledged", self.pid)
        self._await_removal()

    def _hand_over(self) -> None:
        """Write the library into the loader's memory file, if it made one; continue the loader."""
        if self._library and self.field("library"):
            self._check_first()
            self._memory.write(self.field("library"), self._library)
        kill_points.at("library-written", self.pid)
        self._set("go", 1)
        self._handed = True

    def _check_first(self) -> None:
        """Raise TargetBusy where another controller has loaded its sampler meanwhile."""
        if any(address_space.LIBRARY.fullmatch(_base(m.path)) for m in procfs.maps(self.pid)):
            self._give_up()
            raise TargetBusy(
                f"another mem_profiler is attaching to pid {self.pid} now", hint="try again"
            )

    def _give_up(self) -> bool:
        """Have the loader end without a call of the sampler; whether that is not too late."""
        self._set("go", 2)
        self._read()
        if self.field("stage") >= lib.MP_LOADER_CALLING:
            return False
        self._set("ack", 1)
        return True

    def _late(self, stage: int) -> TargetError:
        doing = {
            lib.MP_LOADER_NONE: "has not run yet",
            lib.MP_LOADER_LOADING: "waits in dlopen: another thread holds the loader's lock",
            lib.MP_LOADER_CALLING: "is still changing slots",
        }.get(stage, "has not answered")
        return TargetBusy(
            f"pid {self.pid}: after {ANSWER_S:.0f} s the thread that opens the sampler {doing}",
            hint="the thread gives up by itself and the process goes on; try again",
        )

    def _await_removal(self) -> None:
        """Wait until the loader has removed the region and left no trace of it."""
        give_up = time.monotonic() + LEAVE_S
        while time.monotonic() < give_up:
            if self._memory.try_read(self._borrowed.region, 1) is None:
                return
            time.sleep(POLL_S)

    def answer(self) -> Answer:
        """The answer of the sampler's function."""
        request = self._frame.request
        return Answer(
            result=self.field("error"),
            text=ffi.string(request.text).decode("utf-8", "replace"),
            patched=request.slots_patched,
            restored=request.slots_restored,
            failed=request.slots_failed,
            modules=request.modules,
            held=request.slots_held,
            kept=request.slots_kept,
            held_ns=self._borrowed.held_ns,
            longest_ns=self._borrowed.longest_ns,
            holds=self._borrowed.holds,
        )

    def error(self) -> TargetError:
        """Why the loader could not load the library."""
        failure, code = self.field("failure"), -self.field("error")
        text = ffi.string(self._frame.text).decode("utf-8", "replace")
        if failure == lib.MP_FAILED_DLOPEN:
            return TargetUnsupported(f"pid {self.pid} cannot open the sampler: {text}")
        if failure == lib.MP_FAILED_MEMORY:
            return TargetError(
                f"pid {self.pid} has no memory for the sampler's code: {os.strerror(code)}",
                hint="see its limit on address space (ulimit -v)",
            )
        if failure == lib.MP_FAILED_MEMFD:
            return TargetUnsupported(
                f"pid {self.pid} may not make a memory file: {os.strerror(code)}",
                hint="start it with `mem_profiler run`, or with LD_PRELOAD of the sampler",
            )
        if failure == lib.MP_FAILED_SYMBOL:
            return TargetUnsupported(
                f"the library that pid {self.pid} opened lacks mem_profiler_attach"
            )
        return TargetBusy(f"pid {self.pid} gave up waiting for this command", hint="try again")
