"""A log whose writer was killed, and that of what the rings still had: an event counts once."""

from __future__ import annotations

from pathlib import Path

import pytest

from mem_parser.memlog.events import Events, Kind
from mem_parser.memlog.launches import Launches, LaunchKind
from mem_parser.memscope.logtail import ResumedTail, in_order
from memscope_logs import START_NS, Event, Log

SECOND = 10**9
LATER_NS = 3 * SECOND
"""When the second log begins: its times are since then."""


def birth(time_ns: int, address: int = 4096) -> Event:
    return (time_ns, Kind.BIRTH, address, 100, 1)


def launch(time_ns: int, thread: int = 0) -> tuple[int, ...]:
    return (time_ns, int(LaunchKind.KERNEL), 0, 0, thread, 0, 0, 0)


def rest_of(folder: Path) -> Log:
    """A log as it is made of the rings of a killed process."""
    (folder / "rest").mkdir()
    return Log(folder / "rest", run="rest", start_ns=START_NS + LATER_NS)


def read(*logs: Log) -> list[tuple[type, int, int]]:
    """What the logs have together: kind of row, time since the first log's start, address or
    thread."""
    paths = [p for log in logs for p in in_order([str(p) for p in log.folder.glob("*.memlog")])]
    found = []
    for file, piece in ResumedTail(paths).take(final=True):
        if isinstance(piece, (Events, Launches)):
            assert file.facts is not None
            times = piece.time_ns + (file.facts.start_ns - START_NS)
            names = piece.address if isinstance(piece, Events) else piece.thread
            found += [
                (type(piece), *row) for row in zip(times.tolist(), names.tolist(), strict=True)
            ]
    return found


def test_events_that_the_next_log_has_again_count_once(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.add(birth(SECOND), birth(4 * SECOND))
    log.begin()  # what is read again may be in several files, and in several pieces
    log.add(birth(5 * SECOND), (5 * SECOND, Kind.DEATH, 4096, 100, 1))
    log.launch(launch(4 * SECOND), launch(6 * SECOND))
    rest = rest_of(tmp_path)
    rest.add(birth(SECOND), birth(2 * SECOND), (2 * SECOND, Kind.DEATH, 4096, 100, 1))
    rest.launch(launch(SECOND), launch(3 * SECOND), launch(4 * SECOND))
    rest.add(birth(4 * SECOND), birth(5 * SECOND))
    assert read(log, rest) == [
        (Events, SECOND, 4096), (Events, 4 * SECOND, 4096),
        (Events, 5 * SECOND, 4096), (Events, 5 * SECOND, 4096),
        (Launches, 4 * SECOND, 0), (Launches, 6 * SECOND, 0),
        (Launches, 7 * SECOND, 0),
        (Events, 7 * SECOND, 4096), (Events, 8 * SECOND, 4096),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "other", [birth(SECOND + 1), birth(SECOND, 8192), (SECOND, Kind.DEATH, 4096, 100, 1)]
)
def test_events_that_only_look_alike_all_count(tmp_path: Path, other: Event) -> None:
    log, rest = Log(tmp_path), rest_of(tmp_path)
    for _ in range(2):
        log.add(birth(LATER_NS + SECOND))
    rest.add(other)
    rest.launch(launch(SECOND, thread=4096))
    assert [row[0] for row in read(log, rest)] == [Events, Events, Events, Launches]
