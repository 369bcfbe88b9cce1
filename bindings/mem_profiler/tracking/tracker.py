"""A program captures parts of its own run.

    from mem_profiler import Tracker

    with Tracker("out.heap"):
        work()

Model: a tracker puts the sampler into the process unless it is there (`inside`), and starts a
process beside (`helper`) that captures and writes the file. So there is a file too if the program
is killed meanwhile.
"""

from __future__ import annotations

import atexit
import functools
import os
import threading
import time
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar, Union

from mem_profiler.helper.client import Helper
from mem_profiler.helper.errors import TrackerError, warn_of_losses
from mem_profiler.tracking.cells import names_of_cells
from mem_profiler.tracking.inside import Hooks, has_segment

DEFAULT_RATE = 1024
RATE_MAX_BYTES = 1 << 30
SCAN_S = 1.0  # between two searches for new libraries, where steps are short
TEXT_MAX = 300  # of a mark: a command is one write, which no other thread can divide
FORMS = ("auto", "plain", "gzip")
Path = Union[str, "os.PathLike[str]"]
_Function = TypeVar("_Function", bound=Callable[..., Any])

_hooks = Hooks()
_active: Tracker | None = None
_state = threading.Lock()


class Tracker:
    """Captures this process while its block runs, and writes a file.

    Also a decorator, and an object with `start` and `stop`. Each further capture of one tracker has
    its number in the name: out.heap, out.2.heap. One tracker can be active in a process.

    Args:
        path: The file, with exactly this name. One that exists is refused, unless ``overwrite``.
        rate: Mean bytes between samples; 1: every block.
        native_traces: Taken for the sake of other tools: native frames are always kept.
        trace_python_allocators: See small objects of Python, by hooks before its allocators;
            False: the arenas that are taken for them, by whom one was needed.
        follow_fork: Capture fork children too, each to the end of its life: out.<pid>.heap.
        file_format: "plain" (text), "gzip", or "auto": gzip if large.
        depth: Frames of a stack that are kept.
        overwrite: Replace a file of the same name.
        events: Write a log of all events too, out-0.memlog and so on beside out.heap.
        device: Device memory to follow, as `--device` of the commands: auto, none, or a list; mmap:
            the program's own mappings. Its files are beside, out.mmap.heap (``devices``, by
            domain, after `stop`).

    Raises:
        TrackerError: from `start` on, in one line, where this process cannot be captured.
        ValueError: for a rate or a format that is none.
    """

    def __init__(
        self,
        path: Path,
        *,
        rate: int = DEFAULT_RATE,
        native_traces: bool = True,
        trace_python_allocators: bool = True,
        follow_fork: bool = False,
        file_format: str = "auto",
        depth: int | None = None,
        overwrite: bool = False,
        events: bool = False,
        device: str | None = None,
    ) -> None:
        if isinstance(rate, bool) or not isinstance(rate, int) or not 1 <= rate <= RATE_MAX_BYTES:
            raise ValueError(f"rate is a number of bytes from 1 to {RATE_MAX_BYTES}, not {rate!r}")
        if file_format not in FORMS:
            raise ValueError(f"file_format is one of {', '.join(FORMS)}, not {file_format!r}")
        self.path = ""
        self.devices: dict[str, str] = {}
        self.native_traces = native_traces
        self.trace_python_allocators = trace_python_allocators
        self.follow_fork = follow_fork
        self._name = os.path.abspath(os.fspath(path))
        self._settings = (rate, depth, overwrite, file_format)
        self._events = bool(events)
        self._device = device
        self._tracked: Union[dict[str, Any], None] = None  # noqa: UP007 - Python 3.9
        self._helper: Helper | None = None
        self._cells: dict[str, str] = {}
        self._captures = 0
        self._snapshots = 0
        self._steps = 0

    # -- begin and end --------------------------------------------------------------------------

    def start(self) -> Tracker:
        """Begin a capture. Raises TrackerError."""
        global _active  # noqa: PLW0603 - one in a process
        with _state:
            if _active is not None and _active.active:
                raise TrackerError(f"a tracker is active in this process already: {_active.path}")
            self._captures += 1
            self._steps = self._snapshots = 0
            number = self._captures
            self._begin(self._name if number == 1 else _with_part(self._name, str(number)))
            _active = self
        return self

    def _begin(self, path: str) -> None:
        rate, depth, overwrite, form = self._settings
        device = self._device
        if not has_segment():
            objects = self.trace_python_allocators
            _hooks.begin(pymem=objects, arenas=not objects, device=device)
        elif device not in (None, os.environ.get("MEM_PROFILER_DEVICE")):
            raise TrackerError(
                "the sampler is in this process already, and device is chosen when it comes"
            )
        else:
            _hooks.rescan()
        try:
            helper = Helper("capture")
        except TrackerError:
            _hooks.end()
            raise
        self.path = path
        self._helper = helper
        try:
            _hooks.lead_libraries(helper.ask)
            helper.ask("track", rate, depth, path, overwrite, form, self._events, self._tracked)
            self._cells = {}
            self._tell_cells()
        except BaseException:
            self._helper = None
            helper.close()
            _hooks.end()
            raise

    @property
    def active(self) -> bool:
        """Whether a capture of this tracker runs in this very process."""
        return self._helper is not None and self._helper.pid == os.getpid()

    def stop(self) -> str:
        """End the capture and write its file; its path. Raises TrackerError."""
        global _active  # noqa: PLW0603 - one in a process
        helper = self._running()
        try:
            self._tell_cells()
            answer = helper.ask("end")
            self.path, self.devices = str(answer["path"]), answer["devices"]
        finally:
            self._helper = None
            _active = None
            helper.close()
            _hooks.end()
        warn_of_losses(answer)
        return self.path

    def _running(self) -> Helper:
        if self._helper is None or self._helper.pid != os.getpid():
            raise TrackerError("this tracker is not active")
        return self._helper

    # -- while it goes on -----------------------------------------------------------------------

    def snapshot(self, path: Path | None = None) -> str:
        """Write a file of what the capture has so far; its path. Raises TrackerError.

        Without a ``path`` it has the name of the capture's file with `snapshot-1` and so on in it.
        """
        helper = self._running()
        _hooks.rescan()
        self._tell_cells()
        if path is None:
            self._snapshots += 1
            path = _with_part(self.path, f"snapshot-{self._snapshots}")
        _, _, overwrite, form = self._settings
        name = os.path.abspath(os.fspath(path))
        return str(helper.ask("write", name, overwrite, form)["path"])

    def mark(self, text: str) -> None:
        """Put a mark of this moment into the file. Raises TrackerError."""
        self._running().tell(
            "mark", time.monotonic_ns(), threading.get_native_id(), 0, "point", str(text)[:TEXT_MAX]
        )

    def _tell_cells(self) -> None:
        """Call the cells of a notebook by its names; those that are told already, no more: what
        this takes is in the capture.
        """
        new = [(k, name) for k, name in names_of_cells().items() if self._cells.get(k) != name]
        if new:
            self._cells.update(new)
            self._running().tell("cells", new)

    def write_to(self, path: Path) -> None:
        """Write the file under this name in the end. Raises TrackerError."""
        self._running().tell("rename", os.path.abspath(os.fspath(path)))

    def step(self) -> int:
        """Mark that a step of the program ends here, such as an iteration; its number, from 1.

        Raises TrackerError.
        """
        helper = self._running()
        _hooks.rescan(after_s=SCAN_S)
        self._steps += 1
        helper.tell(
            "mark", time.monotonic_ns(), threading.get_native_id(), self._steps, "point",
            f"step {self._steps}",
        )  # fmt: skip
        return self._steps

    # -- as a context manager, as a decorator ---------------------------------------------------

    def __enter__(self) -> Tracker:  # noqa: PYI034 - Python 3.9
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # In a fork child that leaves the block, the capture is the parent's.
        if self.active:
            self.stop()

    def __call__(self, function: _Function) -> _Function:
        """Capture each call of a function."""

        @functools.wraps(function)
        def tracked(*arguments: Any, **options: Any) -> Any:
            with self:
                return function(*arguments, **options)

        return tracked  # type: ignore[return-value]

    # -- forks ----------------------------------------------------------------------------------

    def _of_child(self, path: str, pid: int) -> str:
        """Return the name of a child's file."""
        return _with_part(path, str(pid))

    def _after_fork(self) -> None:
        """In a child: begin its own capture, or none."""
        helper, self._helper = self._helper, None
        if helper is None:
            return
        helper.close()
        if self.follow_fork:
            self._steps = self._snapshots = 0
            try:
                self._begin(self._of_child(self._name, os.getpid()))
            except TrackerError as error:
                warnings.warn(f"this child is not captured: {error}", RuntimeWarning, stacklevel=2)


def _with_part(path: str, part: str) -> str:
    stem, suffix = os.path.splitext(path)
    return f"{stem}.{part}{suffix}"


def _after_fork_in_child() -> None:
    if _active is not None:
        _active._after_fork()  # noqa: SLF001 - of this module


def _at_exit() -> None:
    if _active is not None and _active.active:
        _active.stop()


os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(_at_exit)
