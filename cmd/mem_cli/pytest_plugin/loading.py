"""Getting the sampler into the test process: pytest starts itself again with it preloaded."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import pytest

from mem_parser.errors import MemError, NoSampler

_STARTED = "MEM_PROFILER_PYTEST"  # the process that was started again, so that it happens once


def is_loaded() -> bool:
    """Whether this very process has a sampler that can capture."""
    # The rest brings numpy, and most runs have no segment of a sampler.
    with open("/proc/self/maps", "rb") as file:
        if b"/mem_profiler." not in file.read():
            return False
    from mem_profiler import inprocess

    return inprocess.is_loaded()


def leave_environment(config: pytest.Config) -> None:
    """Take back what `start_again` put into the environment: programs of tests have none of it.

    The process that starts the workers of pytest-xdist has no tests, and they need all of it.
    """
    if _STARTED not in os.environ or getattr(config.option, "dist", "no") != "no":
        return
    from mem_profiler.capture import preload

    del os.environ[_STARTED]
    preload.take_back(os.environ, preload.library())


def _why_not() -> str:
    """Why the process that was started with the sampler cannot be captured, with the cure."""
    from mem_profiler import doctor, inprocess
    from mem_profiler.capture import preload
    from mem_profiler.process import procfs
    from mem_profiler.segment import discovery

    pid = os.getpid()
    try:
        discovery.open_process(pid, writable=False).close()
    except NoSampler:
        environment = procfs.environment(pid)
        found = doctor.reason(sys.executable, environment, {os.getuid()}, preload.library())
        return f"{found.text}; {found.cure}" if found.cure else found.text
    except MemError:
        pass
    return inprocess.why_not()


def start_again(config: pytest.Config) -> NoReturn:
    """Replace this process by the same one under the sampler. Raises `pytest.UsageError`."""
    from mem_profiler import inprocess

    if os.environ.get(_STARTED):
        raise pytest.UsageError(f"--mem: this process runs without the sampler: {_why_not()}")
    if tuple(config.invocation_params.args) != tuple(sys.argv[1:]):
        raise pytest.UsageError(
            "--mem: a program called pytest.main(); start that program with `mem_profiler run`"
        )
    try:
        variables = inprocess.environment() | {_STARTED: str(os.getpid())}
    except MemError as error:
        raise pytest.UsageError(f"--mem: {error}") from None
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture is not None:
        capture.stop_global_capturing()
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, sys.orig_argv, variables)  # noqa: S606 - the same command
