"""Work in several processes."""

from __future__ import annotations

import signal

import pytest

from mem_parser.errors import InputFileError, MemError
from mem_parser.memlog.blockfile import open_named
from mem_parser.memlog.workers import run_all


def test_results_come_in_the_order_of_the_tasks() -> None:
    for jobs in (1, 2):
        assert run_all(abs, [-3, 2, -1, 0], jobs) == [3, 2, 1, 0]


def test_an_error_of_a_worker_is_an_error_here() -> None:
    with pytest.raises(InputFileError, match="/no/such/file"):
        run_all(open_named, ["/no/such/file", "/no/such/file"], 2)


def test_a_worker_that_was_killed_is_said() -> None:
    with pytest.raises(MemError, match="killed"):
        run_all(signal.raise_signal, [int(signal.SIGKILL)] * 2, 2)
