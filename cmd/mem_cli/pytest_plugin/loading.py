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
    from mem_profiler import inprocess

    return inprocess.is_loaded()


def start_again(config: pytest.Config) -> NoReturn:
    """Replace this process by the same one under the sampler. Raises `pytest.UsageError`."""
    from mem_profiler import inprocess

    if os.environ.get(_STARTED):
        why = inprocess.why_not()
        raise pytest.UsageError(f"--mem: this process runs without the sampler: {why}")
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
