"""Device memory that a program's segment holds: by domain, by function, its frames named.

Model: a `DeviceCounted` is one capture read with the controller's own reader, as `Counted` is for
the host. A `Tally` is what both a profile and a ledger can say about some blocks, so that a test
compares two of them with ==.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Self

from mem_parser.model import Module
from mem_profiler.profile import tables
from mem_profiler.profile.tables import Tables
from mem_profiler.segment import collect, devices, layout
from mem_profiler.segment.devices import Domain
from mem_profiler.segment.file import Control, Segment
from sampler_run import Target, namer, segments


@dataclass
class Tally:
    """Blocks and bytes: allocated (asked for, and taken where known), in use, and refused."""

    blocks: int = 0
    bytes: int = 0
    taken: int = 0
    live_blocks: int = 0
    live_bytes: int = 0
    failed_blocks: int = 0
    failed_bytes: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


@dataclass
class DeviceStack:
    """One record: its domain, names of its frames (the driver's function first), its tally."""

    domain: str
    names: list[str]
    flags: int
    tally: Tally


@dataclass
class DeviceCounted:
    """The device memory of one capture of one process. `domains` are those used in it."""

    control: Control
    domains: dict[str, Domain]
    stacks: list[DeviceStack]
    modules: list[Module]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the last capture in a segment file."""
        with Segment.open(path, writable=False) as segment:
            return cls.of(segment)

    @classmethod
    def of(cls, segment: Segment) -> Self:
        """Read the last capture of an open segment."""
        control = segment.control()
        modules = collect.read_modules(segment, control)
        found = devices.used_in(
            devices.read_domains(segment, control), control.number("capture_number")
        )
        stacks = [
            stack
            for domain in found
            for stack in _stacks(
                domain.name, tables.read_tables(segment, control, domain=domain.number), modules
            )
        ]
        return cls(control, {domain.name: domain for domain in found}, stacks, modules)

    @property
    def lost(self) -> dict[str, int]:
        """Losses of device samples by cause, only those that happened."""
        counts = {n: int(self.control["device_lost"][i]) for i, n in layout.LOST_NAMES.items()}
        names = {n: i for i, n in layout.LOST_NAMES.items()}
        counts["domain_full"] = int(self.control["lost"][names["domain_full"]])
        return {name: n for name, n in counts.items() if n}

    def total(self, domain: str | None = None) -> Tally:
        """All records, or those of a domain."""
        return sum((s.tally for s in self.stacks if domain in (None, s.domain)), start=Tally())

    def by_domain(self) -> dict[str, Tally]:
        """The total of each domain."""
        return {name: self.total(name) for name in self.domains}

    def by(self, function: str, domain: str | None = None) -> Tally:
        """Records whose driver function was called by `function` itself."""
        chosen = (s for s in self.stacks if s.names[1:2] == [function])
        return sum((s.tally for s in chosen if domain in (None, s.domain)), start=Tally())

    def under(self, function: str, domain: str | None = None) -> Tally:
        """Records with `function` anywhere in the stack."""
        chosen = (s for s in self.stacks if function in s.names)
        return sum((s.tally for s in chosen if domain in (None, s.domain)), start=Tally())

    def callers(self) -> dict[tuple[str, str], Tally]:
        """Records by (function that called the driver's function, domain)."""
        found: dict[tuple[str, str], Tally] = defaultdict(Tally)
        for stack in self.stacks:
            caller = stack.names[1] if len(stack.names) > 1 else "?"
            found[caller, stack.domain] += stack.tally
        return dict(found)

    def apis(self) -> dict[str, Tally]:
        """Records by the driver's function that names them."""
        found: dict[str, Tally] = defaultdict(Tally)
        for stack in self.stacks:
            found[stack.names[0]] += stack.tally
        return dict(found)


def _stacks(domain: str, read: Tables, modules: list[Module]) -> Iterator[DeviceStack]:
    stacks, sites = read.stacks, read.sites
    assert sites.alloc_taken_bytes is not None
    assert sites.failed_blocks is not None
    assert sites.failed_bytes is not None
    name = namer(modules)
    for i, k in enumerate(sites.stack.tolist()):
        frames = stacks.frames[stacks.offsets[k] : stacks.offsets[k + 1]].tolist()
        generation = int(stacks.generation[k])
        tally = Tally(
            int(sites.alloc_blocks[i]),
            int(sites.alloc_bytes[i]),
            int(sites.alloc_taken_bytes[i]),
            int(sites.inuse_blocks[i]),
            int(sites.inuse_bytes[i]),
            int(sites.failed_blocks[i]),
            int(sites.failed_bytes[i]),
        )
        names = [name(pc - (n > 0), generation) for n, pc in enumerate(frames)]
        yield DeviceStack(domain, names, int(stacks.flags[k]), tally)


def read_ledger(target: Target) -> dict[tuple[str, str], Tally]:
    """What a target of tests/targets/ledger.h really allocated, by (function, domain).

    The target waits for a line afterwards.
    """
    found = {}
    while (line := target.line()) != "end":
        function, domain, *numbers = line.split()
        found[function, domain] = Tally(*map(int, numbers))
    return found


def device_counted(target: Target) -> DeviceCounted:
    """What the segment of a target's present program holds now."""
    mine = [path for path in segments(target.folder) if path.name.startswith(f"{target.pid}-")]
    assert mine, f"no segment of {target.pid}"
    return DeviceCounted.read(max(mine, key=lambda path: int(path.name.rpartition("-")[2])))


def only_device_counted(folder: Path) -> DeviceCounted:
    """The capture in the only segment of a folder."""
    found = segments(folder)
    assert len(found) == 1, found
    return DeviceCounted.read(found[0])
