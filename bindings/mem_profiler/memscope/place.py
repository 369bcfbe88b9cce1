"""Files that this process writes itself, below the folder of its collection."""

from __future__ import annotations

from mem_profiler.memscope import collection


def run_folder() -> str:
    """Return the folder of this process, also where nothing is collected."""
    return collection.current().places.run


def dump_folder(device: str = "cpu") -> str:
    """Return the folder for dumps of a device, which exists then. Raises OSError."""
    return collection.current().places.make_dump_folder(device)
