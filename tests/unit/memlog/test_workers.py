"""Work in several processes."""

from __future__ import annotations

import os
import signal

import pytest

from landlock import NEEDS_LANDLOCK
from mem_parser.errors import InputFileError, MemError
from mem_parser.memlog.blockfile import open_named
from mem_parser.memlog.workers import run_all
from mem_sandbox import confine


def test_results_come_in_the_order_of_the_tasks() -> None:
    for jobs in (1, 2):
        assert run_all(abs, [-3, 2, -1, 0], jobs) == [3, 2, 1, 0]


def test_an_error_of_a_worker_is_an_error_here() -> None:
    with pytest.raises(InputFileError, match="/no/such/file"):
        run_all(open_named, ["/no/such/file", "/no/such/file"], 2)


def test_a_worker_that_was_killed_is_said() -> None:
    with pytest.raises(MemError, match="killed"):
        run_all(signal.raise_signal, [int(signal.SIGKILL)] * 2, 2)


@NEEDS_LANDLOCK
def test_a_confined_process_has_workers_too() -> None:
    """It may change no file, not even in /dev/shm; each worker kills itself, or else this one."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            confine.enter_command([], network=False, gives_away=False)
            run_all(signal.raise_signal, [int(signal.SIGKILL)] * 2, 2)
        except MemError as error:
            code = 0 if "killed" in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
