"""The same work on several tasks, in processes of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TypeVar

from mem_parser.errors import MemError

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")


def run_all(work: Callable[[_Task], _Result], tasks: Sequence[_Task], jobs: int) -> list[_Result]:
    """Return ``work(task)`` of each task, in their order; in ``jobs`` processes, or here for one.

    The processes begin anew (they are no forks), so ``work`` is a function of a module. Raises what
    ``work`` raises, and MemError for a process that was killed.
    """
    jobs = min(jobs, len(tasks))
    if jobs <= 1:
        return [work(task) for task in tasks]
    try:
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            return list(pool.map(work, tasks))
    except PermissionError:  # no shared memory for them: a confined process
        return [work(task) for task in tasks]
    except BrokenProcessPool as error:
        raise MemError(
            "a process that read events was killed", hint="perhaps there is too little memory"
        ) from error
