"""Choose which Python and interpreter frames reports show."""

from __future__ import annotations

import enum


class PythonView(enum.StrEnum):
    """Which frames the stacks of a program have that runs Python.

    MIXED: Python's frames and native ones, without those of the interpreter. NATIVE: all native
    frames, with Python's inside of the evaluation loops that run them. PYTHON: Python's alone.
    """

    MIXED = "mixed"
    NATIVE = "native"
    PYTHON = "python"
