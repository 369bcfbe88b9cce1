"""The Python stack of the caller, as the dump has it: `file(line): function`, innermost first."""

from __future__ import annotations

import os
import sys
from types import FrameType

_OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep
_CALLS_US = ("torch/_dynamo/eval_frame.py", "torch/_compile.py", "torch/_ops.py")
"""What PyTorch puts between an operator and a mode."""


def python_stack(depth: int) -> str | None:
    """Return at most ``depth`` frames, without ours that called this; None for a depth of 0."""
    if depth <= 0:
        return None
    lines: list[str] = []
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the documented way
    while frame is not None and frame.f_code.co_filename.startswith(_OURS):
        frame = frame.f_back
    while frame is not None and frame.f_code.co_filename.endswith(_CALLS_US):
        frame = frame.f_back
    while frame is not None and len(lines) < depth:
        code = frame.f_code
        lines.append(f"{code.co_filename}({frame.f_lineno}): {code.co_name}")
        frame = frame.f_back
    return "\n".join(lines) or "NA"
