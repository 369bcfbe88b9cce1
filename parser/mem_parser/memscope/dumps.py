"""The dumps of one process while rows come: a file of each device, made with its first row.

Rows that belong to no device (marks, steps) are in the file of every one, with the same ID: those
from before a device's first row come at the begin of its file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mem_parser.memscope.form import COLUMNS, Folders
from mem_parser.memscope.writing import (
    CsvSink,
    DatabaseSink,
    Sink,
    Tail,
    Values,
)

if TYPE_CHECKING:
    pass

HELD_MAX = 1 << 20
"""So many rows without a device are kept for devices that come later."""
MARKS = "MSTX"
_DEVICE = COLUMNS.index("Device Id")


class Dumps:
    """The files of one process: in the tree of ``places``, or one file for all devices."""

    def __init__(self, form: str, places: Folders | None = None, *, path: str = "") -> None:
        """``path``: the one file, instead of a tree."""
        self._make: type[CsvSink | DatabaseSink]
        self._make = DatabaseSink if form == "db" else CsvSink
        self._form, self._places, self._path = form, places, path
        self._sinks: dict[str, Sink] = {}
        self._held: list[tuple[int, Values, Mapping[str, object]]] = []
        self._unheld = 0
        self.missing = 0
        """Rows without a device that the files of later devices have not: they were too many."""

    def tail(self, python: str, c: str) -> Tail:
        """Return both stacks of a row, as the files have them."""
        return self._make.tail(python, c)

    @property
    def sinks(self) -> Mapping[str, Sink]:
        """The files that were made, by device."""
        return self._sinks

    @property
    def paths(self) -> dict[str, str]:
        """Their names."""
        return {device: sink.path for device, sink in self._sinks.items()}

    def sink(self, device: str) -> Sink:
        """Return the file of a device, made where it is new. Raises `MemError`, OSError."""
        found = self._sinks.get(device)
        if found is None:
            found = self._sinks[device] = self._made(device)
        return found

    def _made(self, device: str) -> Sink:
        if self._path:
            if self._sinks:
                return next(iter(self._sinks.values()))
            sink: Sink = self._make(self._path)
        else:
            assert self._places is not None
            path = self._places.dump(device, self._form)
            self._places.make_dump_folder(device)
            sink = self._make(path)
        self.missing += self._unheld
        for number, row, attributes in self._held:
            sink.add(number, self._of_file(row, device), attributes)
        return sink

    def _of_file(self, row: Values, device: str) -> Values:
        """Return a row of no device as the file of one has it.

        msMemScope's marks have the device that their thread uses, and its search for leaks takes
        them by their device: so marks of a device's own file are of that device.
        """
        if row[1] != MARKS or self._path or not device.isdecimal():
            return row
        return (*row[:_DEVICE], device, *row[_DEVICE + 1 :])

    def everywhere(self, number: int, row: Values, attributes: Mapping[str, object]) -> None:
        """Add a row that belongs to no device."""
        if len(self._held) < HELD_MAX:
            self._held.append((number, row, attributes))
        else:
            self._unheld += 1
        for device, sink in {id(s): (d, s) for d, s in self._sinks.items()}.values():
            sink.add(number, self._of_file(row, device), attributes)

    def flush(self) -> None:
        """Write the rows that wait."""
        for sink in self._sinks.values():
            sink.flush()

    def close(self) -> None:
        """Write and close."""
        for sink in self._sinks.values():
            sink.close()
