"""Watch blocks: before and after each operator, their content or its check sum.

It says too which operator changed a block: the one between whose begin and end the sum changed, or,
where it changed between two operators, what ran before the second one.

The sum is CRC-64 with the polynomial of ECMA-182, 0x42F0E1EBA9EA3693, all ones before and after.
xz's library has the same polynomial with the bits of each byte, and of the sum, the other way
round: it takes bytes that were turned, and its sum is turned back. Where it is not installed, a
table does the same, a thousand times slower.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from mem_parser.memscope.settings import Watch
from mem_profiler.memscope.operators import Call, Listener
from mem_profiler.memscope.tensorfacts import HOST, device_of
from mem_profiler.memscope.watchfiles import WatchFiles, block_name

_POLYNOMIAL = 0x42F0E1EBA9EA3693
_ONES = (1 << 64) - 1
_TURNED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_LIBRARY = "liblzma.so.5"
_PIECE_BYTES = 1 << 20
"""So much is turned at a time."""


def crc64(data: bytes | memoryview) -> int:
    """Return the sum of bytes."""
    fast = _library()
    return by_table(data) if fast is None else _by_library(data, fast)


def _by_library(data: bytes | memoryview, function: Callable[..., int]) -> int:
    view = memoryview(data).cast("B")
    value = 0
    for start in range(0, len(view), _PIECE_BYTES):
        piece = bytes(view[start : start + _PIECE_BYTES]).translate(_TURNED)
        value = function(piece, len(piece), value)
    if not len(view):
        value = function(b"", 0, value)
    return int(f"{value:064b}"[::-1], 2)


def by_table(data: bytes | memoryview) -> int:
    """Return the same, by bytes."""
    table = _table()
    value = _ONES
    for byte in memoryview(data).cast("B"):
        value = (value << 8 & _ONES) ^ table[value >> 56 ^ byte]
    return value ^ _ONES


@lru_cache(maxsize=1)
def _library() -> Callable[..., int] | None:
    try:
        function = ctypes.CDLL(_LIBRARY).lzma_crc64
    except (OSError, AttributeError):
        return None
    function.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64]
    function.restype = ctypes.c_uint64
    found: Callable[..., int] = function
    return found


@lru_cache(maxsize=1)
def _table() -> tuple[int, ...]:
    rows = []
    for byte in range(256):
        value = byte << 56
        for _ in range(8):
            value = (value << 1 & _ONES) ^ (_POLYNOMIAL if value >> 63 else 0)
        rows.append(value)
    return tuple(rows)


UNLIMITED = -1
_MOST_NAMED = 5


class Watched:
    """One block. A tensor is not kept alive: it is watched as long as the program has it."""

    def __init__(self, name: str, output: int, dumps: int) -> None:
        self.name = name
        self.output = output
        self.left = dumps
        """How many operators are still to be written; `UNLIMITED`."""
        self.device = HOST
        self.by_option = False
        self.sum: int | None = None
        self._tensor: weakref.ref[Any] | None = None
        self._range: tuple[int, int] | None = None

    @classmethod
    def of_tensor(cls, tensor: Any, name: str, output: int, dumps: int) -> Watched:
        """Watch a tensor."""
        watched = cls(name, output, dumps)
        watched.device = device_of(tensor.device)
        watched._tensor = weakref.ref(tensor)
        return watched

    @classmethod
    def of_range(cls, address: int, length: int, name: str, dumps: int) -> Watched:
        """Watch addresses of the host."""
        watched = cls(name, 0, dumps)
        watched._range = (address, length)
        return watched

    def is_tensor(self, tensor: Any) -> bool:
        """Whether it is this tensor."""
        return self._tensor is not None and self._tensor() is tensor

    def is_range(self, address: int, length: int) -> bool:
        """Whether it is these addresses."""
        return self._range == (address, length)

    def content(self) -> bytes | None:
        """Return the bytes now; None where the tensor, or what was at the addresses, is gone."""
        if self._range is not None:
            return memory_at(*self._range)
        tensor = None if self._tensor is None else self._tensor()
        return None if tensor is None else content_of(tensor)


def memory_at(address: int, length: int) -> bytes | None:
    """Return what is there; None where not all of it is memory. Cannot fault as a pointer can."""
    handle = os.open("/proc/self/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while length:
            part = os.pread(handle, min(length, 1 << 30), address)
            if not part:
                return None
            parts.append(part)
            address += len(part)
            length -= len(part)
        return b"".join(parts)
    except (OSError, OverflowError):
        return None
    finally:
        os.close(handle)


def content_of(tensor: Any) -> bytes:
    """Return the elements of a tensor, in their order, whatever its strides and its device."""
    plain = tensor.detach()
    if plain.is_sparse or plain.is_quantized:
        raise ValueError(f"a tensor of layout {plain.layout} cannot be watched")
    plain = plain.to("cpu").resolve_conj().resolve_neg().contiguous()
    if not plain.numel():
        return b""
    return ctypes.string_at(plain.data_ptr(), plain.numel() * plain.element_size())


class Watching(Listener):
    """Watches blocks around operators: those of an option, and those that the program names."""

    def __init__(self, files: WatchFiles, option: Watch | None = None) -> None:
        self._files = files
        self._option = option
        self._full = option is not None and option.full_content
        self._watched: list[Watched] = []
        self._lock = threading.RLock()
        self._counts: dict[str, int] = {}
        self._ended = False
        self._changes: dict[tuple[str, int], list[str]] = {}

    # -- what is watched -------------------------------------------------------------------------

    def add(self, watched: Watched) -> None:
        """Watch a block from now on; its content now is what it is compared with."""
        content = watched.content()
        watched.sum = None if content is None else crc64(content)
        with self._lock:
            self._watched.append(watched)

    def remove_tensor(self, tensor: Any) -> bool:
        """Watch a tensor no more; whether it was watched."""
        return self._keep(lambda w: not w.is_tensor(tensor))

    def remove_range(self, address: int, length: int) -> bool:
        """Watch addresses no more; whether they were watched."""
        return self._keep(lambda w: not w.is_range(address, length))

    def _keep(self, wanted: Any) -> bool:
        with self._lock:
            kept = [w for w in self._watched if wanted(w)]
            changed = len(kept) < len(self._watched)
            self._watched = kept
        return changed

    # -- operators -------------------------------------------------------------------------------

    def before(self, call: Call) -> None:
        """Look at all blocks."""
        with self._lock:
            count = self._counts[call.name] = self._counts.get(call.name, 0) + 1
            call.facts[self] = count
            self._look(call.name, count, "before")

    def after(self, call: Call) -> None:
        """Look at all blocks; begin and end as the option says."""
        with self._lock:
            count = call.facts[self]
            self._look(call.name, count, "after")
            option = self._option
            if option is None or self._ended or call.failure:
                return
            if is_operator(option.end, call.name) and (
                not option.start or any(w.by_option for w in self._watched)
            ):
                self._ended = True
                self._watched = [w for w in self._watched if not w.by_option]
                if not option.start:
                    self._watched = []
            elif option.start and is_operator(option.start, call.name):
                self._begin(call, option)

    def _begin(self, call: Call, option: Watch) -> None:
        tensors = [t for access, t in call.results if access == "WRITE"]
        # What an operator changes in place is its output too.
        tensors = tensors or [t for access, t in call.arguments if access == "WRITE"]
        self._watched = [w for w in self._watched if not w.by_option]
        for number, tensor in enumerate(tensors):
            if option.output in {None, number}:
                watched = Watched.of_tensor(tensor, option.start, number, UNLIMITED)
                watched.by_option = True
                self.add(watched)

    def _look(self, operator: str, count: int, when: str) -> None:
        tid = threading.get_native_id()
        for watched in list(self._watched):
            content = watched.content()
            if content is None:
                self._watched.remove(watched)
                continue
            name = block_name(
                watched.device,
                tid,
                operator,
                count,
                watched=watched.name,
                output=watched.output,
                when=when,
            )
            if watched.left:
                if self._full:
                    self._files.write_content(watched.device, name, content)
                value = crc64(content)
                if not self._full:
                    self._files.write_sum(watched.device, name, value)
                if when == "after" and watched.left > 0:
                    watched.left -= 1
            else:
                value = crc64(content)
            if watched.sum is not None and value != watched.sum:
                self._say(watched, (operator, count, when, value), tid)
            watched.sum = value

    def _say(self, watched: Watched, found: tuple[str, int, str, int], tid: int) -> None:
        operator, count, when, value = found
        self._files.write_change(
            watched.device,
            (
                watched.name, watched.output, operator, count, when, f"0x{watched.sum:016x}",
                f"0x{value:016x}", time.monotonic_ns(), tid,
            ),
        )  # fmt: skip
        by = f"{operator} (call {count})"
        if when == "before":
            by = f"no operator, before {by}"
        self._changes.setdefault((watched.name, watched.output), []).append(by)

    def summary(self) -> list[str]:
        """Return a line for each block that changed: how often, and by which operators."""
        lines = []
        with self._lock:
            for (name, output), by in self._changes.items():
                shown = "; ".join(by[:_MOST_NAMED])
                more = f"; and {len(by) - _MOST_NAMED} more" if len(by) > _MOST_NAMED else ""
                times = "once" if len(by) == 1 else f"{len(by)} times"
                lines.append(f"{name} output {output} changed {times}: {shown}{more}")
            if self._files.problem:
                lines.append(f"blocks were not written: {self._files.problem}")
        return lines

    def finish(self) -> None:
        """Print the summary on standard error, once."""
        for line in self.summary():
            sys.stderr.write(f"mem_profiler: watch: {line}\n")
        self._changes.clear()


def is_operator(wanted: str, name: str) -> bool:
    """Whether an operator is the one that a user named: `aten.add.Tensor`, `aten::add`, `add`."""
    spelled = wanted.replace("::", ".")
    namespace, _, rest = name.partition(".")
    base = rest.rpartition(".")[0] or rest
    return spelled in {name, rest, f"{namespace}.{base}", base}
