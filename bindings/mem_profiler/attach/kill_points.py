"""Where tests end the controller: after each step of an attach, to see that the target goes on.

Model: MEM_PROFILER_TEST_KILL_AT names one point: a number is a step of the C engine (enum
mp_inject_step), a word a moment of the conversation with the loader. The controller ends by SIGKILL
there. Without the variable nothing happens.
"""

from __future__ import annotations

import os
import signal

VARIABLE = "MEM_PROFILER_TEST_KILL_AT"


def of_engine() -> int:
    """The engine's step after which the controller ends; 0: none."""
    value = os.environ.get(VARIABLE, "")
    return int(value) if value.isdigit() else 0


def at(point: str) -> None:
    """The controller has come to `point`."""
    if os.environ.get(VARIABLE) == point:
        os.kill(os.getpid(), signal.SIGKILL)
