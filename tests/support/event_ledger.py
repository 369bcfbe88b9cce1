"""What a program wrote down of its own events, and what a log or its rings say of them."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mem_parser.memlog.events import Events, Kind

ENTRY = np.dtype(
    [("before_ns", "<i8"), ("after_ns", "<i8"), ("address", "<u8"), ("size", "<u8"),
     ("thread", "<u4"), ("what", "<u4")]
)  # fmt: skip
FIELDS = ("what", "address", "size")
# What two threads of eventful.c need for more than one file of the least size, and the rings that
# hold all of it: a drain that a busy machine does not let run in time loses nothing.
TWO_FILES_OF = "240000"
RINGS_FOR_ALL = "256M"
ROOM_FOR_ALL = {"MEM_PROFILER_MAX_MEMORY": "4G", "MEM_PROFILER_MAX_TOTAL": "64G"}


def told_by(events: Events) -> NDArray[np.void]:
    """The events of the program's own blocks, in the ledger's form."""
    own = (events.size_bytes % 16 == 7) & (events.kind != Kind.MARK)
    told = np.zeros(int(own.sum()), ENTRY)
    told["what"], told["address"] = events.kind[own], events.address[own]
    told["size"], told["thread"] = events.size_bytes[own], events.thread[own]
    told["before_ns"] = told["after_ns"] = events.time_ns[own]
    return told


def ledger(path: Path) -> NDArray[np.void]:
    return np.fromfile(path, ENTRY)


def assert_equal(told: NDArray[np.void], truth: NDArray[np.void]) -> None:
    """Each thread's events are those of its ledger, in order and at the right times."""
    assert len(told) == len(truth)
    threads = {}
    for thread in np.unique(truth["thread"]).tolist():
        mine = truth[truth["thread"] == thread]
        first = told["address"] == mine["address"][0]
        first &= told["before_ns"] >= mine["before_ns"][0]
        row = int(told["thread"][np.flatnonzero(first)[0]])
        seen = told[told["thread"] == row]
        assert seen[list(FIELDS)].tolist() == mine[list(FIELDS)].tolist()
        assert (seen["before_ns"] >= mine["before_ns"]).all()
        assert (seen["before_ns"] <= mine["after_ns"]).all()
        threads[thread] = row
    assert len(set(threads.values())) == len(threads)
