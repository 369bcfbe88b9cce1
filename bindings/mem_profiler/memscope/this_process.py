"""Capture this process through a helper that follows it to its end."""

from __future__ import annotations

from typing import Any

from mem_parser.memscope.settings import Settings
from mem_profiler.helper.client import Helper
from mem_profiler.tracking.inside import Hooks, has_segment

_hooks = Hooks()


class Own:
    """One capture."""

    def __init__(self, settings: Settings, stamp: str) -> None:
        """Begin. Raises TrackerError."""
        if has_segment():
            _hooks.rescan()
        else:
            _hooks.begin(pymem=False)
        self._helper: Any = None
        try:
            if _hooks.active:
                _hooks.offer_marks()
            self._helper = Helper("collection")
            self._helper.ask("collect", settings.as_dict(), stamp)
        except BaseException:
            if self._helper is not None:
                self._helper.close()
            _hooks.end()
            raise

    def rescan(self, after_s: float = 0.0) -> None:
        """See to it that libraries that were opened since are seen."""
        _hooks.rescan(after_s)

    def end(self) -> list[str]:
        """End the capture, and wait for its dumps; the lines of the analyses.

        Raises TrackerError.
        """
        try:
            told = self._helper.ask("finish")
        finally:
            self._helper.close()
            _hooks.end()
        return [str(line) for line in told["lines"]]

    def leave(self) -> None:
        """In a fork child: the capture is the parent's."""
        self._helper.close()
