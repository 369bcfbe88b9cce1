"""The capture side: find the sampler's segment in a process, switch it on and off, make a profile
of it.

Rooms, importing downwards only: `capture`, `inprocess`, `attach`, `doctor` -> `profile` ->
`segment` -> `process`, `confined`. What cffi built of the C headers is `_core` and `_inject`.
"""

from __future__ import annotations

from pathlib import Path

from mem_parser.version import __version__

__all__ = ["LIBRARY_NAME", "__version__", "library_path"]

LIBRARY_NAME = "libmem_sampler.so"


def library_path() -> Path:
    """Path of the sampler to put into LD_PRELOAD; it lies beside this package."""
    return Path(__file__).resolve().parent / LIBRARY_NAME
