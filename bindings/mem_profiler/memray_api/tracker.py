"""A tracker with the arguments of memray's, and the destinations of its capture."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import site
import sys
import sysconfig
import threading
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Union

from mem_parser.records.kinds import FileFormat
from mem_profiler.tracking import Tracker as OwnTracker
from mem_profiler.tracking import TrackerError

if TYPE_CHECKING:
    from mem_parser.records.reader import FileReader

EVERY_BLOCK = 1
ROOT_FRAMES = 256
_BEGINS = "_set_native_id"
"""What a thread of Python calls as it begins."""
_ALLOCATORS = ("malloc", "pymalloc", "pymalloc_debug", "mimalloc", "mimalloc_debug")


@dataclass(frozen=True)
class Destination:
    """Where a capture goes."""


@dataclass(frozen=True)
class FileDestination(Destination):
    """A file. One that exists is refused, unless ``overwrite``; ``compress_on_exit``: packed where
    it is large. ``buffered`` changes nothing: files are written at once.
    """

    path: str | os.PathLike[str]
    overwrite: bool = False
    compress_on_exit: bool = True
    buffered: bool = False


@dataclass(frozen=True)
class SocketDestination(Destination):
    """A port. There is no live view yet: a tracker refuses it."""

    server_port: int
    address: str = "127.0.0.1"


class Tracker:
    """Captures this process while its block runs; one block, one at a time.

    Args:
        file_name: The file; instead of it ``destination``, a `FileDestination`.
        native_traces: Changes nothing: native frames are always kept.
        memory_interval_ms: Changes nothing: readings are taken as they cost little.
        follow_fork: Capture fork children too, a file each.
        trace_python_allocators: See small objects of Python too.
        file_format: ALL_ALLOCATIONS: a log of events is written too, NAME-0.memlog and so on beside
            the file, with the single allocations. AGGREGATED_ALLOCATIONS: the file alone, which has
            counts for each call stack. The file is there from the beginning on, with what the
            capture has so far.
        rate: Mean bytes between samples; 1: every block. (Ours.)

    Raises:
        TypeError, ValueError: for arguments that do not fit together.
        OSError: where the file exists already, or cannot be made.
        NotImplementedError: for what a capture cannot do: sockets, lifetimes of objects.
        RuntimeError: where this process cannot be captured.
    """

    def __init__(
        self,
        file_name: str | os.PathLike[str] | None = None,
        *,
        destination: Destination | None = None,
        native_traces: bool = False,
        memory_interval_ms: int = 10,
        follow_fork: bool = False,
        trace_python_allocators: bool = False,
        file_format: FileFormat = FileFormat.ALL_ALLOCATIONS,
        reference_tracking: bool = False,
        track_object_lifetimes: bool = False,
        rate: int = EVERY_BLOCK,
    ) -> None:
        del memory_interval_ms
        if (file_name is None) == (destination is None):
            raise TypeError(
                "Exactly one of 'file_name' or 'destination' argument must be specified"
            )
        if reference_tracking or track_object_lifetimes:
            raise NotImplementedError("lifetimes of Python objects are not captured")
        events = FileFormat(file_format) is FileFormat.ALL_ALLOCATIONS
        place = destination
        if file_name is not None:
            place = FileDestination(file_name)
        if not isinstance(place, FileDestination):
            raise NotImplementedError("there is no live view yet: give the tracker a file")
        _check(place)
        self._own = _Named(
            place.path,
            rate=rate,
            native_traces=native_traces,
            trace_python_allocators=trace_python_allocators,
            follow_fork=follow_fork,
            file_format="auto" if place.compress_on_exit else "plain",
            overwrite=place.overwrite,
            events=events,
        )
        self._used = False

    def __enter__(self) -> Any:
        if self._used:
            raise RuntimeError("Attempting to use stale output handle")
        self._used = True
        self._own.start_below(sys._getframe(1))  # noqa: SLF001 - the documented way to a frame
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._own.__exit__(kind, error, trace)

    @property
    def reader(self) -> FileReader:
        """The records of the file, once the block is over."""
        from mem_parser.records.reader import FileReader

        return FileReader(self._own.path)


class _Named(OwnTracker):
    """A tracker that tells what memray's files have, and names files of children as memray does."""

    _threads: list[threading.Thread]

    def start_below(self, frame: Union[FrameType, None]) -> None:  # noqa: UP007 - Python 3.9
        """Begin a capture in the block of ``frame``. Raises TrackerError."""
        root: list[tuple[str, str, int]] = []
        while frame is not None and len(root) < ROOT_FRAMES:
            root.append((frame.f_code.co_name, frame.f_code.co_filename, frame.f_lineno))
            frame = frame.f_back
        self._tracked = {
            "command": " ".join(sys.argv),
            "python_allocator": _python_allocator(),
            "root": root[::-1],
            "stdlib": sysconfig.get_path("stdlib"),
            "packages": [*site.getsitepackages(), site.getusersitepackages()],
            "paths": [path for path in sys.path if path],
        }
        self._threads = threading.enumerate()
        self.start()
        self._watch_threads()

    def _watch_threads(self) -> None:
        """Keep each thread that begins, so that it has a name where it ends before the capture."""
        real, known = getattr(threading.Thread, _BEGINS), self._threads

        def set_native_id(thread: threading.Thread) -> None:
            real(thread)
            known.append(thread)

        self._real_set_native_id = real
        setattr(threading.Thread, _BEGINS, set_native_id)

    def stop(self) -> str:
        """End the capture and write its file; its path. Raises TrackerError."""
        setattr(threading.Thread, _BEGINS, self._real_set_native_id)
        names = [(one.native_id, _name(one)) for one in self._threads]
        self._threads = []
        with contextlib.suppress(TrackerError):  # `stop` says it
            self._running().tell("threads", names)
        return super().stop()

    def _of_child(self, path: str, pid: int) -> str:
        return f"{path}.{pid}"


def _name(thread: threading.Thread) -> str:
    """The name, as memray has it: none for the main thread, unless it was given one."""
    return "" if thread.name == "MainThread" else thread.name


def _python_allocator() -> str:
    """CPython's name for its allocators; empty where it has none, since there are hooks."""
    try:
        function = ctypes.pythonapi._PyMem_GetCurrentAllocatorName  # noqa: SLF001
    except AttributeError:
        return ""
    function.restype = ctypes.c_char_p
    name = (function() or b"").decode("ascii", "replace")
    return name.replace("_", " ") if name in _ALLOCATORS else ""


def _check(place: FileDestination) -> None:
    path = os.fspath(place.path)
    if os.path.lexists(path) and not place.overwrite:
        raise FileExistsError(errno.EEXIST, "Could not create output file: File exists", path)
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise FileNotFoundError(
            errno.ENOENT, "Could not create output file: no such folder", folder
        )
