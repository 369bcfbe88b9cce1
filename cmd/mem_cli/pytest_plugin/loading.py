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


def captured_by() -> str:
    """Who captures this process, so that its tests cannot be captured; empty where nobody does."""
    from mem_profiler import inprocess

    found = inprocess.captured_by()
    return f"{found}, and one capture runs at a time" if found else ""


def _is_program(config: pytest.Config) -> bool:
    """Whether a program called `pytest.main`, so that it is no command of pytest."""
    return tuple(config.invocation_params.args) != tuple(sys.argv[1:])


def _own_start() -> str:
    """How such a program gets the sampler without a capture."""
    from mem_profiler import inprocess
    from mem_profiler.capture import preload

    try:
        inprocess.environment()
        return f"start that program with LD_PRELOAD={preload.library()}"
    except MemError as error:
        return str(error)


def refuse_captured(config: pytest.Config) -> None:
    """Refuse limits that no test could be held against. Raises `pytest.UsageError`.

    The workers of pytest-xdist are processes of their own.
    """
    if getattr(config.known_args_namespace, "numprocesses", None):
        return
    found = captured_by()
    if found:
        cure = _own_start() if _is_program(config) else "start pytest --mem by itself"
        raise pytest.UsageError(f"--mem: {found}; {cure}")


def start_again(config: pytest.Config) -> NoReturn:
    """Replace this process by the same one under the sampler. Raises `pytest.UsageError`."""
    from mem_profiler import inprocess

    if os.environ.get(_STARTED):
        raise pytest.UsageError(f"--mem: this process runs without the sampler: {_why_not()}")
    if _is_program(config):
        raise pytest.UsageError(f"--mem: a program called pytest.main(); {_own_start()}")
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
