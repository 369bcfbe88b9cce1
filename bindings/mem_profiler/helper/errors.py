"""The one error of programs that capture themselves, and the one warning."""

from __future__ import annotations

import sys
import warnings
from typing import Any


class TrackerError(RuntimeError):
    """A capture of this process that cannot be; one line, with what can be done where there is
    something.
    """

    def __init__(self, text: str, hint: str | None = None) -> None:
        super().__init__(f"{text} ({hint})" if hint else text)
        self.text, self.hint = text, hint


class LostSamplesWarning(RuntimeWarning):
    """A capture whose numbers are too low, since many of its samples were lost."""


def warn_of_losses(answer: dict[str, Any]) -> None:
    """Warn whoever ended a capture, where its ``answer`` says that samples were lost."""
    lost, samples = answer.get("many_lost", 0), answer.get("samples", 0)
    if not lost:
        return
    level, frame = 1, sys._getframe()  # noqa: SLF001 - the documented way to a frame
    while frame.f_back is not None and _is_ours(frame.f_globals.get("__name__", "")):
        level, frame = level + 1, frame.f_back
    warnings.warn(
        f"{100 * lost / (lost + samples):.0f} % of the samples were lost, so the numbers of "
        f"{answer['path']} are too low: a larger rate, or a larger MEM_PROFILER_MAX_MEMORY in the "
        "environment, keeps them",
        LostSamplesWarning,
        stacklevel=level,
    )


def _is_ours(module: str) -> bool:
    return module.startswith("mem_profiler.") or module == "contextlib"
