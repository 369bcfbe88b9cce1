"""Random use of physical memory: created, mapped, retained, imported, released, in any order.

Model: `Memory` is a small reference model of what a driver does. A program on the stub of Ascend's
driver does the same; at the end model, ledger and profile must hold the same bytes. The driver
gives a released handle's value to the next one at once, and refuses a call now and then.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from device_run import Tally, device_counted
from stub_driver import App, Ascend, agrees

REFUSALS = "halMemCreate:3:4,halMemRelease:2,halMemRelease:5,halMemUnmap:2,halMemUnmap:4"
SLOTS = 6  # registers of handles; those of addresses come behind them
ADDRESSES = 4
PAGE = 4096
SIDES = {(1, 0): "hal-0", (1, 1): "hal-1", (0, 0): "hal-pinned"}


@dataclass
class Physical:
    """Memory: lives as long as a handle or a mapping refers to it."""

    domain: str | None  # None: another process's
    size: int
    references: int = 0


@dataclass
class Handle:
    """What a driver gave for memory, and how often."""

    memory: Physical
    references: int = 1


@dataclass
class Memory:
    """The reference model. Each method returns the line for the program; None: not to be called."""

    always_new: bool
    handles: dict[int, Handle] = field(default_factory=dict)
    reserved: set[int] = field(default_factory=set)
    mapped: dict[int, Physical] = field(default_factory=dict)
    everything: list[Physical] = field(default_factory=list)

    def _hold(self, slot: int, memory: Physical) -> None:
        memory.references += 1
        self.handles[slot] = Handle(memory)

    def _drop_handle(self, slot: int) -> None:
        handle = self.handles[slot]
        handle.references -= 1
        if handle.references == 0:
            handle.memory.references -= 1
            self.handles = {s: h for s, h in self.handles.items() if h is not handle}
        else:
            del self.handles[slot]

    def create(self, slot: int, size: int, side: tuple[int, int]) -> None:
        """New memory under a handle."""
        memory = Physical(SIDES[side], size)
        self.everything.append(memory)
        self._hold(slot, memory)

    def retain(self, slot: int, address: int) -> None:
        """One more reference, by the handle there is or by another one."""
        memory = self.mapped[address]
        same = [h for h in self.handles.values() if h.memory is memory]
        if same and not self.always_new:
            same[0].references += 1
            self.handles[slot] = same[0]
        else:
            self._hold(slot, memory)

    def _new_handle(self, what: str, slot: int, choice: int, app: App) -> None:
        size = choice * PAGE
        if what == "import":
            assert app.do(f"import {slot} {size}") == [0]
            self._hold(slot, Physical(None, size))
        elif what == "retain" and self.mapped:
            address = sorted(self.mapped)[choice % len(self.mapped)]
            assert app.do(f"retain {slot} {SLOTS + address}") == [0]
            self.retain(slot, address)
        else:
            side = sorted(SIDES)[choice % len(SIDES)]
            if app.do(f"create {slot} {size} {side[0]} {side[1]}") == [0]:
                self.create(slot, size, side)

    def _map(self, slot: int, address: int, app: App) -> None:
        memory, at = self.handles[slot].memory, SLOTS + address
        if address not in self.reserved:
            assert app.do(f"reserve {at} {64 * PAGE}") == [0]
            self.reserved.add(address)
        assert app.do(f"map {at} {memory.size} {slot}") == [0]
        memory.references += 1
        self.mapped[address] = memory

    def _unmap(self, address: int, app: App) -> None:
        if app.do(f"unmap {SLOTS + address}") == [0]:
            self.mapped.pop(address).references -= 1

    def apply(self, step: tuple[str, int, int], app: App) -> None:
        """Do a step in the program, and here where the driver agreed.

        `at` and `choice` say with what; where that has no handle or no mapping, one is made.
        """
        what, at, choice = step
        slot, address = at % SLOTS, choice % ADDRESSES
        if slot not in self.handles:
            self._new_handle(what, slot, choice, app)
        elif what in {"map", "unmap"} and address not in self.mapped:
            self._map(slot, address, app)
        elif what in {"map", "unmap", "retain"} and address in self.mapped:
            self._unmap(address, app)
        elif app.do(f"release {slot}") == [0]:
            self._drop_handle(slot)

    def tallies(self) -> dict[str, Tally]:
        """What a profile of it must hold."""
        found: dict[str, Tally] = defaultdict(Tally)
        for memory in self.everything:
            assert memory.domain is not None
            live = memory.references > 0
            found[memory.domain] += Tally(
                1, memory.size, 0, int(live), memory.size if live else 0, 0, 0
            )
        return dict(found)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["create", "map", "unmap", "retain", "release", "import"]),
        st.integers(0, SLOTS - 1),
        st.integers(1, 12),
    ),
    min_size=10,
    max_size=80,
)


@given(steps=STEPS, always_new=st.booleans())
def test_model_ledger_and_profile_agree(
    steps: list[tuple[str, int, int]], *, always_new: bool
) -> None:
    folder = Path(tempfile.mkdtemp(prefix="mem_profiler-test-", dir="/dev/shm"))
    variables = {"STUB_FAIL": REFUSALS, "STUB_RETAIN": "new" if always_new else "same"}
    memory = Memory(always_new)
    try:
        program = Ascend.build().program(linked=True)
        with App((program, "link"), folder, variables=variables) as app:
            app.do("set 0")
            for step in steps:
                memory.apply(step, app)
            assert app.ledger().given() == memory.tallies()
            agrees(app.ledger(), device_counted(app))
    finally:
        shutil.rmtree(folder)
