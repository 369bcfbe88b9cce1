"""Rows of blocks are those of a plain model that goes event by event, byte by byte."""

from __future__ import annotations

import dataclasses
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.memlog.events import Kind
from mem_parser.memscope import blockrows, collecting
from mem_parser.memscope.form import COLUMNS
from memscope_logs import PID, START_NS, Collected, Log, side, with_settings

B, D, M, R = Kind.BIRTH, Kind.DEATH, Kind.MOVED, Kind.REFUSED
DOMAINS = ("host", "hal-0", "hal-1", "pool-ptaCaching", "hal-0-pinned")
TYPES = (("HOST", "cpu"), ("HAL", "0"), ("HAL", "1"), ("PTA", None), ("HOST_PINNED", "cpu"))
KEYS = {"HOST": "total:{}", "HOST_PINNED": "pinned:true,used:{}"}
TID = 7
NO_MODULE = "(0x1000)"
"""The frame of a stack that is in no module."""
Line = list[str]


@dataclasses.dataclass
class Live:
    """A block of the model."""

    allocation: int
    size: int
    device: str
    written: bool = False


class Model:
    """What the rows are, from events and windows in their order."""

    def __init__(self) -> None:
        self.lines: dict[str, list[Line]] = {}
        self.held: list[Line] = []
        self.live: list[dict[int, Live]] = [{} for _ in DOMAINS]
        self.used: dict[tuple[str, str], int] = {}
        self.highest: dict[tuple[str, str], int] = {}
        self.refused: dict[str, int] = {}
        self.ids = self.allocations = 0
        self.window = True

    def row(self, event: str, domain: int, time_ns: int, address: int, block: Live,
            *, made: bool = False, tid: int = PID) -> None:  # fmt: skip
        kind = TYPES[domain][0]
        keys = KEYS.get(kind, "used:{}").format(self.used[kind, block.device])
        if made:
            keys = "pinned:true,shadow:true" if kind == "HOST_PINNED" else "shadow:true"
        self.ids += 1
        self.lines.setdefault(block.device, list(self.held)).append([
            str(self.ids), event, kind, "N/A", str(START_NS + time_ns), str(PID), str(tid),
            block.device, f"0x{address:016x}",
            f"{{allocation_id:{block.allocation},addr:{address:#x},size:{block.size},{keys}}}",
            "", "",
        ])  # fmt: skip

    def device(self, domain: int, address: int) -> str:
        known = TYPES[domain][1]
        if known is not None:
            return known
        around = (
            TYPES[hal][1]
            for hal in (1, 2)
            for start, block in self.live[hal].items()
            if start <= address < start + max(block.size, 1)
        )
        return next(around, None) or "0"

    def end(self, domain: int, time_ns: int, address: int, *, unseen: bool) -> None:
        block = self.live[domain].pop(address, None)
        if block is None:
            return
        self.used[TYPES[domain][0], block.device] -= block.size
        if self.window and not unseen:
            self.row("FREE", domain, time_ns, address, block)
        elif block.written:
            self.row("FREE", domain, time_ns, address, block, made=True)

    def refuse(self, time_ns: int, domain: int) -> None:
        kind, device = TYPES[domain][0], TYPES[domain][1] or "0"
        if not self.window:
            return
        last = self.refused.get(device)
        self.refused[device] = time_ns
        if kind != "HAL" or (last is not None and time_ns - last < 10**9):
            return
        pool, own = ("PTA", device), ("HAL", device)
        # What a pool has reserved is in no event: without blocks of it that is nothing.
        head = "" if self.highest.get(pool) else "reserved:0,max_reserved:0,"
        told = f"{head}allocated:{self.used.get(pool, 0)},max_allocated:{self.highest.get(pool, 0)}"
        told += f",used:{self.used.get(own, 0)},max_used:{self.highest.get(own, 0)}"
        self.ids += 1
        self.lines.setdefault(device, list(self.held)).append([
            str(self.ids), "SNAPSHOT", "SNAPSHOT", "OOM_Snapshot", str(START_NS + time_ns),
            str(PID), str(PID), device, "N/A", f"{{{told}}}", "NA", NO_MODULE,
        ])  # fmt: skip

    def event(self, time_ns: int, kind: Kind, address: int, size: int, domain: int) -> None:
        if kind in {D, M}:
            self.end(domain, time_ns, address, unseen=False)
        elif kind == R:
            self.refuse(time_ns, domain)
        elif kind == B:
            self.end(domain, time_ns, address, unseen=True)
            self.allocations += 1
            device = self.device(domain, address)
            block = Live(self.allocations, size, device, self.window)
            key = TYPES[domain][0], device
            self.used[key] = self.used.get(key, 0) + size
            self.highest[key] = max(self.highest.get(key, 0), self.used[key])
            if self.window:
                self.row("MALLOC", domain, time_ns, address, block)
            self.live[domain][address] = block

    def blocks(self) -> list[tuple[int, int, Live]]:
        found = [(k, a, b) for k, live in enumerate(self.live) for a, b in live.items()]
        return sorted(found, key=lambda one: one[2].allocation)

    def told(self, time_ns: int, kind: str) -> None:
        opens = kind == "START_TRACE" and not self.window
        self.window = self.window or opens
        self.ids += 1
        line = [str(self.ids), "SYSTEM", kind, "N/A", str(START_NS + time_ns), str(PID), str(TID),
                "N/A", "N/A", "{}", "", ""]  # fmt: skip
        self.held.append(line)
        for lines in self.lines.values():
            lines.append(line)
        for domain, address, block in self.blocks() if opens else ():
            if not block.written:
                self.row("MALLOC", domain, time_ns, address, block, made=True, tid=TID)
                block.written = True
        if kind == "STOP_TRACE":
            self.window = False

    def finish(self, time_ns: int) -> None:
        for domain, address, block in self.blocks():
            if block.written:
                self.row("FREE", domain, time_ns, address, block, made=True)


def told(line: Line) -> str:
    """A line of the model as CSV."""
    return ",".join([*line[:9], f'"{line[9]}"', *line[10:]]) + "\n"


def in_json(text: str) -> str:
    """An Attr as a database has it."""
    pairs = (pair.split(":") for pair in text[1:-1].split(",") if pair)
    return "{" + ",".join(f'"{key}":"{value}"' for key, value in pairs) + "}"


@st.composite
def stories(draw: st.DrawFn) -> list[tuple[str, int, tuple[Kind, int, int, int]]]:
    """Events and windows: `event` or the type of a row, the time, and what happens."""
    found: list[tuple[str, int, tuple[Kind, int, int, int]]] = []
    kinds = st.sampled_from([B, B, B, D, D, M, R])
    # Without the pool no device is asked for, and events are sorted.
    domains = draw(st.sampled_from([(0,), (0, 1), (0, 1, 2), range(len(DOMAINS))]))
    time_ns = 0
    for _ in range(draw(st.integers(1, 60))):
        time_ns += draw(st.sampled_from([1, 1, 10**6, 10**9]))
        domain = draw(st.sampled_from(domains))
        big = 1 << 20
        begin = draw(st.integers(1, 4)) * big
        # The driver's blocks do not overlap; those of the pool are in them, or nowhere.
        address = {1: begin, 2: begin + 16 * big}.get(domain, begin + draw(st.integers(0, 3)) * 512)
        if domain == 3:
            address += draw(st.sampled_from([0, 16 * big, 1 << 62]))
        size = draw(st.sampled_from([0, 1, 512, 9999, 10_000, big]))
        found.append(("event", time_ns, (draw(kinds), address, size, domain)))
        if draw(st.integers(0, 9)) == 0:
            kind = draw(st.sampled_from(["START_TRACE", "STOP_TRACE"]))
            found.append((kind, time_ns, (B, 0, 0, 0)))
    return found


def modelled(story: list[tuple[str, int, tuple[Kind, int, int, int]]]) -> Model:
    """The rows of a story."""
    model = Model()
    for kind, time_ns, event in story:
        if kind == "event":
            model.event(time_ns, *event)
        else:
            model.told(time_ns, kind)
    model.finish(story[-1][1])
    return model


@given(
    story=stories(), form=st.sampled_from(["csv", "db"]), batch=st.sampled_from([1, 3, 1 << 15]),
    in_order=st.sampled_from([1, 4, 1 << 10]),
)  # fmt: skip
def test_rows_are_those_of_a_model_that_goes_event_by_event(
    tmp_path_factory: pytest.TempPathFactory,
    story: list[tuple[str, int, tuple[Kind, int, int, int]]],
    form: str,
    batch: int,
    in_order: int,
) -> None:
    folder = tmp_path_factory.mktemp("log")
    log = Log(folder, DOMAINS)
    log.add(*((time_ns, *event) for kind, time_ns, event in story if kind == "event"))
    side(folder, *((time_ns, TID, None, "SYSTEM", kind, "N/A", None, {}, None)
                   for kind, time_ns, _ in story if kind != "event"))  # fmt: skip
    log.end()
    model = modelled(story)
    found = Collected(log, with_settings(form=form))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collecting, "BATCH_EVENTS", batch)
        patch.setattr(blockrows, "SORTED_EVENTS", in_order)
        assert found.finish() == []
    assert list(found.collecting.scribe.dumps.paths) == list(model.lines)
    for device, lines in model.lines.items():
        path = Path(found.collecting.scribe.dumps.paths[device])
        if form == "csv":
            assert path.read_text() == ",".join(COLUMNS) + "\n" + "".join(map(told, lines))
        else:
            connection = sqlite3.connect(path)
            rows = connection.execute("SELECT * FROM memscope_dump ORDER BY rowid").fetchall()
            connection.close()
            assert [[str(value) for value in row] for row in rows] == [
                [*line[:9], in_json(line[9]), *line[10:]] for line in lines
            ]
