"""The Python stack of the caller, as the dump has it: `file(line): function`, innermost first."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import FrameType

from mem_parser.libraries.frameworks import FrameKind, folded, kind_of
from mem_profiler import OWN_FOLDERS

_PROGRAM = FrameKind.PROGRAM
_MOST_FRAMES = 512
"""As many innermost frames are looked at, as the sampler reads."""


def python_stack(depth: int, *, every: bool = False) -> str | None:
    """Return at most ``depth`` frames, none of ours; None for a depth of 0. ``every``: the inner
    frames of a framework too.
    """
    if depth <= 0:
        return None
    found = folded(_frames(sys._getframe(1), every=every), depth)  # noqa: SLF001 - documented
    lines = [
        f"{frame.f_code.co_filename}({frame.f_lineno}): {frame.f_code.co_name}" for frame in found
    ]
    return "\n".join(lines) or "NA"


def _frames(frame: FrameType | None, *, every: bool) -> Iterator[tuple[FrameType, FrameKind]]:
    for _ in range(_MOST_FRAMES):
        if frame is None:
            return
        code = frame.f_code
        if not code.co_filename.startswith(OWN_FOLDERS):
            yield frame, _PROGRAM if every else kind_of(code.co_filename, code.co_name)
        frame = frame.f_back
