"""Side rows of operators: begin and end, and one row for each tensor that they read or write."""

from __future__ import annotations

import json
import sys
import threading
import time
from functools import lru_cache
from typing import Any

from mem_profiler.memscope.operators import Call, Listener
from mem_profiler.memscope.siderows import SideRows, line_of, python_stack, row_now
from mem_profiler.memscope.tensorfacts import device_of, short_dtype, storage_of

POOL = "PTA"
_NULL = "null"


@lru_cache(maxsize=4096)
def _quoted(text: str) -> str:
    return json.dumps(text)


class OperatorRows(Listener):
    """Writes the rows. ``launch``: begin and end; ``access``: tensors; ``stack_depth``: of Python's
    stack in each row; ``all_frames``: with the inner ones of frameworks.

    The begin is in the file before the operator runs, so that one that ends the process is known.
    """

    def __init__(
        self,
        rows: SideRows,
        *,
        launch: bool = True,
        access: bool = False,
        stack_depth: int = 0,
        all_frames: bool = False,
    ) -> None:
        self._rows = rows
        self._launch = launch
        self._access = access
        self._depth = stack_depth
        self._all_frames = all_frames

    def before(self, call: Call) -> None:
        """Note where the arguments are: the operator may give them another block."""
        accesses: list[str] = []
        device = _device(call.arguments)
        stack = _NULL
        if self._depth:
            stack = json.dumps(python_stack(self._depth, every=self._all_frames))
        if self._access:
            accesses = _parts(call.arguments)
        call.facts[self] = (accesses, device, stack)
        if self._launch:
            self._rows.write_lines([self._line("ATEN_START", call, device, stack)])

    def after(self, call: Call) -> None:
        """Write accesses and the end."""
        accesses, device, stack = call.facts[self]
        lines: list[str] = []
        if self._access and not call.failure:
            accesses += _parts(call.results)
            head = f"[{time.monotonic_ns()},{threading.get_native_id()},"
            name = _quoted(call.name)
            lines = [f"{head}{a.format(name=name)}{stack}]\n" for a in accesses]
        if self._launch:
            # That of the begin: a dump of one device has both rows, or none.
            lines.append(self._line("ATEN_END", call, device, stack))
        if lines:
            self._rows.write_lines(lines)

    def _line(self, event_type: str, call: Call, device: str | None, stack: str) -> str:
        attributes = f'{{"failed":{_quoted(call.failure)}}}' if call.failure else "{}"
        return (
            f"[{time.monotonic_ns()},{threading.get_native_id()},"
            f'{_quoted(device) if device else _NULL},"OP_LAUNCH","{event_type}",'
            f"{_quoted(call.name)},null,{attributes},{stack}]\n"
        )


def _parts(tensors: list[tuple[str, Any]]) -> list[str]:
    """Return the middle of the rows of accesses, with a place for the operator's name."""
    parts: list[str] = []
    for access, tensor in tensors:
        storage = storage_of(tensor)
        if storage is not None:
            shape = list(tensor.shape)
            parts.append(
                f'"{storage.device}","ACCESS","{access}",{{name}},{storage.address},'
                f'{{{{"size":{storage.size_bytes},"type":"{POOL}","dtype":"{short_dtype(tensor)}",'
                f'"shape":"{shape}"}}}},'
            )
    return parts


def _device(tensors: list[tuple[str, Any]]) -> str | None:
    return device_of(tensors[0][1].device) if tensors else None


class BlockRows(Listener):
    """Writes what the classes of blocks need: who wrote them, when gradients are on in a thread,
    when backward begins.

    ``accesses``: whether `OperatorRows` writes accesses already, which say who wrote a block.
    """

    def __init__(self, rows: SideRows, *, accesses: bool) -> None:
        self._rows = rows
        self._accesses = accesses
        self._thread = threading.local()
        self._latest_backward = -1
        torch: Any = sys.modules["torch"]
        self._grad_on = torch.is_grad_enabled
        # -1: not in a backward; numbers of later ones are higher.
        self._backward = torch._C._current_graph_task_id  # noqa: SLF001 - no other name

    def before(self, call: Call) -> None:  # noqa: ARG002 - the moment is what counts
        """Say what is new since the thread's last operator."""
        rows = []
        grad_on = self._grad_on()
        if getattr(self._thread, "grad_on", None) is not grad_on:
            self._thread.grad_on = grad_on
            rows.append(row_now("PHASE", "GRAD_ON" if grad_on else "GRAD_OFF", ""))
        backward = self._backward()
        if backward > self._latest_backward:
            self._latest_backward = backward
            rows.append(row_now("PHASE", "BACKWARD_START", str(backward)))
        if rows:
            self._rows.write(rows)

    def after(self, call: Call) -> None:
        """Say which blocks the operator wrote, unless somebody else does."""
        if self._accesses or call.failure:
            return
        written = [t for access, t in (*call.arguments, *call.results) if access == "WRITE"]
        lines = []
        for tensor in written:
            storage = storage_of(tensor)
            if storage is not None:
                row = row_now(
                    "OWNER", "DETAIL_2", "aten", device=storage.device, address=storage.address
                )
                lines.append(line_of(row))
        if lines:
            self._rows.write_lines(lines)
