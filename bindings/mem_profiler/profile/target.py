"""Facts about a process that the controller must gather while it lives."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from mem_parser.model import Module
from mem_parser.processfacts import Grown, Memory
from mem_parser.runtimes import Runtime, runtime_of
from mem_parser.symbols.modulelabels import is_relative
from mem_parser.tracked import Tracked
from mem_profiler.process import cgroup, places, procfs
from mem_profiler.process.procfs import Mapping


@dataclass
class Target:
    """Facts of a process. `pid` None: gone, or never seen. Mappings are empty once it is gone."""

    pid: int | None
    python: str | None = None
    pymalloc: bool | None = None
    suppressions: str = ""
    command: str = ""
    """More of the command line than the segment has; empty: unknown."""
    runtime: Runtime | None = None
    environment: dict[str, str] | None = None
    """As the program started with it; None: unknown."""
    brought: dict[str, str] = field(default_factory=dict)
    """Allocators that libraries brought along, by path; what `capture.recording` looked for."""
    mappings: list[Mapping] = field(default_factory=list)
    folder: str = ""
    """Its working folder when it was last looked at; empty: unknown."""
    memory: Memory = field(default_factory=Memory)
    grown: list[Grown] = field(default_factory=list)
    """Places whose resident memory changed since the facts were first asked for."""
    tracked: Tracked | None = None
    cells: dict[str, str] = field(default_factory=dict)
    """What a notebook calls the files of its cells."""
    _regions: list[places.Region] = field(default_factory=list)

    @classmethod
    def of(cls, pid: int) -> Target:
        """The facts of a running process that are available at once."""
        target = cls(pid)
        target.refresh_mappings()
        paths = [mapping.path for mapping in target.mappings if mapping.inode]
        target.python = procfs.python_version(paths, procfs.exe(pid))
        target.pymalloc = procfs.pymalloc_active(pid) if target.python else None
        target.environment = procfs.environment(pid)
        target.command = procfs.command_now(pid)
        target.suppressions = procfs.leak_suppressions(pid)
        target._regions = places.regions(pid)
        target.memory = Memory(limit_bytes=cgroup.limit_bytes(pid))  # of one that dies, too
        return target

    def refresh_mappings(self) -> None:
        """Read the mappings again; none when the process is gone."""
        if self.pid is not None:
            self.folder = procfs.working_folder(self.pid) or self.folder
        try:
            self.mappings = procfs.maps(self.pid) if self.pid is not None else []
        except PermissionError:
            self.mappings = []
        self.runtime = runtime_of(mapping.path for mapping in self.mappings) or self.runtime

    def refresh(self) -> None:
        """Read everything that changes, as late as possible before the file."""
        if self.pid is None:
            return
        self.refresh_mappings()
        regions = places.regions(self.pid)
        if regions and self._regions:
            self.grown = places.grown(self._regions, regions)
        told = places.memory(self.pid, regions)
        known = {name: v for name, v in told.items() if v is not None}
        self.memory = dataclasses.replace(self.memory, **known)

    def gone(self) -> None:
        """Note that the process has ended, or runs another program."""
        self.mappings = []

    def located(self, modules: Sequence[Module]) -> list[Module]:
        """Return ``modules`` with whole paths, for readers anywhere. The loader knows a library
        by the words that it was opened with: where they are relative, the path is that of the
        mapping; of one that is no longer mapped, that of a file below the working folder: its
        build-id will tell whether it is the same.
        """
        return [
            dataclasses.replace(m, path=self._whole(m)) if is_relative(m.path) else m
            for m in modules
        ]

    def _whole(self, module: Module) -> str:
        mapped = (m.path for m in self.mappings if m.start <= module.start < m.end)
        path = next(mapped, "").removesuffix(" (deleted)")
        if module.last_generation is None and path.startswith("/"):
            return path
        known = self.folder and module.build_id
        return os.path.normpath(os.path.join(self.folder, module.path)) if known else module.path
