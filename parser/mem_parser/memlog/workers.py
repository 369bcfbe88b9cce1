"""The same work on several tasks, in separate processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

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
    results: list[Any] = [None] * len(tasks)
    left = list(range(len(tasks)))[::-1]
    busy: dict[Connection, int] = {}
    with ExitStack() as stack:
        ends = [_started(work, stack) for _ in range(jobs)]
        for end in ends:
            _hand_over(end, tasks, left, busy)
        while busy:
            for ready in wait(list(busy)):
                assert isinstance(ready, Connection)
                results[busy.pop(ready)] = _told(ready)
                _hand_over(ready, tasks, left, busy)
    return results


def _started(work: Callable[[Any], Any], stack: ExitStack) -> Connection:
    """Return this end of a pipe to a new worker, which the stack ends.

    The pools of the library need semaphores in shared memory, which a confined process has not.
    """
    context = get_context("spawn")
    mine, theirs = context.Pipe()
    with theirs:
        worker = context.Process(target=_serve, args=(work, theirs), daemon=True)
        worker.start()
    stack.callback(worker.join)
    stack.callback(worker.terminate)
    return stack.enter_context(mine)


def _hand_over(
    end: Connection, tasks: Sequence[Any], left: list[int], busy: dict[Connection, int]
) -> None:
    if left:
        busy[end] = left.pop()
        try:
            end.send(tasks[busy[end]])
        except BrokenPipeError:
            raise _killed() from None


def _told(end: Connection) -> Any:
    try:
        is_result, told = end.recv()
    except (EOFError, ConnectionResetError):
        raise _killed() from None
    if not is_result:
        raise told
    return told


def _killed() -> MemError:
    return MemError(
        "a process that read events was killed", hint="perhaps there is too little memory"
    )


def _serve(work: Callable[[Any], Any], end: Connection) -> None:
    """In a worker: do each task that comes, until the other end is closed."""
    while True:
        try:
            task = end.recv()
        except EOFError:
            return
        try:
            told = (True, work(task))
        except Exception as error:
            told = (False, error)
        end.send(told)
