"""Rows of a refused allocation: the request, and the holders of memory at that time.

A snapshot of the device, whatever is analysed. With the analysis `oom`: OOM_TRIGGER, then the K
latest and the K largest live blocks of that device, with their stacks, whatever stacks the other
rows have. Refusals close to each other are one: a pool tries again after it has given back what it
does not use.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from mem_parser.memscope.form import HAL, PTA
from mem_parser.memscope.settings import DEPTH
from mem_parser.memscope.siderows import SideRow
from mem_parser.memscope.stacktexts import c_texts, python_text

if TYPE_CHECKING:
    from mem_parser.memscope.blockrows import Blocks
    from mem_parser.memscope.tracks import Refusal

QUIET_NS = 1_000_000_000
"""A refusal so soon after another one of its device has a trigger alone."""
SNAPSHOT_NAME = "OOM_Snapshot"
_EVENT, _SNAPSHOT = "OOM_DETAIL", "SNAPSHOT"
AddRow = Callable[..., None]


class OomRows:
    """Writes the rows of refusals."""

    def __init__(self, blocks: Blocks, add: AddRow) -> None:
        self._blocks, self._add = blocks, add
        self._last_ns: dict[str, int] = {}
        blocks.on_refused = self._refused

    def _refused(self, refusal: Refusal) -> None:
        device = refusal.track.device
        settings = self._blocks.settings
        if not settings.wants(device) or not self._blocks.recording:
            return
        last_ns = self._last_ns.get(device)
        self._last_ns[device] = refusal.time_ns
        is_again = last_ns is not None and refusal.time_ns - last_ns < QUIET_NS
        stacks = self._stacks(refusal.file, refusal.stack)
        if refusal.track.place.type == HAL and not is_again:
            self._row(refusal, _SNAPSHOT, SNAPSHOT_NAME, self._snapshot(refusal), stacks)
        if "oom" in settings.analyses:
            self._tell(refusal, stacks, is_again=is_again)

    def _snapshot(self, refusal: Refusal) -> dict[str, Any]:
        """Return what PyTorch's pool has on the device, what the device has, and, as `used` and
        `max_used`, what this process has of it.
        """
        blocks, device = self._blocks, refusal.track.device
        blocks.settle()
        pool = blocks.track_of(PTA, device)
        if pool is not None and not pool.highest_bytes:
            pool = None
        held = blocks.facts.reserved(PTA, device) if pool is not None else None
        reserved = held.until(refusal.time_ns) if held is not None else None
        told: dict[str, Any] = {}
        if held is not None and reserved is not None:
            told |= {"reserved": reserved, "max_reserved": held.highest_until(refusal.time_ns)}
        elif pool is None:
            told |= {"reserved": 0, "max_reserved": 0}
        allocated = pool.used_bytes if pool is not None else 0
        told |= {
            "allocated": allocated,
            "max_allocated": pool.highest_bytes if pool is not None else 0,
        }
        memory = blocks.facts.memory_of(device, refusal.time_ns)
        if memory is not None and memory[1]:
            used, total = memory
            told |= {"total": total, "free": max(total - used, 0)}
            told["device_rate"] = f"{100 * used / total:.2f}"
        if reserved:
            told["reserved_rate"] = f"{100 * allocated / reserved:.2f}"
        return told | {"used": refusal.track.used_bytes, "max_used": refusal.track.highest_bytes}

    def _tell(self, refusal: Refusal, stacks: tuple[str, str], *, is_again: bool) -> None:
        """Write the rows of the analysis."""
        settings, device = self._blocks.settings, refusal.track.device
        attributes: dict[str, Any] = {"req_size": refusal.size}
        function = _function(stacks[1])
        if function:
            attributes = {"func": function, **attributes}
        self._row(refusal, "OOM_TRIGGER", "OOM_Trigger", attributes, stacks)
        if is_again:
            return
        here = self._blocks.living_on(device)
        table = self._blocks.table
        recent = here[::-1][: settings.oom_blocks]
        # Of equal ones those of the first pool come first.
        keys = table.allocation[here], self._blocks.pools_of(here), ~table.size[here]
        largest = here[np.lexsort(keys)[: settings.oom_blocks]]
        for kind, name, found in (
            ("OOM_RECENT_ALLOC", "OOM_RecentAlloc", recent),
            ("OOM_TOP_ALLOC", "OOM_TopAlloc", largest),
        ):
            for slot in found.tolist():
                file = self._blocks.file(int(table.file[slot]))
                stacks = self._stacks(file, int(table.stack[slot]))
                self._row(refusal, kind, name, self._told(slot), stacks)

    def _stacks(self, file: Any, number: int) -> tuple[str, str]:
        """Return the Python and the C stack of a stack of a file."""
        python = python_text(file, number, DEPTH, every=self._blocks.settings.python_all)
        return python, c_texts(file, [number], DEPTH)[number]

    def _told(self, slot: int) -> dict[str, Any]:
        """The row of a live block."""
        table = self._blocks.table
        return {
            "pool": self._blocks.tracks[int(table.track[slot])].place.type,
            "ptr": hex(int(table.address[slot])),
            "size": int(table.size[slot]),
            "timestamp": int(table.time_ns[slot]),
        }

    def _row(
        self,
        refusal: Refusal,
        kind: str,
        name: str,
        attributes: dict[str, Any],
        stacks: tuple[str, str],
    ) -> None:
        event = _SNAPSHOT if kind == _SNAPSHOT else _EVENT
        row = SideRow(
            refusal.time_ns, refusal.tid, None, event, kind, name, None, attributes, stacks[0]
        )
        self._add(row, refusal.track.device, None, attributes, stacks[1])


def _function(c_stack: str) -> str:
    """Return the name of the function that was called, from the innermost line of a C stack."""
    first = c_stack.partition("\n")[0]
    return re.split("[()]", first.partition("(")[2])[0][:100]
