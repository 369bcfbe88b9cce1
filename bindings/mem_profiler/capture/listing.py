"""List processes with a sampler and segments of dead ones: the rows of `mem_profiler ps`.

Model: this module opens the segments; a child without rights (`confine`) reads them, many at a
time. Of the dead processes, the listing shows the latest and counts the others.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mem_parser import estimate
from mem_parser.errors import MemError, TargetBusy
from mem_parser.model import MISSING_SAMPLES
from mem_profiler import system
from mem_profiler.capture import gate, logkeeper, output
from mem_profiler.entries import planning
from mem_profiler.process import procfs
from mem_profiler.process.tracing import user_name
from mem_profiler.segment import collect, discovery, folders, layout, leftovers, shortage, usable
from mem_profiler.segment import room as ledgers
from mem_profiler.segment.file import Control, Segment
from mem_profiler.segment.room import Room
from mem_sandbox import child, confine

DEAD_MAX = 50  # rows of dead processes
BATCH = 100  # segments that are open at once
READ_LIMIT_S = 60.0
COUNT_MAX = 1 << 62
_BESIDE = {
    "idle": "idle, beside the program's own malloc",
    "capturing": "capturing, without the program's own malloc",
}
"""States of a sampler that does not see an allocator inside the program."""
LEFT = ("detached, not written", "before exec, not written")
"""States of living processes whose capture is in no file, and which no longer have its segment."""
NOTES_MAX, TEXT_MAX = 10, 1000  # of a row


@dataclass(frozen=True)
class Row:
    """One process. `rate_bytes`, `samples` and `live_bytes` are None where it has no capture.
    `dead`: the process is gone and its capture is not saved yet; then it has no age and no size.
    `place`: where its killed run was to write it. `notes`: what the segment had no room for.
    """

    pid: int
    user: str
    command: str
    state: str
    rate_bytes: int | None
    samples: int | None
    live_bytes: float | None
    lost: int | None
    dead: bool = False
    place: str | None = None
    age_s: float | None = None
    rss_bytes: int | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def has_sampler(self) -> bool:
        """Whether the process has the segment of this row."""
        return not self.dead and self.state not in LEFT


def _left_state(found: leftovers.Found) -> str:
    """The state of a segment that no process has, with an unsaved capture."""
    if not found.left_by_living:
        return "dead, not written"
    return LEFT[found.control.number("state") != layout.STATE_EXITED]


def _state(control: Control, now_ns: int) -> str:
    state = control.number("state")
    if usable.is_behind_program(control):
        return "idle, behind the program's own malloc"
    if state == layout.STATE_SHADOWED:
        return f"shadowed by {control.text('state_text')}"
    if state == layout.STATE_REFUSED:
        return f"refused: {control.text('state_text')}"
    if state == layout.STATE_STARTING:
        return "starting"
    if control.running(now_ns):
        return "capturing"
    if control.number("capture_number") > control.number("written_capture"):
        return "stopped, not written"
    return "idle"


@functools.lru_cache(maxsize=1024)
def _unseen(_identity: str, pid: int) -> str:
    """Why an allocator inside the program is not seen; ``_identity`` is the segment's."""
    return planning.unseen(f"/proc/{pid}/exe", f"pid {pid}")


def _row(entry: _Entry) -> dict[str, Any]:
    """The fields of a Row, read from the segment. Runs in a child."""
    control = entry.segment.control()
    number = control.latest_capture
    row = _blank(entry)
    if number > 0:
        rate = int(control.capture["rate_bytes"])
        quick = collect.read_quick(entry.segment, control, number)
        names = layout.LOST_NAMES.items()
        row |= {
            "rate_bytes": rate,
            "samples": quick.samples,
            "live_bytes": float(estimate.unsample(quick.blocks, quick.bytes, rate).bytes.sum()),
            "lost": sum(int(control["lost"][i]) for i, name in names if name in MISSING_SAMPLES),
            "notes": [
                *shortage.full_tables(control, quick, entry.segment.path),
                *shortage.no_events(control),
            ],
        }
    return row


def _blank(entry: _Entry) -> dict[str, Any]:
    return {
        "pid": entry.pid,
        "user": user_name(entry.uid),
        "command": entry.segment.control().program_name or "?",
        "state": entry.state,
        "rate_bytes": None,
        "samples": None,
        "live_bytes": None,
        "lost": None,
        "dead": entry.dead,
        "place": entry.place,
        "notes": [],
    }


@dataclass
class _Entry:
    """A segment that gets a row, open."""

    pid: int
    segment: Segment
    uid: int
    state: str
    dead: bool
    place: str | None = None


@dataclass
class Listing:
    """The rows, living processes first; the number of dead processes' segments without a row; the
    ledgers of folders whose bound caused a loss; and processes whose segment cannot be opened.
    """

    rows: list[Row]
    more: int
    rooms: list[Room] = field(default_factory=list)
    removed: list[discovery.SegmentRemoved] = field(default_factory=list)


def _rows(entries: list[_Entry]) -> Iterator[Row]:
    """The rows of segments; closes them. An unreadable segment has a row without counts."""
    for first in range(0, len(entries), BATCH):
        batch = entries[first : first + BATCH]
        try:
            yield from _read(batch)
        except TargetBusy:  # do not retry them one by one: this took long enough
            yield from (Row(**_blank(entry) | {"state": "unreadable"}) for entry in batch)
        except MemError:
            for entry in batch:
                try:
                    yield from _read([entry])
                except MemError:
                    yield Row(**_blank(entry) | {"state": "unreadable"})
        for entry in batch:
            entry.segment.close()


def _read(batch: list[_Entry]) -> list[Row]:
    """Raises MemError."""
    held = [entry.segment.fd for entry in batch]
    told = child.call(
        lambda _: [_row(entry) for entry in batch],
        "the segments",
        READ_LIMIT_S,
        keep=held,
        enter=confine.enter,
    )
    try:
        return [_checked(row) for row in told]
    except (TypeError, KeyError, ValueError, OverflowError):
        raise MemError("the segments hold invalid data") from None


def _checked(row: dict[str, Any]) -> Row:
    """A checked row from the child, which a hostile segment may control."""

    def optional(name: str, kind: type[Any]) -> Any:
        value = row[name]
        if value is not None and not -COUNT_MAX < value < COUNT_MAX:
            raise ValueError
        return None if value is None else kind(value)

    return Row(
        pid=int(row["pid"]),
        user=str(row["user"]),
        command=str(row["command"]),
        state=str(row["state"]),
        rate_bytes=optional("rate_bytes", int),
        samples=optional("samples", int),
        live_bytes=optional("live_bytes", float),
        lost=optional("lost", int),
        dead=bool(row["dead"]),
        place=None if row["place"] is None else str(row["place"]),
        notes=[str(note)[:TEXT_MAX] for note in row["notes"][:NOTES_MAX]],
    )


def _user_of(pid: int, segment: Segment) -> int:
    """The user that a process acts as, as in `ps`: a server gives up root after it made its
    segment.
    """
    facts = procfs.status(pid)
    return facts.uids[1] if facts is not None and facts.uids else os.fstat(segment.fd).st_uid


def _measured(row: Row) -> Row:
    """A row with what the kernel says of its living process: its name too, since the workers of a
    server give themselves another after the segment was made.
    """
    resident = procfs.resident(row.pid)
    rss_bytes = resident.rss_bytes if resident else None
    known = row.has_sampler and not procfs.is_strange(row.pid)
    command = (known and procfs.program_name(row.pid)) or row.command
    return dataclasses.replace(
        row, command=command, age_s=procfs.age_s(row.pid), rss_bytes=rss_bytes
    )


def by_program(rows: list[Row]) -> list[Row]:
    """Rows in their order, those of one program together and the largest in use first."""
    first: dict[str, int] = {}
    for place, row in enumerate(rows):
        first.setdefault(row.command, place)
    return sorted(rows, key=lambda row: (first[row.command], -(row.live_bytes or 0)))


def listing(root: str | None = None) -> Listing:
    """Every process with a sampler, and the latest segments of dead ones; with `root`, of those
    below that folder. Removes dead segments without an unsaved capture.
    """
    system.allow_descriptors()
    scan = functools.cache(discovery.scan)  # after the files: none of a new process looks dead
    every = leftovers.in_folders(scan=scan) if root is None else leftovers.below(Path(root), scan)
    here = {one.pid for one in every}
    living = []
    removed: list[discovery.SegmentRemoved] = []
    for pid, segment in discovery.running(scan(), removed if root is None else None):
        if root is not None and pid not in here:
            segment.close()
            continue
        control = segment.control()
        now_ns = gate.target_now_ns(pid)
        state = logkeeper.state(segment, control, now_ns) or _state(control, now_ns)
        if state in _BESIDE and usable.may_be_beside_program(control):
            state = _BESIDE[state] if _unseen(control.identity, pid) else state
        living.append(_Entry(pid, segment, _user_of(pid, segment), state, dead=False))
    rows = by_program([_measured(row) for row in _rows(living)])
    # Saved but not removed: another user's.
    dead = [one for one in leftovers.sweep(every) if not one.alive and not one.written]
    shown = []
    for one in dead[:DEAD_MAX]:
        with contextlib.suppress(OSError, MemError):
            segment = leftovers.opened(one, writable=False)
            pid = one.control.number("pid")
            state = _left_state(one)
            place = output.kept_of_run(Path(one.path).parent.parent, pid)
            shown.append(_Entry(pid, segment, one.uid, state, state not in LEFT, place))
    rows += sorted(
        (row if row.dead else _measured(row) for row in _rows(shown)), key=lambda row: row.dead
    )
    places = ledgers.everywhere() if root is None else ledgers.of(folders.below(Path(root)))
    rooms = [room for room in places if room.lost]
    beyond = leftovers.count_beyond() if root is None else 0
    return Listing(rows, len(dead[DEAD_MAX:]) + beyond, rooms, removed)
