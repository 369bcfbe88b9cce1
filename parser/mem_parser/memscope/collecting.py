"""Turn a process's log and its own statements into dumps, while the log grows or later.

Model: events of the log, launches and marks in it and side rows become one order by time. An event
waits until nothing earlier can come: the log is `SLACK_NS` ahead, and the facts that tell its
thread, or the text of its mark, were read. So the same dump comes of a log that grows and of one
that is there. What comes later still (a thread was stopped between reading the clock and writing)
stands where it came.

Beside a log of a collection are the rows that its process told of itself, and its settings. A log
without settings has all its memory in its dump.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import itertools
import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mem_parser.devices import Mark
from mem_parser.errors import DiskFull, InputFileError, UsageProblem, reason_of
from mem_parser.escape import one_line
from mem_parser.memlog.events import Events, Kind
from mem_parser.memlog.filefacts import FileFacts
from mem_parser.memlog.launches import Launches, LaunchKind
from mem_parser.memscope.dump_writer import Scribe
from mem_parser.memscope.dumps import Dumps
from mem_parser.memscope.form import HOST, folders, stamp_of
from mem_parser.memscope.launchrows import rows_of
from mem_parser.memscope.logtail import LogFile, LogTail, Missing, Piece
from mem_parser.memscope.settings import ALL_DEVICES, SETTINGS_FILE, Settings, of_dict
from mem_parser.memscope.siderows import SideFile, SideRow, path_in
from mem_parser.memscope.tracks import Batch
from mem_parser.memscope.writing import is_full
from mem_parser.model import Profile
from mem_parser.plainfile import read_plain

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
SLACK_NS = 200_000_000
IDLE_NS = 3_000_000_000
"""After so long without a block of the log nothing waits: it has one each second, if any."""
BATCH_EVENTS = 1 << 15
"""Written at once: few, so that they stay in the processor's caches."""
READ_EVENTS = 1 << 16
WAITING_MAX_EVENTS = 1 << 22
_END_NS = 1 << 62
_MARK_TYPES = {"point": "Mark", "begin": "Range_start", "end": "Range_end"}
_WARNINGS_MAX = 100


class Collecting:
    """One process: reads its log and its side rows, and writes its dumps."""

    def __init__(
        self, settings: Settings, tail: LogTail, side: SideFile | None, dumps: Dumps, pid: int
    ) -> None:
        self._tail, self._side = tail, side
        self.scribe = Scribe(settings, dumps, pid)
        self._pid = pid
        self._waiting: list[tuple[LogFile, Events]] = []
        self._launches: list[tuple[LogFile, Launches]] = []
        self._facts: list[tuple[LogFile, Launches]] = []
        self._rows: list[SideRow] = []
        self._lost_launches = 0
        self._missing: dict[str, Missing] = {}
        self._tids = np.zeros(0, np.int64)
        self._unsure_ns = _END_NS
        self._marks: set[Mark] = set()
        self._ranges: dict[tuple[str, int], str] = {}
        self._newest_ns = 0
        self._came_ns = 0
        self._first_ns = 0
        self._real_offset_ns = 0
        self.warnings: list[str] = []
        """What is missing, a line each."""

    def step(self, now_ns: int, *, final: bool = False) -> bool:
        """Read what came, and write what is sure; whether something came. ``final``: no more comes.

        ``now_ns`` is the clock of the process. Raises InputFileError, MemError, OSError,
        sqlite3.Error.
        """
        with self._on_a_full_disk(), _without_collections():
            return self._step(now_ns, final=final)

    def _step(self, now_ns: int, *, final: bool) -> bool:
        came = False
        for file, piece in self._tail.take(final=final):
            came = True
            self._take(file, piece)
            waiting = sum(len(events) for _, events in self._waiting)
            waiting += sum(len(some) for _, some in (*self._launches, *self._facts))
            if waiting > READ_EVENTS:
                self._take_rows()
                self._write(self._sure_ns(0))
            if waiting > WAITING_MAX_EVENTS:
                self._write(self._newest_ns - SLACK_NS)
        if came:
            self._came_ns = now_ns
        came = self._take_rows() or came
        self._write(_END_NS if final else self._sure_ns(now_ns))
        return came

    def _take_rows(self) -> bool:
        new = self._side.take() if self._side is not None else []
        self._rows += new
        return bool(new)

    def finish(self) -> None:
        """Write what is left, and the ends of what is live. Raises as `step`."""
        self.step(self._came_ns, final=True)
        with self._on_a_full_disk():
            self.scribe.finish()
        for found in self._missing.values():
            count = f"{found.events:,}" if found.events is not None else "unknown how many"
            self._warn(f"{count} events are missing: {one_line(found.why)}")
        if self._tail.lost_files:
            self._warn(
                f"{self._tail.lost_files} files of the log were removed before they were read"
            )
        if self._side is not None and self._side.wrong_lines:
            self._warn(f"{self._side.wrong_lines} lines of side rows make no sense")
        if self._lost_launches:
            self._warn(
                f"{self._lost_launches} kernels, operators or accesses have no name, or a form that"
                " is not known"
            )
        self.warnings += self.scribe.warnings

    def close(self) -> None:
        """Close all files; a second call does nothing."""
        self._tail.close()
        if self._side is not None:
            self._side.close()
        self.scribe.dumps.close()

    @contextlib.contextmanager
    def _on_a_full_disk(self) -> Iterator[None]:
        """Say which rows the files have. Raises DiskFull."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            if not is_full(error):
                raise
            parts = [reason_of(error)]
            for sink in self.scribe.dumps.sinks.values():
                with contextlib.suppress(OSError, sqlite3.Error):
                    parts.append(sink.kept().text(sink.path, self._real_offset_ns))
            raise DiskFull(": ".join((parts[0], "; ".join(parts[1:]))).rstrip(": ")) from error

    def _warn(self, text: str) -> None:
        if len(self.warnings) < _WARNINGS_MAX and text not in self.warnings:
            self.warnings.append(text)

    def _sure_ns(self, now_ns: int) -> int:
        """Up to this time nothing more comes, as far as one can tell."""
        sure = self._newest_ns - SLACK_NS
        if self._came_ns and now_ns - self._came_ns > IDLE_NS:
            sure = max(sure, now_ns - IDLE_NS)
        return min(sure, self._unsure_ns - 1)

    # -- what the log has ------------------------------------------------------------------------

    def _take(self, file: LogFile, piece: Piece) -> None:
        if isinstance(piece, str):
            self._warn(piece)
        elif isinstance(piece, Missing):
            self._take_missing(piece)
        elif isinstance(piece, Events):
            self._take_events(file, piece)
        elif isinstance(piece, Launches):
            self._take_launches(file, piece)
        else:
            self._take_facts(file, piece)

    def _take_missing(self, hole: Missing) -> None:
        before = self._missing.get(hole.why)
        if before is None and len(self._missing) >= _WARNINGS_MAX:
            return
        if before is not None and hole.events is not None and before.events is not None:
            hole = Missing(before.events + hole.events, hole.why)
        elif before is not None:
            hole = Missing(None, hole.why)
        self._missing[hole.why] = hole

    def _take_events(self, file: LogFile, events: Events) -> None:
        assert file.facts is not None
        start_ns = file.facts.start_ns
        self._first_ns = self._first_ns or start_ns
        self._real_offset_ns = file.facts.start_real_ns - start_ns
        events.time_ns += start_ns
        self._waiting.append((file, events))
        self._note_times(
            events.time_ns, (events.kind == Kind.MARK) | (events.thread >= len(self._tids))
        )

    def _take_launches(self, file: LogFile, launches: Launches) -> None:
        assert file.facts is not None
        self._first_ns = self._first_ns or file.facts.start_ns
        launches.time_ns += file.facts.start_ns
        is_fact = launches.kind >= LaunchKind.BLOCK
        if is_fact.any():
            self._facts.append((file, launches.take(is_fact)))
            launches = launches.take(~is_fact)
        if not len(launches):
            return
        self._launches.append((file, launches))
        self._note_times(launches.time_ns, launches.thread >= len(self._tids))

    def _note_times(self, time_ns: npt.NDArray[np.int64], is_unsure: npt.NDArray[np.bool_]) -> None:
        self._newest_ns = max(self._newest_ns, int(time_ns[-1]))
        if is_unsure.any():
            self._unsure_ns = min(self._unsure_ns, int(time_ns[int(np.argmax(is_unsure))]))

    def _take_facts(self, file: LogFile, facts: Profile) -> None:
        assert file.facts is not None
        self._unsure_ns = _END_NS
        self._lost_launches = facts.capture.lost.get("launch", 0)
        rows = [thread for thread in facts.threads if 0 <= thread.row < 1 << 20]
        if rows:
            tids = np.full(1 + max(t.row for t in rows), self._pid, np.int64)
            tids[: len(self._tids)] = self._tids[: len(tids)]
            tids[[t.row for t in rows]] = [t.tid for t in rows]
            self._tids = tids if len(tids) >= len(self._tids) else self._tids
        known, self._marks = self._marks, set(facts.marks)
        start_ns = file.facts.start_ns
        self._rows += [self._row_of(m, start_ns) for m in facts.marks if m not in known]

    def _row_of(self, mark: Mark, start_ns: int) -> SideRow:
        text = mark.text
        attributes: dict[str, Any] = {}
        if mark.domain:
            attributes["domain"] = mark.domain
        if mark.kind != "point":
            attributes["range_id"] = mark.id
        if mark.kind == "begin":
            self._ranges[mark.domain, mark.id] = text
        elif mark.kind == "end":
            text = self._ranges.pop((mark.domain, mark.id), text)
        time_ns = start_ns + round(mark.time_s * 1e9)
        tid = int(self._tids[mark.thread]) if mark.thread < len(self._tids) else self._pid
        return SideRow(
            time_ns, tid, None, "MSTX", _MARK_TYPES[mark.kind], text, None, attributes, None
        )

    # -- one order -------------------------------------------------------------------------------

    def _write(self, until_ns: int) -> None:
        """Write all up to a time, in order."""
        ready_rows = [row for row in self._rows if row.time_ns <= until_ns]
        if ready_rows:
            self._rows = [row for row in self._rows if row.time_ns > until_ns]
        ready_rows += self._rows_of_launches(until_ns)
        ready_rows.sort(key=attrgetter("time_ns"))
        self._tell_facts(until_ns)
        at = 0
        for batch in self._ready(until_ns):
            at = self._write_events(batch, ready_rows, at)
        for row in ready_rows[at:]:
            self.scribe.tell(row)
        self.scribe.settle()
        self.scribe.facts.forget(until_ns)

    def _tell_facts(self, until_ns: int) -> None:
        """Let the rows of blocks know the facts up to a time."""
        waiting, self._facts = self._facts, []
        for file, facts in waiting:
            assert file.facts is not None
            cut = int(np.searchsorted(facts.time_ns, until_ns, side="right"))
            self.scribe.facts.add(facts.take(slice(0, cut)), file.facts.domains)
            if cut < len(facts):
                self._facts.append((file, facts.take(slice(cut, None))))

    def _rows_of_launches(self, until_ns: int) -> list[SideRow]:
        """Take out the launches up to a time."""
        waiting, self._launches = self._launches, []
        rows: list[SideRow] = []
        for file, launches in waiting:
            cut = int(np.searchsorted(launches.time_ns, until_ns, side="right"))
            ready = launches.take(slice(0, cut))
            rows += rows_of(ready, file.tables.texts, self._tids, self._pid)
            if cut < len(launches):
                self._launches.append((file, launches.take(slice(cut, None))))
        return rows

    def _ready(self, until_ns: int) -> Iterator[Batch]:
        """Take out the events up to a time, all in one order."""
        if not self._waiting:
            return
        files = list({id(file): file for file, _ in self._waiting}.values())
        numbers = {id(file): number for number, file in enumerate(files)}
        of = np.concatenate(
            [np.full(len(e), numbers[id(file)], np.int64) for file, e in self._waiting]
        )
        events = Events.joined([events for _, events in self._waiting])
        key = events.order_key
        if not (key[1:] >= key[:-1]).all():
            order = np.argsort(key, kind="stable")
            events, of = events.take(order), of[order]
        cut = int(np.searchsorted(events.time_ns, until_ns, side="right"))
        self._waiting = []
        for low, high in _runs(of[cut:]) if cut < len(of) else ():
            rest = events.take(slice(cut + low, cut + high))
            self._waiting.append((files[int(of[cut + low])], rest))
        here = events.take(slice(0, cut))
        keep = np.flatnonzero((here.kind != Kind.MARK) & ~_undone(here))
        for low in range(0, len(keep), BATCH_EVENTS):
            some = keep[low : low + BATCH_EVENTS]
            if len(keep) == cut:
                yield self._batch(here.take(slice(low, low + len(some))), of[some], files)
            else:
                yield self._batch(here.take(some), of[some], files)

    def _batch(self, events: Events, of: IntArray, files: list[LogFile]) -> Batch:
        """Return a batch of events, all of blocks."""
        row = np.minimum(events.thread, max(len(self._tids) - 1, 0))
        tids = self._tids[row] if len(self._tids) else np.full(len(events), self._pid)
        used = np.unique(of)
        places = np.searchsorted(used, of)
        return Batch(events, tids, places, [files[k] for k in used.tolist()])

    def _write_events(self, batch: Batch, rows: list[SideRow], at: int) -> int:
        """Write the events of a batch, and the side rows before and between them."""
        times = batch.events.time_ns
        if not len(times):
            return at
        self.scribe.begin(batch)
        low = 0
        # A row of the last time comes behind those of the next batch that have it, too.
        while at < len(rows) and rows[at].time_ns < times[-1]:
            high = int(np.searchsorted(times, rows[at].time_ns, side="right"))
            if high > low:
                self.scribe.add(low, high)
                low = high
            self.scribe.tell(rows[at])
            at += 1
        if low < len(times):
            self.scribe.add(low, len(times))
        self.scribe.settle()
        return at


@contextlib.contextmanager
def _without_collections() -> Iterator[None]:
    """Make no search for cycles meanwhile: rows are many, and have none."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _runs(of: np.ndarray[Any, Any]) -> list[tuple[int, int]]:
    """Return the bounds of the runs of equal numbers."""
    bounds = [0, *(np.flatnonzero(np.diff(of)) + 1).tolist(), len(of)]
    return list(itertools.pairwise(bounds))


def _undone(events: Events) -> BoolArray:
    """Return which events are ends of blocks that were taken back, and what takes them back."""
    undone = np.zeros(len(events), dtype=np.bool_)
    if not (events.kind == Kind.BACK).any():
        return undone
    order = np.lexsort((np.arange(len(events)), events.domain, events.address))
    kind, address = events.kind[order], events.address[order]
    ends = (kind == Kind.DEATH) | (kind == Kind.MOVED)
    pair = ends[:-1] & (kind[1:] == Kind.BACK) & (address[1:] == address[:-1])
    pair &= events.domain[order][1:] == events.domain[order][:-1]
    undone[order[:-1][pair]] = True
    undone[order[1:][pair]] = True
    return undone


_SETTINGS_MAX_BYTES = 1 << 20
ALL = Settings(devices=(ALL_DEVICES, HOST), analysis=frozenset())


class Converted(NamedTuple):
    """The dumps that were written, by device, and what is missing in them."""

    paths: dict[str, str]
    warnings: list[str]


def settings_beside(path: str) -> Settings:
    """Return the settings of the collection whose log a file is. Raises UsageProblem."""
    name = _settings_path(path)
    try:
        told = json.loads(read_plain(name, _SETTINGS_MAX_BYTES))
    except FileNotFoundError:
        return ALL
    except (OSError, ValueError, RecursionError) as error:
        raise UsageProblem(f"{name}: cannot be read: {error}") from None
    if not isinstance(told, dict):
        raise UsageProblem(f"{name}: the settings of a collection are a JSON object")
    return of_dict(told)


def convert(
    paths: Sequence[str],
    *,
    folder: str = "",
    file: str = "",
    form: str = "",
    stacks: Settings | None = None,
) -> Converted:
    """Write the dumps of a log: a tree below ``folder``, or one ``file``.

    ``form`` is `csv` or `db`; empty: that of the settings. ``stacks`` has depths of
    stacks; those of the settings hold where they are 0. Raises MemError, OSError, sqlite3.Error.
    """
    facts = [(_facts_of(path), path) for path in paths]
    if len({one.run for one, _ in facts}) != 1:
        raise InputFileError(f"{paths[0]} and {paths[-1]}: files of several logs")
    facts.sort(key=lambda pair: pair[0].number)
    in_order = [path for _, path in facts]
    settings = settings_beside(in_order[0])
    settings = _with_depths(settings, stacks or settings)
    pid = facts[0][0].pid
    side = SideFile(path_in(os.path.dirname(in_order[0]) or ".", pid))
    places = folders(folder, pid, stamp_of()) if folder else None
    dumps = Dumps(form or settings.form, places, path=file)
    collecting = Collecting(settings, LogTail(paths=in_order), side, dumps, pid)
    if os.path.isfile(_settings_path(in_order[0])):
        collecting.scribe.run_folder = os.path.dirname(
            os.path.dirname(os.path.abspath(in_order[0]))
        )
    try:
        collecting.finish()
    finally:
        collecting.close()
    return Converted(dumps.paths, collecting.warnings)


def _settings_path(path: str) -> str:
    return os.path.join(os.path.dirname(path), SETTINGS_FILE)


def _with_depths(settings: Settings, given: Settings) -> Settings:
    python = given if given.python_depth else settings
    return dataclasses.replace(
        settings,
        python_depth=python.python_depth,
        python_all=python.python_all,
        c_depth=given.c_depth or settings.c_depth,
    )


def _facts_of(path: str) -> FileFacts:
    from mem_parser.memlog.reader import open_memlog

    with open_memlog(path) as log:
        return log.file_facts
