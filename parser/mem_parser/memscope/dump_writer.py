"""Write dump rows: windows, steps, owners' labels, rows from the process itself.

Takes events and side rows in the order of time. Rows are written while a window is open: from the
begin of the process, or from START_TRACE where the collection is deferred, to STOP_TRACE; and in
the wanted steps, if any.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from mem_parser.errors import UsageProblem
from mem_parser.memscope.attributes import as_csv, as_json, parse
from mem_parser.memscope.blockclasses import SideFacts
from mem_parser.memscope.blockfacts import NAMES, UNKNOWN, BlockFacts
from mem_parser.memscope.blockrows import Blocks
from mem_parser.memscope.decompose import owners_in
from mem_parser.memscope.form import NOTHING
from mem_parser.memscope.launchrows import is_wanted
from mem_parser.memscope.oom import OomRows
from mem_parser.memscope.rewriting import change_attributes
from mem_parser.memscope.settings import Settings, of_dict
from mem_parser.memscope.siderows import CONFIG, LOST, OWNER, PHASE, REGION, SideRow
from mem_parser.memscope.stacktexts import StackTexts
from mem_parser.memscope.steps import STEP_MESSAGE
from mem_parser.memscope.tracejson import add_traces
from mem_parser.memscope.tracks import CANN, Batch

if TYPE_CHECKING:
    from mem_parser.memscope.dumps import Dumps

LEVELS = ("COMPONENT", "PROCESS", "DETAIL_1", "DOUBT", "DETAIL_2")
USER = "USER"
USERS_MAX = 3
MODULES = NAMES | {UNKNOWN}
_Levels = dict[str, list[str]]
LABELS_MAX = 3
"""So many labels of the user an owner has; more are left out."""
_NUMBER_CHARS = 18
_ALWAYS = frozenset(("SYSTEM", "SNAPSHOT"))
_TWO_STEPS = "steps come from step() and from ranges named `step start`: the ranges make no steps"


class Scribe:
    """One process."""

    def __init__(self, settings: Settings, dumps: Dumps, pid: int) -> None:
        self.settings = settings
        self.dumps = dumps
        self.warnings: list[str] = []
        self.run_folder = ""
        """That of the process, with the calls of Python functions that it wrote; empty: none."""
        self._pid = pid
        self.facts = BlockFacts()
        """What rows of blocks say of pages, pools and devices."""
        self._blocks = Blocks(settings, dumps, pid, StackTexts(dumps.tail), self.facts)
        self._oom = OomRows(self._blocks, self._add_row)
        self._late = LateLabels()
        self._facts = SideFacts() if "decompose" in settings.analyses else None
        self._window = not settings.deferred
        # The first step of a program that calls `step()` begins with the collection.
        self._step = 1
        self._in_step = True
        self._steps_from = ""
        self._step_ranges: set[object] = set()
        self._regions: dict[int, list[str]] = defaultdict(list)
        self._lost = 0
        self.last_ns = 0
        """The time of the last event."""
        self._times = np.zeros(0, dtype=np.int64)
        self._choose()

    # -- events ----------------------------------------------------------------------------------

    def begin(self, batch: Batch) -> None:
        """Take a batch of events, which then come by `add`."""
        self._times = batch.events.time_ns
        for file in batch.files:
            if file.facts is not None:
                self.facts.learn(file.facts.domains)
        self._blocks.begin(batch)

    def add(self, low: int, high: int) -> None:
        """Let the events [low, high) of the batch happen."""
        self.last_ns = int(self._times[high - 1])
        self._blocks.add(low, high)

    def settle(self) -> None:
        """Write the rows of all that came."""
        self._blocks.settle()

    def finish(self) -> None:
        """Write the ends of live blocks, and put late labels into their rows."""
        self._blocks.end_all(self.last_ns)
        self.dumps.close()
        self._find_owners()
        self._late.write(self.dumps.paths)
        self._add_traces()
        if self._lost:
            self.warnings.append(f"the process could not write {self._lost} side rows")
        if self.dumps.missing:
            self.warnings.append(
                f"{self.dumps.missing} rows of no device are missing in late files"
            )

    def _add_traces(self) -> None:
        databases = {path for path in self.dumps.paths.values() if path.endswith(".db")}
        if self.run_folder and databases:
            self.warnings += add_traces(sorted(databases), self.run_folder, self._pid)

    def _find_owners(self) -> None:
        """Let the late labels have what the program told of PyTorch's blocks."""
        if self._facts is None:
            return
        for device, path in self.dumps.paths.items():
            for owned in owners_in(path, self._facts):
                self._late.add(device, *owned)

    # -- side rows -------------------------------------------------------------------------------

    def tell(self, row: SideRow) -> None:
        """Take in a row that the process told, or a mark."""
        self.last_ns = max(self.last_ns, row.time_ns)
        if self._facts is not None:
            self._facts.add(row)
        if row.event == CONFIG:
            self._configure(row)
        elif row.event == OWNER:
            self._own(row)
        elif row.event == REGION:
            self._region(row)
        elif row.event == LOST:
            self._lost += int(row.name) if row.name.isdecimal() and len(row.name) < 18 else 1
        elif row.event != PHASE and is_wanted(row, self.settings):
            self._write_told(row)

    def _write_told(self, row: SideRow) -> None:
        if row.event == "SYSTEM" and row.type == "STEP":
            self._begin_step("step()", _after(row.name, self._step))
        is_range = row.event == "MSTX" and row.name == STEP_MESSAGE
        if is_range and row.type == "Range_start":
            self._step_ranges.add(row.attributes.get("range_id"))
            self._begin_step("a range", self._step + 1 if self._steps_from else 1)
        if row.type == "START_TRACE":
            self._open_window(row)
        elif self._is_recording or row.event in _ALWAYS:
            self._put(row)
        if row.type == "STOP_TRACE":
            self._window = False
            self._choose()
        if is_range and row.type == "Range_end" and self._steps_from == "a range":
            self._in_step = False
            self._choose()

    def _put(self, row: SideRow) -> None:
        """Write a row as it was told, with what is known of the block that it names."""
        attributes = _words(row.attributes)
        address = row.address
        device = row.device
        if row.event == "ACCESS" and address is not None:
            found = self._blocks.find(address, device)
            if found is not None:
                device = found.track.device
                head = {
                    "allocation_id": found.allocation,
                    "addr": hex(found.start),
                    "size": found.size,
                }
                attributes = {**head, **{k: v for k, v in attributes.items() if k not in head}}
            else:
                attributes = {"addr": hex(address), **attributes}
        self._add_row(row, device, address if row.event == "ACCESS" else None, attributes)

    def _add_row(
        self,
        row: SideRow,
        device: str | None,
        address: int | None,
        attributes: Mapping[str, Any],
        c_stack: str = "",
    ) -> None:
        """Write a row to the file of its device, or to all."""
        if device is not None and not self.settings.wants(device):
            return
        line = (
            row.event, row.type, row.name or NOTHING, row.time_ns, self._pid, row.tid,
            device or NOTHING, address, row.stack or "", c_stack,
        )  # fmt: skip
        self._blocks.tell(device, line, attributes)

    # -- windows and steps -----------------------------------------------------------------------

    @property
    def _is_recording(self) -> bool:
        return self._blocks.recording

    def _choose(self) -> None:
        """Open or shut the window, as all that counts says."""
        wanted = self.settings.steps
        self._blocks.recording = self._window and (
            not wanted or (self._in_step and self._step in wanted)
        )

    def _open_window(self, row: SideRow) -> None:
        opens = not self._window
        self._window = True
        self._choose()
        self._put(row)
        if opens and self._is_recording:
            self._blocks.promote(row.time_ns, row.tid)

    def _begin_step(self, source: str, number: int) -> None:
        if self._steps_from and self._steps_from != source:
            if _TWO_STEPS not in self.warnings:
                self.warnings.append(_TWO_STEPS)
            if source == "a range":
                return
        self._steps_from = source
        self._step = number
        self._in_step = True
        self._choose()

    def _configure(self, row: SideRow) -> None:
        """Go on with other settings; the form and the place of files stay."""
        try:
            told = of_dict(row.attributes)
        except UsageProblem as error:
            self.warnings.append(str(error))
            return
        self.settings = told
        if self._facts is None and "decompose" in told.analyses:
            self._facts = SideFacts()
        self._blocks.new_settings(told)
        self._choose()

    # -- owners ----------------------------------------------------------------------------------

    def _region(self, row: SideRow) -> None:
        """A thread begins or ends to allocate for an owner."""
        labels = self._regions[row.tid]
        if row.type == "BEGIN":
            labels.append(row.name)
        elif row.name in labels:
            del labels[len(labels) - 1 - labels[::-1].index(row.name)]
        if not labels:
            del self._regions[row.tid]
        self._blocks.labels = self._labels_of if self._regions else None

    def _labels_of(self, tid: int) -> str:
        labels = self._regions.get(tid)
        return "@".join(map(label_of, labels[:LABELS_MAX])) if labels else ""

    def _own(self, row: SideRow) -> None:
        """A block has an owner from now on; its row says so at the end."""
        if row.address is None:
            return
        found = self._blocks.find(row.address, row.device)
        if found is None:
            return
        track, level, label = found.track, row.type, label_of(row.name)

        def write(number: int) -> None:
            self._late.add(track.device, number, track.place.framework, level, label)

        self._blocks.when_written(found.number, write)


def _after(name: str, step: int) -> int:
    """Return the number of the step that begins where the step ``name`` ends."""
    return (int(name) if name.isdecimal() and len(name) < _NUMBER_CHARS else step) + 1


def label_of(text: str) -> str:
    """Return a label as an owner has it: no `@`, which divides its parts, and no line break."""
    return " ".join(text.replace("@", " ").split())[:100]


def _words(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes whose values are texts or numbers."""
    shown: dict[str, Any] = {}
    for key, value in attributes.items():
        word = str(key)
        if word.replace("_", "").isalnum() and len(word) <= 40:
            plain = isinstance(value, str | int | float) and not isinstance(value, bool)
            shown[word] = value if plain else json.dumps(value)
    return shown


class LateLabels:
    """Parts of owners that are known only after their block's row was written, by that row:
    `FRAMEWORK@COMPONENT@PROCESS@DETAIL_1@DOUBT@DETAIL_2@USER...`.
    """

    def __init__(self) -> None:
        self._rows: dict[str, dict[int, _Levels]] = {}

    def add(self, device: str, row: int, framework: str, level: str, label: str) -> None:
        """Give a block a label of a level; a later one of the same level takes its place, labels of
        the user come behind each other, at most `USERS_MAX` of them.
        """
        if not label or (level not in LEVELS and level != USER):
            return
        levels = self._rows.setdefault(device, {}).setdefault(row, {"FRAMEWORK": [framework]})
        labels = levels.setdefault(level, [])
        if level != USER:
            labels[:] = [label]
        elif label not in labels and len(labels) < USERS_MAX:
            labels.append(label)

    def write(self, paths: Mapping[str, str]) -> None:
        """Put the labels into the files, by device: each file changes as a whole. Raises
        `DumpError`, OSError.
        """
        by_file: dict[str, dict[int, _Levels]] = {}
        for device, rows in self._rows.items():
            if device in paths:
                by_file.setdefault(paths[device], {}).update(rows)
        for path, levels in by_file.items():
            change_attributes(path, levels, partial(_owned, levels))


def _owned(by_row: Mapping[int, _Levels], row: int, text: str) -> str:
    """Return the Attr of a row with the parts of its owner."""
    levels, values = by_row[row], parse(text)
    had = values.get("owner", "").split("@")[1:]
    component = had[:1] if levels["FRAMEWORK"] == [CANN] and set(had[:1]) <= MODULES else []
    del had[: len(component)]
    users = [*had, *(u for u in levels.get(USER, []) if u not in had)][:USERS_MAX]
    parts = [
        *levels["FRAMEWORK"],
        *component,
        *(p for name in LEVELS for p in levels.get(name, [])),
        *users,
    ]
    owned = {**values, "owner": "@".join(parts)}
    return as_json(owned) if text.startswith('{"') else as_csv(owned)
