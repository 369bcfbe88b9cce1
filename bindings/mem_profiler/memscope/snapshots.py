"""Snapshots: a row with the memory of the framework and of the device at this moment."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable
from typing import Any, Optional, TypeVar, Union

from mem_profiler.memscope import collection

Mask = Union[None, int, "list[int]", "tuple[int, ...]"]
_Function = TypeVar("_Function", bound=Callable[..., Any])
_FRAMEWORK = (
    ("reserved", "memory_reserved"),
    ("max_reserved", "max_memory_reserved"),
    ("allocated", "memory_allocated"),
    ("max_allocated", "max_memory_allocated"),
)
DEFAULT_NAME = "Memory Snapshot"


def take_snapshot(device_mask: Mask = None, name: str = DEFAULT_NAME) -> None:
    """Write a row for each device: what PyTorch has reserved and allocated, what the device has.

    ``device_mask``: None is all devices, else a number, or a list or tuple of numbers. No window
    need be open. Raises TrackerError, TypeError, ValueError.
    """
    if not isinstance(name, str):
        raise TypeError(f"name is a text (str), not {name!r}")
    devices = _devices(device_mask)
    own = collection.current()
    with own.lock:
        own.ensure()
        for device in devices:
            attributes = {} if device is None else _memory_of(device)
            told = None if device is None else str(device)
            own.tell("SNAPSHOT", "SNAPSHOT", name, device=told, attributes=attributes)


def _devices(mask: Mask) -> Iterable[Optional[int]]:  # noqa: UP045 - Python 3.9 evaluates it
    if mask is None:
        count = _asked("device_count")
        return range(count) if isinstance(count, int) and count > 0 else (None,)
    found = [mask] if isinstance(mask, int) else mask
    if isinstance(mask, bool) or not isinstance(found, (list, tuple)):
        raise TypeError(f"device_mask is None, a number, a list or a tuple, not {mask!r}")
    for number in found:
        if isinstance(number, bool) or not isinstance(number, int):
            raise TypeError(f"device_mask has {number!r}, which is no number of a device")
        if not 0 <= number <= 31:
            raise ValueError(f"device_mask has {number}: devices are 0 to 31")
    return found


def _asked(name: str, *arguments: Any) -> Any:
    """Return what PyTorch's part for devices answers; None where there is none."""
    part = getattr(sys.modules.get("torch"), "npu", None)
    try:
        return getattr(part, name)(*arguments)
    except (AttributeError, RuntimeError, TypeError, ValueError, AssertionError):
        return None


def _memory_of(device: int) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    for key, name in _FRAMEWORK:
        value = _asked(name, device)
        if isinstance(value, int):
            attributes[key] = value
    whole = _asked("mem_get_info", device)
    if isinstance(whole, tuple) and len(whole) == 2 and whole[1]:
        free, total = int(whole[0]), int(whole[1])
        attributes |= {"total": total, "free": free}
        attributes["device_rate"] = f"{100 * (total - free) / total:.2f}"
    if attributes.get("reserved") and "allocated" in attributes:
        rate = 100 * attributes["allocated"] / attributes["reserved"]
        attributes["reserved_rate"] = f"{rate:.2f}"
    return attributes


class TakeSnapshot:
    """A snapshot before and one behind a block or a function: `NAME Start` and `NAME End`."""

    def __init__(self, device_mask: Mask = None, name: str = DEFAULT_NAME) -> None:
        self._mask, self._name = device_mask, name
        _devices(device_mask)

    def __enter__(self) -> TakeSnapshot:  # noqa: PYI034 - Python 3.9
        take_snapshot(self._mask, f"{self._name} Start")
        return self

    def __exit__(self, *_: object) -> None:
        take_snapshot(self._mask, f"{self._name} End")

    def __call__(self, function: _Function) -> _Function:
        """Take them around each call of a function."""

        @functools.wraps(function)
        def taken(*arguments: Any, **options: Any) -> Any:
            with self:
                return function(*arguments, **options)

        return taken  # type: ignore[return-value]
