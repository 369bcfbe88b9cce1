"""`watcher.watch` and `watcher.remove`: name blocks to watch.

    from mem_profiler.memscope import watcher

    watcher.watch(tensor, name="weights")
    watcher.watch(address, length=4096, name="table", dump_nums=10)
    watcher.remove(tensor)

What is named before the collection begins is watched when it does.
"""

from __future__ import annotations

import threading
from typing import Any

from mem_profiler.memscope.watching import UNLIMITED, Watched, Watching

_lock = threading.Lock()
_current: Watching | None = None
_waiting: list[Watched] = []


def watch(block: Any, length: int | None = None, *, name: str, dump_nums: int = UNLIMITED) -> None:
    """Watch a tensor, or ``length`` bytes from an address of the host on.

    ``dump_nums``: so many operators are written, each before and after; -1: all. A tensor is not
    kept alive.

    Raises:
        TypeError, ValueError: in one line, for what cannot be watched.
    """
    if not isinstance(name, str) or not name:
        raise ValueError(f"name is a text that is not empty, not {name!r}")
    if isinstance(dump_nums, bool) or not isinstance(dump_nums, int) or dump_nums < UNLIMITED:
        raise ValueError(f"dump_nums is -1 or a number of operators, not {dump_nums!r}")
    if _is_tensor(block):
        watched = Watched.of_tensor(block, name, 0, dump_nums)
    else:
        address, size = _range(block, length)
        watched = Watched.of_range(address, size, name, dump_nums)
    with _lock:
        if _current is None:
            _waiting.append(watched)
        else:
            _current.add(watched)


def remove(block: Any, length: int | None = None) -> None:
    """Watch a tensor, or an address with the same length, no more.

    Raises ValueError where it is not watched.
    """
    is_tensor = _is_tensor(block)
    address, size = (0, 0) if is_tensor else _range(block, length)
    with _lock:
        before = len(_waiting)
        if is_tensor:
            _waiting[:] = [w for w in _waiting if not w.is_tensor(block)]
        else:
            _waiting[:] = [w for w in _waiting if not w.is_range(address, size)]
        removed = len(_waiting) < before
        if _current is not None:
            removed |= (
                _current.remove_tensor(block) if is_tensor else _current.remove_range(address, size)
            )
    if not removed:
        what = "this tensor" if is_tensor else f"0x{address:x} with {size} bytes"
        raise ValueError(f"{what} is not watched")


def use(watching: Watching | None) -> None:
    """Let ``watching`` have what is named, also what was named before; None: nothing has it."""
    global _current  # noqa: PLW0603 - one collection in a process
    with _lock:
        _current = watching
        if watching is not None:
            for watched in _waiting:
                watching.add(watched)
            _waiting.clear()


def is_used() -> bool:
    """Whether something was named that waits to be watched."""
    return bool(_waiting)


def _is_tensor(block: Any) -> bool:
    return hasattr(block, "untyped_storage") and hasattr(block, "data_ptr")


def _range(block: Any, length: int | None) -> tuple[int, int]:
    if isinstance(block, bool) or not isinstance(block, int):
        kind = type(block).__name__
        raise TypeError(f"a tensor or an address (a number) can be watched, not {kind}")
    if not 0 < block < 1 << 64:
        raise ValueError(f"{block:#x} is no address")
    if length is None or isinstance(length, bool) or not isinstance(length, int) or length < 1:
        raise ValueError(f"an address needs length, a number of bytes from 1 on, not {length!r}")
    return block, length
