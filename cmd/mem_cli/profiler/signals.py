"""How a command hears that somebody wants it to end."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable
from types import FrameType


class Stop:
    """Turns signals into a wish to end, which the capture loop looks at.

    Who asks once more than `patience` does not want to wait for the file: what is being done is
    broken off, but for putting the target back. Who asks again ends the process at once. What was
    captured is still in the segment.
    """

    def __init__(self, patience: float = 2) -> None:
        self.wanted = False
        self._patience = patience

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        """Handle a signal."""
        self.wanted = True
        self._patience -= 1
        if self._patience < 0:
            signal.signal(number, signal.SIG_DFL)
            raise KeyboardInterrupt

    def be_short(self) -> None:
        """From now on nobody else but us is meant."""
        self._patience = min(self._patience, 2)

    def asked(self) -> bool:
        """Whether somebody asked to end."""
        return self.wanted


def on_signals(numbers: Iterable[int], handler: Callable[[int, FrameType | None], None]) -> None:
    """Let ``handler`` handle these signals."""
    for number in numbers:
        signal.signal(number, handler)
