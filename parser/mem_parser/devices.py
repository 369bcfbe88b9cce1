"""Device memory: the facts of a file's domain beyond its sites, and the program's marks.

A *domain* is one kind of memory of one device. *Asked* bytes are those the program requested; the
sampler samples by these. *Taken* bytes are the device memory used for them, if known. *Actual*
bytes are those in use on the whole device by all its processes, so that

    actual - tracked = untracked

is what no allocation explains: the driver's contexts and modules, other processes, and blocks that
are older than the capture.
"""

from __future__ import annotations

from dataclasses import dataclass

HOST = "host"
"""The domain of ordinary memory."""


@dataclass(frozen=True, slots=True)
class Device:
    """The domain of a file of device memory; bytes, None where unknown.

    ``index`` is the device's number, None where the memory belongs to no single device. ``kind``
    is one of device, pinned, managed and pool; of mappings that the program itself made, one of
    mapped (private), mapped-shared, mapped-file and mapped-reserved (without access rights), or
    mapped-stack, stacks of threads that it made; of what an allocator of the program reports, heap,
    inside blocks of malloc, or heap-own. Calls count while a capture runs.
    """

    family: str
    index: int | None
    kind: str
    alloc_calls: int = 0
    failed_calls: int = 0
    freed_calls: int = 0
    actual_used_bytes: int | None = None
    actual_total_bytes: int | None = None
    actual_tracked_bytes: int | None = None
    actual_at_s: float | None = None
    reserved_bytes: int | None = None
    reserved_peak_bytes: int | None = None

    @property
    def is_mapped(self) -> bool:
        """Whether it is of mappings of the process's own memory."""
        return self.kind.startswith("mapped")

    @property
    def remainder_name(self) -> str:
        """The name of the bytes that are held and not tracked."""
        if self.reserved_bytes is not None:
            return "[unused: reserved by the pool]"
        return "[untracked: driver context, modules, other processes, older blocks]"


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark of the program. ``kind``: point, begin, end; a range's two share their ``id``.

    ``time_s`` counts from the start of the capture; ``thread`` is the row of a thread.
    """

    time_s: float
    id: int
    kind: str
    thread: int
    domain: str
    text: str


MARK_KINDS = ("point", "begin", "end")
