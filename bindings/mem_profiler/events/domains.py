"""The domains of a capture, as a log of events names them: by their rows in the segment."""

from __future__ import annotations

from mem_parser.devices import HOST
from mem_profiler.segment import devices
from mem_profiler.segment.file import Segment


class Domains:
    """Names and rates by row. A row without a domain has a name too, as rows have no gaps here."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self.names: tuple[str, ...] = ()
        self.rates_bytes: tuple[float, ...] = ()
        self.update()

    def update(self) -> None:
        """Read the domains as they are now."""
        control = self._segment.control()
        every = devices.read_domains(self._segment, control)
        found = {one.number: one.name for one in every}
        rates = {one.number: one.rate_bytes(control) for one in every}
        rows = range(1, 1 + max(found, default=0))
        self.names = (HOST, *(found.get(row, f"domain-{row}") for row in rows))
        host_rate = float(max(1, int(control.capture["rate_bytes"])))
        self.rates_bytes = (host_rate, *(rates.get(row, 1.0) for row in rows))
