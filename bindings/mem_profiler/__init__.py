"""The capture side: find the sampler's segment in a process, switch captures on and off, make
profiles of them.

Rooms, importing downwards only: `notebook`, `memray_api`, `driver_stats` -> `tracking`, `inprocess`
-> `helper`, `capture`, `attach`, `doctor` -> `profile` -> `segment` -> `process`.
`memscope` stands alone: it analyses files of device memory.
cffi builds `_core` and `_inject` from the C headers.

For programs that capture themselves: `Tracker`.
"""

import os.path
import sys

if sys.version_info < (3, 9):  # noqa: UP036 - programs import this, whatever their Python
    raise ImportError(f"mem_profiler needs Python 3.9 or later; this is {sys.version.split()[0]}")

from mem_parser.version import __version__

TYPE_CHECKING = False  # `typing` and `pathlib` would cost more than all else here
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from mem_profiler.tracking import LostSamplesWarning, Tracker, TrackerError

__all__ = [
    "LIBRARY_NAME",
    "OWN_FOLDERS",
    "LostSamplesWarning",
    "Tracker",
    "TrackerError",
    "__version__",
    "include_path",
    "library_path",
    "load_ipython_extension",
]

LIBRARY_NAME = "libmem_sampler.so"
OWN_FOLDERS = tuple(
    {f"{os.path.dirname(file)}/" for file in (__file__, os.path.realpath(__file__))}
)
"""This package's folder, as it was imported and without links: code below it is in no stack."""


def library_path() -> "Path":
    """Path of the sampler for LD_PRELOAD; it is beside this package."""
    from pathlib import Path

    return Path(__file__).resolve().parent / LIBRARY_NAME


def include_path() -> "Path":
    """Path of the folder of mem_profiler.h, for `cc -I`: allocators report their blocks by it."""
    from pathlib import Path

    return Path(__file__).resolve().parent / "include"


def load_ipython_extension(shell: "Any") -> None:
    """`%load_ext mem_profiler` in Jupyter and IPython: registers `%%mem_profile`."""
    from mem_profiler import notebook

    notebook.load(shell)


def __getattr__(name: str) -> "Any":
    """`Tracker`, its error and warning, imported when asked for: no command needs them."""
    if name in {"LostSamplesWarning", "Tracker", "TrackerError"}:
        from mem_profiler import tracking

        return getattr(tracking, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
