"""Handle requests to end a command: SIGINT, SIGTERM, SIGHUP."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable
from types import FrameType

from mem_parser import inherited_signals


class Stop:
    """Turns signals into a wish to end, which the capture loop reads.

    The first `patience` signals ask to end and write the file. The next one raises
    KeyboardInterrupt: the file is not waited for, but the target is put back as it was. One more
    ends the process at once. The segment keeps what was captured.
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
        """From now on signals are for this process alone: two of them wait for the file."""
        self._patience = min(self._patience, 2)

    def asked(self) -> bool:
        """Whether somebody asked to end."""
        return self.wanted


def on_signals(numbers: Iterable[int], handler: Callable[[int, FrameType | None], None]) -> None:
    """Let ``handler`` handle these signals, but those that this process was started to ignore."""
    for number in numbers:
        if number not in inherited_signals.ignored():
            signal.signal(number, handler)
