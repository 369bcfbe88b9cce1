"""Getting the sampler into the test process: pytest starts itself again with it preloaded."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import pytest

from mem_parser.errors import MemError

_STARTED = "MEM_PROFILER_PYTEST"  # the process that was started again, so that it happens once


def is_loaded() -> bool:
    """Whether this very process has a sampler that can capture."""
    from mem_profiler.segment import discovery

    try:
        discovery.open_process(os.getpid(), writable=False).close()
    except MemError:
        return False
    return True


def why_not() -> str:
    """Why this process has none, in one line."""
    from mem_profiler.segment import discovery

    try:
        discovery.open_process(os.getpid(), writable=False).close()
    except MemError as error:
        return str(error)
    return ""


def start_again(config: pytest.Config) -> NoReturn:
    """Replace this process by the same one under the sampler. Raises `pytest.UsageError`."""
    if os.environ.get(_STARTED):
        raise pytest.UsageError(f"--mem: the sampler did not get into this process: {why_not()}")
    if tuple(config.invocation_params.args) != tuple(sys.argv[1:]):
        raise pytest.UsageError(
            "--mem: pytest was called by a program; start that under `mem_profiler run`"
        )
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture is not None:
        capture.stop_global_capturing()
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, sys.orig_argv, _environment())  # noqa: S606 - the same command


def _environment() -> dict[str, str]:
    from mem_profiler.capture import launch

    variables = dict(os.environ)
    library = launch.library()
    if any(mark in library for mark in " :"):
        raise pytest.UsageError(f"--mem: {library} has a space or colon in its path")
    theirs = variables.get("LD_PRELOAD", "")
    variables["LD_PRELOAD"] = f"{library}:{theirs}" if theirs else library
    variables["PYTHONMALLOC"] = "malloc"
    variables[_STARTED] = str(os.getpid())
    return variables
