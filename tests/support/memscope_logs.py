"""Logs of events that were never captured: small ones, for the conversion into dumps."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mem_parser.devices import Mark
from mem_parser.memlog.events import Events, Kind
from mem_parser.memlog.filefacts import FileFacts
from mem_parser.memlog.launches import Launches
from mem_parser.memlog.writer import MemlogWriter
from mem_parser.memscope.collecting import Collecting
from mem_parser.memscope.dumps import Dumps
from mem_parser.memscope.form import folders
from mem_parser.memscope.logtail import LogTail
from mem_parser.memscope.settings import Settings
from mem_parser.memscope.siderows import SideFile, path_in
from mem_parser.model import Profile, SiteTable, StackTable, Thread
from memscope_run import Dump

PID = 4711
START_NS = 10**12
ALL = Settings(devices=("npu", "cpu"))
Event = tuple[int, Kind, int, int, int]
"""Time since the start, kind, address, size, domain."""


def events(rows: Sequence[Event], thread: int = 0) -> Events:
    time, kind, address, size, domain = (np.array(column) for column in zip(*rows, strict=True))
    none = np.zeros(len(rows))
    return Events.of(
        time_ns=time, kind=kind, address=address.astype(np.uint64), size_bytes=size,
        thread=none + thread, stack=none, domain=domain, birth_ns=time,
    )  # fmt: skip


def facts(*marks: Mark, tids: tuple[int, ...] = (PID,)) -> Profile:
    """The facts of a capture: its threads and marks."""
    none = np.zeros(0, dtype=np.int64)
    stacks = StackTable(
        np.zeros(1, dtype=np.int64), none.astype(np.uint64), none.astype(np.uint32),
        none.astype(np.uint32), leaf_exact=True,
    )  # fmt: skip
    sites = SiteTable(none, none.astype(np.int32), none, none, none, none)
    threads = [Thread(row, tid, "t") for row, tid in enumerate(tids)]
    return Profile("native", 1.0, stacks, sites, threads=threads, marks=list(marks))


class Log:
    """A log that grows: file after file, block after block."""

    def __init__(
        self,
        folder: Path,
        domains: tuple[str, ...] = ("host", "hal-0"),
        run: str = "run",
        start_ns: int = START_NS,
    ) -> None:
        self.folder, self.domains = folder, domains
        self.run, self.start_ns = run, start_ns
        self.number = 0
        self._fds: list[int] = []
        self.begin()

    @property
    def stem(self) -> str:
        return str(self.folder / "log1")

    def begin(self) -> None:
        path = f"{self.stem}-{self.number}.memlog"
        self._fds.append(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL))
        self.number += 1
        rates = (1.0,) * len(self.domains)
        of_file = FileFacts(
            self.run, self.number, PID, self.domains, rates, self.start_ns, self.start_ns + 1
        )
        self.writer = MemlogWriter(self._fds[-1], of_file)
        one = StackTable(
            np.array([0, 1]), np.array([4096], np.uint64), np.zeros(1, np.uint32),
            np.zeros(1, np.uint32), leaf_exact=True,
        )  # fmt: skip
        self.writer.append_stacks(one)
        self.writer.append_facts(facts())

    def add(self, *rows: Event, thread: int = 0) -> None:
        self.writer.append_events(events(rows, thread))
        self.writer.flush()

    def launch(self, *rows: tuple[int, ...]) -> None:
        """Write launches, each as the columns of `Launches`."""
        columns = map(list, zip(*rows, strict=True))
        self.writer.append_launches(Launches.of(**dict(zip(Launches.DTYPES, columns, strict=True))))
        self.writer.flush()

    def end(self, *, last: bool = True) -> None:
        self.writer.end(last=last, how="the capture ended")


def side(folder: Path, *rows: Sequence[object]) -> None:
    """Add side rows; times are since the log's start."""
    with open(path_in(str(folder), PID), "a", encoding="utf-8") as file:
        for time_ns, *rest in rows:
            assert isinstance(time_ns, int)
            file.write(json.dumps([time_ns + START_NS, *rest]) + "\n")


class Collected:
    """The dumps of a log, as they come."""

    def __init__(self, log: Log, settings: Settings = ALL, output: str = "out") -> None:
        self.folder = log.folder / output
        dumps = Dumps(settings.form, folders(str(self.folder), PID, "1"))
        beside = SideFile(path_in(str(log.folder), PID))
        self.collecting = Collecting(settings, LogTail(log.stem), beside, dumps, PID)

    def step(self, now_ns: int = 0) -> None:
        """Read what is there; `now_ns` is since the log's start."""
        self.collecting.step(START_NS + now_ns)

    def finish(self) -> list[str]:
        """Write the rest; what is missing."""
        self.collecting.finish()
        self.collecting.close()
        return self.collecting.warnings

    def dump(self, device: str = "0", form: str = "csv") -> Dump:
        """The dump of a device so far."""
        [path] = self.folder.glob(f"*/device_{device}/dump/memscope_dump_1.{form}")
        return Dump(path)

    def stories(self, device: str = "0") -> list[tuple[str, str, int]]:
        """Events of blocks without those that the conversion made."""
        return self.dump(device).story()


def with_settings(**changes: object) -> Settings:
    """Settings for all devices, but for these."""
    return dataclasses.replace(ALL, **changes)  # type: ignore[arg-type]
