"""Owners that the program names itself, for a span of code or for one block.

with describe.describer(owner="cache"): ...
@describe.describer(owner="cache")
describe.describer(tensor_or_address, owner="cache")
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, Optional, TypeVar

from mem_profiler.memscope import collection

_Function = TypeVar("_Function", bound=Callable[..., Any])
_open = threading.local()


class describer:  # noqa: N801 - the name that programs have
    """Name the owner of blocks. Raises TypeError, ValueError, TrackerError."""

    def __init__(self, block: Any = None, *, owner: str) -> None:
        if not isinstance(owner, str):
            raise TypeError(f"owner is a text (str), not {owner!r}")
        if not owner.strip():
            raise ValueError("owner is empty")
        self._owner = owner
        if block is not None:
            self._name(block)

    def _name(self, block: Any) -> None:
        own = collection.current()
        if own.runs:
            device, address = _place_of(block)
            own.tell("OWNER", "USER", self._owner, device=device, address=address)

    def __enter__(self) -> describer:  # noqa: PYI034 - Python 3.9
        _stack().append(self._owner)
        self._tell("BEGIN")
        return self

    def __exit__(self, *_: object) -> None:
        _stack().pop()
        self._tell("END")

    def _tell(self, kind: str) -> None:
        own = collection.current()
        if own.runs:
            own.tell("REGION", kind, self._owner)

    def __call__(self, function: _Function) -> _Function:
        """Name the owner of what each call of a function allocates."""

        @functools.wraps(function)
        def described(*arguments: Any, **options: Any) -> Any:
            with self:
                return function(*arguments, **options)

        return described  # type: ignore[return-value]


def _stack() -> list[str]:
    """The owners that this thread allocates for."""
    if not hasattr(_open, "owners"):
        _open.owners = []
    owners: list[str] = _open.owners
    return owners


def _place_of(block: Any) -> tuple[Optional[str], int]:  # noqa: UP045 - Python 3.9 evaluates it
    """Return device and address of a tensor, or of an address."""
    if isinstance(block, int) and not isinstance(block, bool) and 0 < block < 1 << 64:
        return None, block
    pointer = getattr(block, "data_ptr", None)
    if not callable(pointer):
        raise TypeError(f"a tensor or an address, not {type(block).__name__}")
    device = getattr(block, "device", None)
    number = getattr(device, "index", None)
    return (None if number is None else str(number)), int(pointer())


def _tell_open_regions(own: collection.Collection) -> None:
    """A collection begins while this thread is in regions: it learns of them."""
    for owner in _stack():
        own.tell("REGION", "BEGIN", owner)


collection.on_begin.append(_tell_open_regions)
