"""`RecordFunction`: a part of a program as one row of the trace of Python functions."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

from mem_profiler.memscope import tracer
from mem_profiler.memscope.calls import Calls

_Function = TypeVar("_Function", bound=Callable[..., Any])


class RecordFunction:
    """A row of the trace with the name that it is given, while a trace runs.

    with RecordFunction("forward"):
        model(x)

    @RecordFunction("step")
    def step(): ...
    """

    def __init__(self, name: str) -> None:
        if not isinstance(name, str) or not name:
            raise ValueError(f"name is a text that is not empty, not {name!r}")
        self._name = sys.intern(name)
        self._calls: list[Calls | None] = []

    def __enter__(self) -> RecordFunction:  # noqa: PYI034 - Python 3.9
        calls = tracer.running()
        self._calls.append(calls)
        if calls is not None:
            calls.entered(self._name)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        calls = self._calls.pop()
        # The trace may have ended, which ended the row.
        if calls is not None and calls is tracer.running():
            calls.left(self._name)

    def __call__(self, function: _Function) -> _Function:
        """Make each call of a function such a row."""

        @functools.wraps(function)
        def recorded(*arguments: Any, **options: Any) -> Any:
            with RecordFunction(self._name):
                return function(*arguments, **options)

        return recorded  # type: ignore[return-value]
