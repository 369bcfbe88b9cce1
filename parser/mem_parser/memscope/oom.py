"""Rows of a refusal: what was asked for, and what held the memory then.

OOM_TRIGGER, then the K latest and the K largest live blocks of that device, with their stacks,
whatever stacks the other rows have. Refusals close to each other are one: a pool tries again after
it has given back what it does not use.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from mem_parser.memscope.settings import DEPTH
from mem_parser.memscope.siderows import SideRow
from mem_parser.memscope.stacktexts import c_texts, python_text

if TYPE_CHECKING:
    from mem_parser.memscope.blockrows import Blocks
    from mem_parser.memscope.tracks import Refusal

QUIET_NS = 1_000_000_000
"""A refusal so soon after another one of its device has a trigger alone."""
_EVENT = "OOM_DETAIL"
AddRow = Callable[..., None]


class OomRows:
    """Writes the rows of refusals, where that analysis is on."""

    def __init__(self, blocks: Blocks, add: AddRow) -> None:
        self._blocks, self._add = blocks, add
        self._last_ns: dict[str, int] = {}
        blocks.on_refused = self._refused

    def _refused(self, refusal: Refusal) -> None:
        device = refusal.track.device
        settings = self._blocks.settings
        if "oom" not in settings.analyses or not settings.wants(device):
            return
        if not self._blocks.recording:
            return
        stacks = _stacks(refusal.file, refusal.stack)
        attributes: dict[str, Any] = {"req_size": refusal.size}
        function = _function(stacks[1])
        if function:
            attributes = {"func": function, **attributes}
        self._row(refusal, "OOM_TRIGGER", "OOM_Trigger", attributes, stacks)
        last_ns = self._last_ns.get(device)
        self._last_ns[device] = refusal.time_ns
        if last_ns is not None and refusal.time_ns - last_ns < QUIET_NS:
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
                stacks = _stacks(file, int(table.stack[slot]))
                self._row(refusal, kind, name, self._told(slot), stacks)

    def _told(self, slot: int) -> dict[str, Any]:
        """What a row says of a live block."""
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
        row = SideRow(
            refusal.time_ns, refusal.tid, None, _EVENT, kind, name, None, attributes, stacks[0]
        )
        self._add(row, refusal.track.device, None, attributes, stacks[1])


def _stacks(file: Any, number: int) -> tuple[str, str]:
    """Return the Python and the C stack of a stack of a file."""
    return python_text(file, number, DEPTH), c_texts(file, [number], DEPTH)[number]


def _function(c_stack: str) -> str:
    """Return the name of the function that was called, from the innermost line of a C stack."""
    first = c_stack.partition("\n")[0]
    return re.split("[()]", first.partition("(")[2])[0][:100]
