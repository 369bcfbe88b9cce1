"""The capture side: find the sampler's segment in a process, switch it on and off, write .heap
files.

Layers, importing downwards only: `session`, `launch`, `recover` -> `capture`, `recorder`,
`discovery` -> `heapwrite`, `records`, `collect` -> `segment` -> `layout` (cffi). `procfs` and
`death` know processes.
"""

from __future__ import annotations

from pathlib import Path

from mem_parser.version import __version__

__all__ = ["LIBRARY_NAME", "__version__", "library_path"]

LIBRARY_NAME = "libmem_sampler.so"


def library_path() -> Path:
    """Path of the sampler to put into LD_PRELOAD; it lies beside this package."""
    return Path(__file__).resolve().parent / LIBRARY_NAME
