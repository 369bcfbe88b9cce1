"""The points at which tests end the controller, or the target: after each step of an attach.

Model: MEM_PROFILER_TEST_KILL_AT names one point: a number is a step of the C engine (enum
mp_inject_step), a word a moment of the conversation with the loader. There the working process ends
by SIGKILL, or with MEM_PROFILER_TEST_KILL=target the target does. Without the variable nothing
happens.
"""

from __future__ import annotations

import os
import signal

VARIABLE = "MEM_PROFILER_TEST_KILL_AT"
WHO_VARIABLE = "MEM_PROFILER_TEST_KILL"


def _victim(target: int) -> int:
    return target if os.environ.get(WHO_VARIABLE) == "target" else os.getpid()


def of_engine(target: int) -> tuple[int, int]:
    """The engine's step after which a process ends, and the process; (0, 0): none."""
    value = os.environ.get(VARIABLE, "")
    return (int(value), _victim(target)) if value.isdigit() else (0, 0)


def at(point: str, target: int) -> None:
    """Kill the process under test if the variable names `point`."""
    if os.environ.get(VARIABLE) == point:
        os.kill(_victim(target), signal.SIGKILL)
