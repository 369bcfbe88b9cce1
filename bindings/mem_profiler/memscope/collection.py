"""The collection of this very process: its settings, its side rows, whether a window is open.

Model: a process that the command has started knows its settings (`commanded`), and is followed
already. Any other one is captured by a process beside it (`own`), from the first call that needs
it. In both cases what the program tells goes into a file of side rows, whose rows come into the
dumps at their time. A fork child begins anew.
"""

from __future__ import annotations

import atexit
import dataclasses
import os
import sys
import threading
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Optional

from mem_parser.errors import UsageProblem
from mem_parser.memscope.form import Folders, stamp_of
from mem_parser.memscope.settings import API_OPTIONS, Settings, changed
from mem_profiler.helper.errors import TrackerError
from mem_profiler.memscope import commanded, tree
from mem_profiler.memscope.siderows import SideRows, row_now
from mem_profiler.memscope.uncollected import absent_in, left_out
from mem_profiler.tracking.inside import Hooks

if TYPE_CHECKING:
    from mem_profiler.memscope.this_process import Own


_ONCE = ("form", "output", "watch")
"""These take effect once."""


class Collection:
    """The state of this process's collection."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.RLock()
        self.settings = dataclasses.replace(Settings(), deferred=True)
        self.stamp = ""
        self.by_command = False
        self.own: Optional[Own] = None  # noqa: UP045 - Python 3.9 evaluates it
        self.open = False
        self.steps = 0
        self.began: Optional[Settings] = None  # noqa: UP045 - same
        """The settings with which the capture began."""
        self.configured = False
        self._rows: Optional[SideRows] = None  # noqa: UP045 - same
        self._read_told()

    def _read_told(self) -> None:
        """Take the settings of the command that started this process, if one did."""
        told = commanded.told()
        if told is None:
            return
        self.settings, self.stamp = told
        self.by_command = True
        self.began = self.settings
        self.open = not self.settings.deferred

    @property
    def places(self) -> Folders:
        """The names of this process's tree."""
        self.stamp = self.stamp or stamp_of()
        return tree.places_of(self.settings, self.pid, self.stamp)

    @property
    def rows(self) -> SideRows:
        """The file of side rows. Raises TrackerError where it cannot be made."""
        with self.lock:
            if self._rows is None:
                try:
                    self._rows = SideRows(tree.events_folder(self.places))
                except OSError as error:
                    text = f"cannot write in {self.places.run}: {error.strerror}"
                    raise TrackerError(text) from None
            return self._rows

    def tell(self, event: str, kind: str, name: str = "", **rest: Any) -> None:
        """Write a side row of this moment."""
        self.rows.write([row_now(event, kind, name, **rest)])

    def ensure(self) -> None:
        """Begin to be captured, unless this process is. Raises TrackerError."""
        with self.lock:
            if self.by_command or self.own is not None:
                if self.own is not None:
                    self.own.rescan()
                return
            from mem_profiler.memscope.this_process import Own

            try:
                folder = tree.events_folder(self.places)
                tree.write_settings(folder, self.settings)
            except OSError as error:
                text = f"cannot write in {self.places.run}: {error.strerror}"
                raise TrackerError(text) from None
            self.own = Own(self.settings, self.stamp)
            self.began = self.settings
            for tell in on_begin:
                tell(self)

    @property
    def runs(self) -> bool:
        """Whether a helper or command follows this process."""
        return self.by_command or self.own is not None

    def end(self) -> None:
        """The process ends: its dumps are completed. Raises TrackerError."""
        own, self.own = self.own, None
        if own is not None:
            for line in own.end():
                sys.stdout.write(f"{line}\n")


on_begin: list[Callable[[Collection], None]] = []
"""What a collection is to know when it begins."""
on_start: list[Callable[[Collection], None]] = []
"""What else begins with a window."""
on_stop: list[Callable[[Collection], None]] = []
"""What else ends with it, in reverse."""
_current: Optional[Collection] = None  # noqa: UP045 - same
_sampler = Hooks()


def current() -> Collection:
    """Return the collection of this process."""
    global _current  # noqa: PLW0603 - one in a process
    if _current is None or _current.pid != os.getpid():
        _current = Collection()
    return _current


def config(**options: str) -> None:
    """Choose what is collected: device, level, events, call_stack, analysis, watch, format,
    output_path (or as before data_format, output). All values are texts, as of the command.

    format, output_path and watch take effect until the collection has begun. What nobody collects
    is a note on standard error. Raises UsageProblem.
    """
    own = current()
    with own.lock:
        for name in options:
            if name not in API_OPTIONS:
                known = ", ".join(sorted(API_OPTIONS))
                raise UsageProblem(f"config() has no {name}", hint=f"there are: {known}")
        wanted = changed(own.settings, options)
        if own.runs:
            held = {name: getattr(own.settings, name) for name in _ONCE}
            if any(getattr(wanted, name) != value for name, value in held.items()):
                text = "format, output_path and watch stay as they were when the collection began"
                warnings.warn(text, RuntimeWarning, stacklevel=2)
            wanted = dataclasses.replace(wanted, **held)
        own.settings = wanted
        own.configured = True
        for line in (*absent_in(wanted, options), *left_out(wanted, own.began)):
            note(line)
        if own.runs:
            own.tell("CONFIG", "CONFIG", attributes=wanted.as_dict())
        try:
            tree.write_config(own.places, wanted)
        except OSError as error:
            text = f"cannot write in {own.places.run}: {error.strerror}"
            raise TrackerError(text) from None


def start() -> None:
    """Open a window: from now on events are collected. Raises TrackerError."""
    own = current()
    with own.lock:
        own.ensure()
        own.open = True
        own.tell("SYSTEM", "START_TRACE", "N/A", attributes=_device_memory())
        for begin in on_start:
            begin(own)


def stop() -> None:
    """Shut the window; nothing happens where none is open. Raises TrackerError."""
    own = current()
    with own.lock:
        if not own.open or not own.runs:
            return
        for end in reversed(on_stop):
            end(own)
        own.tell("SYSTEM", "STOP_TRACE", "N/A")
        own.open = False


def step() -> None:
    """End a step and begin the next one: its number is in the row's name.

    Raises TrackerError, also where a range named `step start` has begun one: a program uses one of
    the two.
    """
    own = current()
    with own.lock:
        if not own.runs:
            raise TrackerError("no collection runs", "start() begins one")
        if _ranges_make_steps():
            raise TrackerError(
                "ranges named `step start` begin the steps of this process: step() cannot, too",
                "use one of the two",
            )
        own.steps += 1
        if own.own is not None:
            own.own.rescan(after_s=1.0)
        own.tell("SYSTEM", "STEP", str(own.steps))


def _ranges_make_steps() -> bool:
    try:
        return _sampler.has_ranged_steps()
    except TrackerError:
        # Another sampler than ours: the collection says it at its end.
        return False


def _device_memory() -> dict[str, Any]:
    """Free and total bytes of device 0, where PyTorch is there and tells them."""
    device: Any = getattr(sys.modules.get("torch"), "npu", None)
    try:
        free, total = device.mem_get_info(0)
    except (AttributeError, RuntimeError, TypeError, ValueError, AssertionError):
        return {}
    return {"free": int(free), "total": int(total)}


def note(line: str) -> None:
    """Say what a user may miss."""
    sys.stderr.write(f"mem_profiler: note: {line}\n")


def _at_exit() -> None:
    if _current is not None and _current.pid == os.getpid():
        if _current.configured and not _current.runs:
            note("config() chose what is collected, but nothing was: start() begins a collection")
        try:
            _current.end()
        except TrackerError as error:
            sys.stderr.write(f"mem_profiler: {error}\n")


def _after_fork_in_child() -> None:
    """The parent's state stays the parent's."""
    global _current  # noqa: PLW0603 - one in a process
    if _current is not None and _current.own is not None:
        _current.own.leave()
    _current = None


os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(_at_exit)


def run_folder() -> str:
    """Return the folder of this process, also where nothing is collected."""
    return current().places.run


def dump_folder() -> str:
    """Return the folder for dumps of the host, which exists then. Raises OSError."""
    return current().places.make_dump_folder("cpu")
