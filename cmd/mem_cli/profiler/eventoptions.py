"""The options of captures that write a log of events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from mem_cli.commands import together
from mem_cli.profiler.options import Bytes
from mem_profiler.events import FILE_BYTES, FILE_LEAST_BYTES, FILES, RING_BYTES

if TYPE_CHECKING:
    from mem_profiler.capture.output import Where
    from mem_profiler.events.logs import Logging

RING_LEAST_BYTES = 64 << 10

event_options = together(
    click.option(
        "--events",
        is_flag=True,
        help="Write every sampled event too: PREFIX.PID.N-K.memlog, for reports about time.",
    ),
    click.option(
        "--events-memory",
        type=Bytes(RING_LEAST_BYTES, 64 << 30, "64K and 64G"),
        help=f"Memory of the events' rings in the segment. [default: {RING_BYTES >> 20}M]",
    ),
    click.option(
        "--events-file-size",
        type=Bytes(FILE_LEAST_BYTES, 1 << 40, "4M and 1024G"),
        help=f"Maximum size of each event file. [default: {FILE_BYTES // 1_000_000} MB]",
    ),
    click.option(
        "--events-files",
        type=click.IntRange(1, 100_000),
        metavar="N",
        help=f"Number of event files to keep, the latest ones. [default: {FILES}]",
    ),
)
"""The options; `EventChoice.take` finds them among the others."""


@dataclass(frozen=True)
class EventChoice:
    """The options for events. A detail option implies events."""

    events: bool
    ring_bytes: int | None
    file_bytes: int | None
    files: int | None

    @classmethod
    def take(cls, options: dict[str, Any]) -> EventChoice:
        """Remove the options from those of the command."""
        names = ("events", "events_memory", "events_file_size", "events_files")
        return cls(*(options.pop(name) for name in names))

    def logging(self, where: Where) -> Logging | None:
        """How events are logged to files of ``where``; None if they are not.

        Raises UsageProblem where these files would meet others.
        """
        chosen = (self.ring_bytes, self.file_bytes, self.files)
        if not self.events and all(one is None for one in chosen):
            return None
        from mem_profiler.capture.output import ExactFile
        from mem_profiler.events.collector import Limits, check_names
        from mem_profiler.events.logs import Logging

        if isinstance(where, ExactFile):
            check_names(where)
        limits = Limits(self.file_bytes or FILE_BYTES, self.files or FILES)
        return Logging(where, self.ring_bytes or RING_BYTES, limits)
