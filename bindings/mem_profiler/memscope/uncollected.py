"""Warn about requested data that this program cannot provide."""

from __future__ import annotations

import sys
from collections.abc import Collection
from importlib.machinery import PathFinder
from typing import Optional

from mem_parser.memscope.settings import Settings

PYTORCH = "torch"


def lines_of(settings: Settings, given: Collection[str]) -> list[str]:
    """Return a line for each option among ``given`` with rows that not every program has."""
    lines = []
    if "level" in given and "kernel" in settings.levels:
        neither = "" if "op" in settings.levels else _NO_OPERATORS
        lines.append(f"level kernel: {_KERNELS}{neither}")
    if "events" in given and "access" in settings.events:
        lines.append(f"events access: {_ACCESSES}")
    return [*lines, *(f"{what}: {of}" for what, of in _of_pytorch(settings, given))]


def absent_in(settings: Settings, given: Collection[str]) -> list[str]:
    """Return a line for each option among ``given`` that this very program has nothing for."""
    # Not by `importlib.util`: it asks the finder that waits for PyTorch's import, which then goes.
    if PYTORCH in sys.modules or PathFinder.find_spec(PYTORCH) is not None:
        return []
    return [f"{what}: {of}; it is not installed" for what, of in _of_pytorch(settings, given)]


def left_out(settings: Settings, began: Optional[Settings]) -> list[str]:  # noqa: UP045 - Python 3.9
    """Return a line for each thing that a capture does not have, since it began without.

    ``began`` are the settings with which it began; None: it has not begun.
    """
    if began is None:
        return []
    lines = []
    if "launch" in settings.all_events - began.all_events:
        lines.append(f"events launch: {_BEGAN} without")
    elif "launch" in settings.all_events:
        more = [name for name in settings.levels if name not in began.levels]
        lines += [f"level {name}: {_BEGAN} with level {began.levels[0]}" for name in more]
    if settings.host and not began.host:
        lines.append(f"device cpu: {_BEGAN} without blocks of the host")
    return lines


def _of_pytorch(settings: Settings, given: Collection[str]) -> list[tuple[str, str]]:
    """What is asked for, and of it what only PyTorch has."""
    asked = []
    if "analysis" in given and "decompose" in settings.analyses:
        asked.append(("analysis decompose", _CLASSES))
    if "analysis" in given and "inefficient" in settings.analyses:
        asked.append(("analysis inefficient", _ACCESSES))
    if "watch" in given and settings.watch is not None:
        asked.append(("watch", f"of {_PYTORCH} alone"))
    return asked


_KERNELS = "launches by the program; when the device began and ended a kernel is not collected"
_NO_OPERATORS = ", and neither are operators"
_PYTORCH = "Python programs with PyTorch 2.3.1 or later"
_ACCESSES = f"of ATB's operators, and of {_PYTORCH}"
_CLASSES = f"modules of CANN of every program; weights, gradients and so on of {_PYTORCH} alone"
_BEGAN = "not collected, since the capture began"
