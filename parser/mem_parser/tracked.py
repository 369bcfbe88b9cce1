"""Facts that a program reports when it captures itself through memray's interface."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mem_parser.heapfile.fields import Fields


@dataclass(frozen=True, slots=True)
class Tracked:
    """A program's facts at the start of its own capture (`mem_profiler.memray_api`)."""

    command: str = ""
    """`sys.argv`, joined by spaces."""
    python_allocator: str = ""
    root: tuple[tuple[str, str, int], ...] = ()
    """Function, file and line of the Python frames that ran then, outermost first. The last one
    began the capture."""
    writer: tuple[int, int] = (0, 0)
    """Of the process that writes the file: its pid, and its start in clock ticks since boot."""
    stdlib: str = ""
    packages: tuple[str, ...] = ()
    """Folders of installed packages, then the other ones of `sys.path`."""
    paths: tuple[str, ...] = ()
    threads: tuple[tuple[int, str], ...] = ()
    """Number and name of the threads that Python knew, in the order of their beginnings."""


def read_tracked(told: Mapping[str, Any]) -> Tracked:
    """Return the program's facts from an untrusted object."""
    fields = Fields(told)
    frames = [Fields({"frame": frame}).items("frame") for frame in fields.items("root")]
    root = tuple(
        (frame[0], frame[1], frame[2])
        for frame in frames
        if [type(part) for part in frame] == [str, str, int]
    )
    threads = [Fields({"pair": pair}).items("pair") for pair in fields.items("threads")]
    writer = [v for v in fields.items("writer") if type(v) is int and 0 < v < 1 << 63]
    return Tracked(
        command=fields.text("command"),
        python_allocator=fields.text("python_allocator"),
        root=root if len(root) == len(frames) else (),
        writer=(writer[0], writer[1]) if len(writer) == 2 else (0, 0),
        stdlib=fields.text("stdlib"),
        packages=tuple(v for v in fields.items("packages") if isinstance(v, str)),
        paths=tuple(v for v in fields.items("paths") if isinstance(v, str)),
        threads=tuple((p[0], p[1]) for p in threads if [type(v) for v in p] == [int, str]),
    )
