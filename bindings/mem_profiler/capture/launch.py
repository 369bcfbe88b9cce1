"""Start a program with the sampler, follow it to its end, and write its file.

Model: every run has its own base folder for segments, in the usual place, so that it finds all
segments of its processes and no others: a process that lived for a millisecond left its file there,
and no process outside the run can leave one. The program starts capturing by itself
(MEM_PROFILER_START); the controller takes readings. A wrapper that execs the program leaves one
segment per image; the last image is the program. A program that runs as another user cannot enter
that folder; its segment is in the usual place, and the controller finds it by its mapping, or under
its user's name.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import resource
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mem_parser import inherited_signals, unseen
from mem_parser.errors import MemError, ProcessGone, TargetUnsupported, UsageProblem
from mem_parser.heapfile.form import Form
from mem_profiler import system
from mem_profiler.capture import device_choice, gate, launched, loop, output, preload
from mem_profiler.capture.descendants import Descendants
from mem_profiler.capture.device_choice import Choice
from mem_profiler.capture.output import ExactFile, Where
from mem_profiler.capture.recording import Recording
from mem_profiler.capture.unloaded import Behind, Follower, Strays, Unloaded, behind_of
from mem_profiler.entries import plan_file, planning
from mem_profiler.process import named, packages, procfs, program, touched
from mem_profiler.process.clients import Clients
from mem_profiler.process.death import Watch, describe
from mem_profiler.segment import bound, folders, layout, leftovers, room, usable
from mem_profiler.segment.file import Segment
from mem_profiler.segment.folders import RunFolder, UserFolder
from mem_profiler.segment.room import Room

if TYPE_CHECKING:
    from mem_profiler.capture.saving import Result
    from mem_profiler.events.logs import Logging
    from mem_profiler.profile.target import Target

FIRST_POLL_S = 0.005
POLL_S = 0.1
_ROOM_BYTES = 1 << 20  # about the minimum size of a segment
LEFT_RUNNING_NOTE = (
    "the process still ran when the program ended; mem_profiler ended its capture at that time"
)


@dataclass
class Options:
    """The options of `mem_profiler run`. `prefix` is checked before anything starts."""

    rate_bytes: int
    prefix: Where
    children: bool = False
    no_pymalloc: bool = False  # PYTHONMALLOC=malloc instead of hooks before CPython's allocators
    keep_pymalloc: bool = False  # neither of these
    device_rate_bytes: int = 1
    device: Choice | None = None  # None: as the environment says, else auto
    form: Form = Form.AUTO
    depth_limit: int | None = None  # None: as the environment says, else the sampler's
    max_total_bytes: int | None = None  # of all segments of the run together; None: the same
    logging: Logging | None = None  # of events; None: none
    variables: dict[str, str] = field(default_factory=dict)  # more of them for the program
    look_for_clients: bool = False  # from outside, which another run would wait for
    output_fd: int | None = None  # where its output goes, and its input is empty; None: as ours


@dataclass
class Image:
    """One segment of the run: one program image of one process.

    `pid` is that of the process's own pid namespace; `process` tells processes apart.
    """

    segment: Segment
    recording: Recording
    pid: int
    process: tuple[int, int, int]
    created_ns: int
    words: tuple[str, ...] = ()  # of its command; none where they were not seen
    watch: Watch | None = None  # None: its number here is unknown
    ended: bool = False

    def has_ended(self) -> bool:
        """Whether its process has ended: nothing in the segment changes any more. The time of its
        capture ends when this sees it first.
        """
        pid = self.recording.pid
        if not self.ended and pid and procfs.is_gone(pid):
            self.ended = True
            gate.stop(self.segment, pid, self.segment.control().number("capture_number"))
        return self.ended

    def how_ended(self) -> str:
        """How its process ended, as far as anybody but its parent may know."""
        exited = self.segment.control().number("state") == layout.STATE_EXITED
        return (self.watch and self.watch.how_now()) or ("exited" if exited else "target ended")


@dataclass
class Outcome:
    """How a run ended. `status` is the program's exit code, or minus the signal that killed it.

    `unloaded` is the program if it ended without the sampler, `behind` if its own malloc was before
    the sampler. `errors` exclude these, and children that could not be sampled: `children_behind`,
    and `uncaptured` for any other reason.
    """

    status: int
    end: str
    pid: int = 0
    results: list[Result] = field(default_factory=list)
    errors: list[MemError] = field(default_factory=list)
    uncaptured: list[MemError] = field(default_factory=list)
    unloaded: Unloaded | None = None
    behind: list[Behind] = field(default_factory=list)
    children_behind: list[Behind] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # on the choice of files
    rooms: list[Room] = field(default_factory=list)  # whose bound cost something
    driven_from_outside: bool = False  # by clients that connected; see `Options.look_for_clients`


def environment(options: Options, base: Path) -> dict[str, str]:
    """The program's environment. Raises UsageProblem where a variable prevents the capture."""
    variables = dict(os.environ)
    # Python sets the one in the C locale (PEP 538), the command's start the other.
    for name in ("LC_CTYPE", "OPENBLAS_NUM_THREADS"):
        if not _was_given(name):
            variables.pop(name, None)
    if variables.get("MEM_PROFILER_DISABLE", "") not in ("", "0"):
        raise UsageProblem(
            "MEM_PROFILER_DISABLE is set, so the program would run without the sampler",
            hint="unset MEM_PROFILER_DISABLE",
        )
    library = preload.library()
    if not preload.is_one_word(library):
        link = base / folders.LIBRARY_LINK
        link.symlink_to(library)
        device_choice.link_companions(link, Path(library))
        library = str(link)
    preload.put(variables, library)
    variables["MEM_PROFILER_DIR"] = str(base)
    variables["MEM_PROFILER_START"] = str(options.rate_bytes)
    variables["MEM_PROFILER_DEVICE_RATE"] = str(options.device_rate_bytes)
    if options.depth_limit is not None:
        variables["MEM_PROFILER_DEPTH"] = str(options.depth_limit)
    if options.logging is not None:
        variables["MEM_PROFILER_EVENTS"] = str(options.logging.ring_bytes)
        variables["MEM_PROFILER_LAUNCHES"] = ",".join(options.logging.launches)
    if options.max_total_bytes is not None:
        variables[room.VARIABLE] = str(options.max_total_bytes)
    chosen = options.device or device_choice.parse(os.environ.get("MEM_PROFILER_DEVICE") or "auto")
    variables |= device_choice.environment(chosen, Path(library), variables)
    if options.children:
        variables["MEM_PROFILER_FOLLOW_FORK"] = "1"
    if options.no_pymalloc:
        variables["PYTHONMALLOC"] = "malloc"
    if options.no_pymalloc or options.keep_pymalloc:
        variables["MEM_PROFILER_PYMEM"] = "0"
    return variables | options.variables


def _was_given(name: str) -> bool:
    """Whether this process was started with a variable of the environment; if unknown, yes."""
    try:
        with open("/proc/self/environ", "rb") as file:
            return any(one.startswith(f"{name}=".encode()) for one in file.read().split(b"\0"))
    except OSError:
        return True


class Run:
    """One run of a program."""

    def __init__(self, arguments: Sequence[str], options: Options) -> None:
        """Start the program. Raises MemError before anything starts."""
        path = program.check(arguments[0])
        self.launched = None if options.children else launched.of_command(path, arguments)
        self.options = options = dataclasses.replace(
            options, children=options.children or self.launched is not None
        )
        self.base = RunFolder()
        self.images: dict[str, Image] = {}
        self._others: set[str] = set()
        self._users: set[int] = set()
        try:
            self.child = self._start(path, arguments)
        except OSError as error:
            self.base.remove()
            raise UsageProblem(f"cannot start {path}: {error.strerror}") from None
        except BaseException:
            self.base.remove()
            raise
        self.pid = self.child.pid
        if self.launched is not None:
            self.launched.pid = self.pid
        self._main = self.pid
        self._wanted: list[Image] = []
        self.follower = Follower(self.pid, path, arguments)
        self.watch = Watch(self.pid)
        self._start_ticks = procfs.start_ticks(self.pid)
        self._clients = Clients()
        self.strays = Strays(self.pid)
        self.descendants = Descendants(self.pid, str(self.base.path))

    def _start(self, path: str, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        """Raises OSError, MemError."""
        variables = environment(self.options, self.base.path)
        judged, found = program.judged_file(path), named.search(path, arguments)
        places = (judged, *found.places)
        folders = packages.folders(places, os.environ)
        libraries = packages.libraries(folders, planning.LARGE_LIBRARY_BYTES)
        handed = plan_file.make(judged, found.programs, libraries)
        try:
            if handed.fd is not None:
                variables[plan_file.VARIABLE] = handed.value
            self.pymalloc = variables.get("PYTHONMALLOC") not in ("malloc", "malloc_debug")
            limit = system.allow_descriptors()  # every image of the run has an open segment

            wraps = self.launched is not None and self.launched.is_wrapper

            def become() -> None:
                """Runs in the child, which becomes the program."""
                _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
                resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))
                inherited_signals.restore_ignored()
                output.keep_of_run(self.base.path, self.options.prefix, os.getpid())
                if handed.fd is not None:
                    os.set_inheritable(handed.fd, True)
                _exec(path, arguments, variables, is_wrapper=wraps)

            # Safe: this process has one thread.
            return subprocess.Popen(
                arguments,
                executable=path,
                env=variables,
                stdin=None if self.options.output_fd is None else subprocess.DEVNULL,
                stdout=self.options.output_fd,
                stderr=self.options.output_fd,
                close_fds=False,  # exec closes ours; all others belong to the program
                preexec_fn=become,  # noqa: PLW1509
            )
        finally:
            if handed.fd is not None:
                os.close(handed.fd)

    # -- while it runs --------------------------------------------------------------------------

    def discover(self) -> None:
        """Open the segments that appeared since the last call."""
        for folder in self.base.users():
            self._open_new(folder, folder.files())
        self._discover_of_another_user()

    def _open_new(self, folder: UserFolder, names: Sequence[str]) -> None:
        for file in names:
            name = str(folder.path / file)
            if name in self.images or name in self._others:
                continue
            # A segment that is still incomplete, or has just gone: the next call tries again.
            with contextlib.suppress(OSError, MemError):
                self._take(name, Segment.open_in(folder, file, writable=True))

    def _discover_of_another_user(self) -> None:
        """Find the segment of a program that changed its user, and so the folder it can use."""
        facts = procfs.status(self.pid)
        self._users |= {uid for uid in facts.uids if uid != os.geteuid()} if facts else set()
        if not self._users or self._elsewhere(self.images):
            return
        mine = f"{self.pid}-{self._start_ticks}-"
        for folder in _usual_folders():
            if folder.uid in self._users:
                self._open_new(folder, [f for f in folder.files() if f.startswith(mine)])

    def _elsewhere(self, names: Iterable[str]) -> set[str]:
        """Those segments that are not in the folder of this run."""
        return {name for name in names if Path(name).parent.parent != self.base.path}

    def _take(self, name: str, segment: Segment) -> None:
        control = segment.control()
        inner = control.number("pid")
        process = (inner, control.number("start_ticks"), control.number("pidns_inode"))
        if control.number("created_monotonic_ns") == 0:
            segment.close()  # still incomplete: the next call retries
            return
        mine = inner == self.pid and control.number("pidns_inode") == procfs.pidns_inode()
        if not mine and not self.options.children:
            self._others.add(name)
            self.descendants.add_command(control.text("command"))
            segment.close()
            return
        if mine and self._own() is not None and not self.watch.ended():
            self.descendants.wrapper_times = procfs.times(self.pid)
        segment.try_lock()
        pid = inner if control.number("pidns_inode") == procfs.pidns_inode() else 0
        segment.reserve_max_bytes = bound.of_process(pid)
        recording = Recording(segment, pid)
        # It may have ended by now; programs begin in this one's folder.
        recording.target.folder = recording.target.folder or procfs.working_folder(os.getpid())
        created_ns = recording.made_ns()
        words = tuple(procfs.arguments(pid)) if usable.is_behind_program(control) and pid else ()
        watch = Watch(pid) if pid else None
        image = Image(segment, recording, inner, process, created_ns, words, watch)
        self.images[name] = image
        if self.options.logging is not None:
            self._begin_log(image, self.options.logging)

    def _begin_log(self, image: Image, logging: Logging) -> None:
        """Only the last image of a process has the log; images are not found in order."""
        if any(one is not image and one.process == image.process for one in self.images.values()):
            if image not in self.current():
                return
            for other in self.images.values():
                if other is not image and other.process == image.process:
                    other.recording.discard_log()
        number = max(1, image.segment.control().number("capture_number"))
        logging = dataclasses.replace(logging, where=self.where(image))
        image.recording.begin_log(number, image.pid, logging)

    def current(self) -> list[Image]:
        """The last image of every process of interest, that of the program first."""
        last: dict[tuple[int, int, int], Image] = {}
        for image in self.images.values():
            other = last.get(image.process)
            if other is None or image.created_ns >= other.created_ns:
                last[image.process] = image
        return sorted(last.values(), key=lambda image: (image.pid != self.pid, image.created_ns))

    def _own(self) -> Image | None:
        """The last image of the program's own process."""
        images = self.current()[:1]
        return images[0] if images and images[0].pid == self.pid else None

    def _chosen(self, images: list[Image]) -> list[Image]:
        """Those that a launcher started, or all."""
        if self.launched is None:
            return images
        return [images[i] for i in self.launched.choose([i.segment.control() for i in images])]

    def program_pid(self) -> int | None:
        """The process to watch: the program, or what a launcher started; None: not there yet."""
        found = self._chosen([image for image in self.current() if not image.has_ended()])
        if self.launched is None:
            return self.pid
        return None if self.launched.nothing or not found else found[0].pid

    def tick(self) -> None:
        """Look for new segments, and read those that are due."""
        self.discover()
        own = self._own()
        self.follower.look(own.segment.control() if own else None)
        (self.strays if self.options.children else self.descendants).look()
        living = [image for image in self.current() if not image.has_ended()]
        if self.options.look_for_clients:
            self._clients.look({self.pid, *(image.recording.pid or self.pid for image in living)})
        for image in living:
            with contextlib.suppress(MemError):
                image.recording.tick()

    @property
    def over(self) -> bool:
        """Whether the program has ended."""
        return self.watch.ended()

    def due_in(self) -> float:
        """Seconds until the next search for segments or the next reading."""
        return POLL_S if self.images else FIRST_POLL_S

    def follow(self, on_tick: Callable[[float], None]) -> int:
        """Take readings until the program ends; returns its wait status."""
        loop.follow([self], wait=self.watch.ended, on_tick=on_tick)
        self.discover()  # /proc shows its user until the wait below
        self.follower.end()
        if not self.options.children:
            self.descendants.settle()
        alone, faults = procfs.waited_for_none(self.pid), procfs.faults(self.pid)[1]
        _, status, usage = os.wait4(self.pid, 0)
        self.child.returncode = os.waitstatus_to_exitcode(status)
        own = self._own()
        if own is not None:
            self.strays.bound_bytes = usage.ru_maxrss * 1024
            highest = usage.ru_maxrss * 1024
            self._add_peak(own.recording.target, highest, alone=alone)
            self._add_children(own.recording.target, touched.waited_bytes(faults, highest))
        return status

    def _add_peak(self, target: Target, rss_bytes: int, *, alone: bool) -> None:
        """Note the most that the program was resident, or, not ``alone``, one of its children."""
        found = {"rss_bound_bytes": rss_bytes}
        # It counts what the child was before it became the program: a copy of this process,
        # whose own ru_maxrss would count the process that started it in the same way.
        if rss_bytes > (procfs.kinds(os.getpid())["peak_rss_bytes"] or rss_bytes):
            if alone:
                found["peak_rss_bytes"] = rss_bytes
            elif not self.options.children:
                found["tree_peak_rss_bytes"] = rss_bytes
            else:
                self.strays.tree_bytes = rss_bytes
        if seen := self.descendants.most_bytes:
            found["tree_peak_rss_bytes"] = max(found.get("tree_peak_rss_bytes", 0), seen)
        target.memory = dataclasses.replace(target.memory, **found)

    def _add_children(self, target: Target, waited_bytes: int) -> None:
        """Note the most that a child process in no file had of its own."""
        if not self.options.children:
            most = max(waited_bytes, self.descendants.own_bytes)
            target.memory = dataclasses.replace(target.memory, child_peak_rss_bytes=most)

    def forward(self, number: int) -> None:
        """Pass a signal on to the program."""
        self.watch.send(number)

    # -- at the end -----------------------------------------------------------------------------

    def end_capture(self, image: Image, end: str) -> tuple[str, list[str]]:
        """Shut the gate of an image's capture; returns how it ended, and a message about that.

        Raises MemError if there was no capture.
        """
        control = image.segment.control()
        number = control.number("capture_number")
        if number == 0:
            raise _never_captured(image)
        notes = [self.launched.note()] if self.launched and self.launched.note() else []
        notes += [unseen.SERVED] if self._clients.only_outside else []
        if not self.options.children:
            notes += self.descendants.notes()
        elif image.pid == self._main:
            notes += self.strays.notes
        alive = image.pid != self.pid and _is_mapped(image)
        if alive:
            notes.append(LEFT_RUNNING_NOTE)
            image.recording.target.refresh()
            end = "stopped"
        else:
            image.recording.target.gone()
        gate.stop(image.segment, image.recording.pid or os.getpid(), number)
        return end, notes

    def write_image(self, outcome: Outcome, image: Image, end: str) -> None:
        """Write the files of an image. Raises MemError."""
        outcome.results.append(self._write(image, end))

    def _write(self, image: Image, end: str) -> Result:
        end, notes = self.end_capture(image, end)
        target = image.recording.target
        if target.pymalloc is None:
            target.pymalloc = self.pymalloc if target.python else None
        result = image.recording.finish(
            self.where(image),
            image.pid,
            "capture",
            end,
            notes=notes,
            form=self.options.form,
        )
        gate.mark_written(image.segment, image.segment.control().number("capture_number"))
        return result

    def where(self, image: Image) -> Where:
        """The output location of an image's files."""
        where = self.options.prefix
        if isinstance(where, ExactFile) and image.pid != self._main:
            return where.of_process(image.pid)
        return where

    def finish(self, status: int) -> Outcome:
        """Write the files and clean up. `errors` has a line for each file that failed."""
        outcome = Outcome(os.waitstatus_to_exitcode(status), describe(status), self.pid)
        outcome.driven_from_outside = self._clients.only_outside
        own = self._own()
        outcome.unloaded = self.follower.unloaded(
            own.segment.control() if own else None, own.created_ns if own else 0
        )
        images = self.current()
        if self.launched is not None:
            images = self._chosen(images)
            self._main = images[0].pid if images else self.pid
            outcome.notes = self.launched.lines() if outcome.unloaded is None else []
            for image in self.images.values():
                if image not in images:
                    image.recording.discard_log()
        elif images and self.options.children and "MEM_PROFILER_ONLY" not in os.environ:
            pids = {one.recording.pid for one in self.images.values()}
            outcome.notes = self.strays.without_sample(pids, self.options.rate_bytes)
        self._wanted = images
        if images and outcome.unloaded is None:
            self.strays.judge(images[0].recording, [one.recording for one in self.images.values()])
        for image in images:
            if image is own and outcome.unloaded is not None:
                continue  # of a wrapper that became the program
            found = behind_of(image.segment.control(), image.words)
            if found is not None:
                mine = image.pid == self._main
                (outcome.behind if mine else outcome.children_behind).append(found)
                continue
            end = outcome.end if image.pid == self.pid else image.how_ended()
            try:
                self.write_image(outcome, image, end)
            except MemError as error:
                began = image.segment.control().number("capture_number") != 0
                own_or_began = image.pid == self._main or began
                (outcome.errors if own_or_began else outcome.uncaptured).append(error)
        outcome.rooms = [one for one in room.of(self.base.users()) if one.lost]
        self._tidy(failed=bool(outcome.errors))
        return outcome

    def _tidy(self, *, failed: bool) -> None:
        for image in self.images.values():
            image.recording.close()
            image.segment.close()
            if image.watch is not None:
                image.watch.close()
        self.watch.close()
        written = {name for name, image in self.images.items() if image in self._wanted}
        for folder in self.base.users():
            for found in leftovers.in_folders([folder], most=None, ours=True):
                if found.alive:
                    _stop_quietly(folder, os.path.basename(found.path))
                elif not (failed and found.path in written and not found.written):
                    folder.remove(os.path.basename(found.path), found.inode)
        self._remove_elsewhere(written)
        self.base.remove()

    def _remove_elsewhere(self, written: set[str]) -> None:
        """Remove the program's saved segment from another user's folder."""
        names = self._elsewhere(written)
        for folder in _usual_folders() if names else ():
            for one in leftovers.in_folders([folder]):
                if one.path in names and not one.alive and one.written:
                    folder.remove(os.path.basename(one.path), one.inode)


def _exec(
    path: str, arguments: Sequence[str], variables: dict[str, str], *, is_wrapper: bool
) -> None:
    """In the child: become the program; the variable names its pid, so that the sampler knows which
    process is the program and which are children, of which those without a sample leave nothing.
    The one that a wrapper starts is the program, too.

    After a failure the caller's own exec fails the same way and reports it.
    """
    own = f"{'+' if is_wrapper else ''}{os.getpid()}"
    with contextlib.suppress(OSError):
        os.execve(path, list(arguments), {**variables, "MEM_PROFILER_START_PID": own})  # noqa: S606


def _never_captured(image: Image) -> MemError:
    try:
        gate.check_state(image.segment, image.pid)
    except ProcessGone:
        pass  # expected: the sampler reported on stderr why it could not capture
    except MemError as error:
        return error
    return TargetUnsupported(f"pid {image.pid} could not start its capture", hint=room_hint())


def room_hint() -> str | None:
    """Advice for a segment without space; None if space is not the problem."""
    folder = folders.segment_dir()
    try:
        room = os.statvfs(folder)
    except OSError:
        return None
    if room.f_bavail * room.f_frsize >= _ROOM_BYTES:
        return None
    return f"{folder} is full: make room, or set MEM_PROFILER_DIR to another folder"


def _is_mapped(image: Image) -> bool:
    if not image.recording.pid or procfs.is_gone(image.recording.pid):
        return False
    with contextlib.suppress(PermissionError):
        identity = image.segment.control().identity.encode()
        return identity in procfs.raw_maps(image.recording.pid)
    return False


def _usual_folders() -> Iterator[UserFolder]:
    """The folders for segments of programs that cannot enter the folder of the run."""
    for base in dict.fromkeys((folders.segment_dir(), Path(folders.DEFAULT_DIR))):
        yield from folders.everywhere(base)


def _stop_quietly(folder: UserFolder, name: str) -> None:
    with (
        contextlib.suppress(OSError, MemError),
        Segment.open_in(folder, name, writable=True) as segment,
    ):
        control = segment.control()
        gate.stop(segment, os.getpid(), control.number("capture_number"))
