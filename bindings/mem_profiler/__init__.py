"""The capture side: find the sampler's segment in a process, switch captures on and off, make
profiles of them.

Rooms, importing downwards only: `capture`, `inprocess`, `attach`, `doctor` -> `profile` ->
`segment` -> `process`, `confined`. cffi builds `_core` and `_inject` from the C headers.
"""

from __future__ import annotations

from pathlib import Path

from mem_parser.version import __version__

__all__ = ["LIBRARY_NAME", "__version__", "library_path"]

LIBRARY_NAME = "libmem_sampler.so"


def library_path() -> Path:
    """Path of the sampler for LD_PRELOAD; it is beside this package."""
    return Path(__file__).resolve().parent / LIBRARY_NAME
