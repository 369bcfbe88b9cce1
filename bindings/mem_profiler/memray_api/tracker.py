"""A tracker with the arguments of memray's."""

from __future__ import annotations

import errno
import os
from types import TracebackType
from typing import TYPE_CHECKING, Any

from mem_parser.records.kinds import FileFormat
from mem_profiler.memray_api.destination import Destination, FileDestination
from mem_profiler.tracking import Tracker as OwnTracker

if TYPE_CHECKING:
    from mem_parser.records.reader import FileReader

EVERY_BLOCK = 1


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
            counts for each call stack.
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
        self._own = OwnTracker(
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
        self._own.start()
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


def _check(place: FileDestination) -> None:
    path = os.fspath(place.path)
    if os.path.lexists(path) and not place.overwrite:
        raise FileExistsError(errno.EEXIST, "Could not create output file: File exists", path)
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise FileNotFoundError(
            errno.ENOENT, "Could not create output file: no such folder", folder
        )
