"""A program that allocates, and a ledger of it made with dictionaries: an oracle for replays."""

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from mem_parser.memlog.contents import Keyframe
from mem_parser.memlog.events import Kind
from mem_parser.memlog.run import Run, read_log
from mem_parser.memlog.sizeclasses import size_classes
from memlogs import UNIT, events_of, facts_profile, stack_table, writing

STACKS = 4
SIZES = (0, 1, 8, 100, 127, 128, 129, 1000, 5000)
DOMAINS = ("host", "cuda:0")

Row = dict[str, int]
Site = tuple[int, int, int]


def size_class(size: int) -> int:
    return int(size_classes(np.array([size], dtype=np.uint64))[0])


@st.composite
def programs(draw: st.DrawFn, *, most: int = 40, spread_ns: int = 40 * UNIT) -> list[Row]:
    """Events of a program with several threads that uses addresses again, by time.

    At one time and address there is one event, as in a real program.
    """
    live: dict[tuple[int, int], Row] = {}
    gone: dict[tuple[int, int], Row] = {}
    rows: list[Row] = []
    time = 0
    for _ in range(draw(st.integers(0, most))):
        step = draw(st.sampled_from([0, 1, 5, UNIT // 3, UNIT, spread_ns // 20]))
        domain = draw(st.sampled_from([0, 0, 0, 1]))
        address = 16 * draw(st.integers(1, 4))
        key = (domain, address)
        # No two events of a block have one time; deaths of others come first within one.
        last = [r["time_ns"] for r in rows if (r["domain"], r["address"]) == key]
        before = rows[-1]["kind"] if rows else Kind.DEATH
        time += step
        thread = draw(st.integers(0, 2))
        chosen = draw(st.integers(0, 9))
        if key in live:
            block = live[key]
            if chosen < 2:
                continue
            kind = Kind.MOVED if chosen < 5 else Kind.DEATH
        elif key in gone and chosen < 3:
            block, kind = gone[key], Kind.BACK
        elif chosen == 9:
            kind = Kind.REFUSED
            block = {"size_bytes": 1 << 62, "stack": 1, "birth_ns": time}
        else:
            kind = Kind.BIRTH
            block = {
                "size_bytes": draw(st.sampled_from(SIZES)),
                "stack": draw(st.integers(0, STACKS - 1)),
                "birth_ns": time,
            }
        takes = kind in (Kind.DEATH, Kind.MOVED)
        if (last and last[-1] >= time) or (takes and before not in (Kind.DEATH, Kind.MOVED)):
            time += 1
        if kind == Kind.BIRTH:
            block["birth_ns"] = time
        row = block | {"time_ns": time, "kind": kind, "address": address, "thread": thread}
        row["domain"] = domain
        if kind != Kind.BIRTH:
            row["birth_ns"] = row["birth_ns"] // UNIT * UNIT
        rows.append(row)
        if takes:
            gone[key] = live.pop(key)
        elif kind != Kind.REFUSED:
            live[key] = block
            gone.pop(key, None)
    return rows


@dataclass
class Ledger:
    """What was live behind each event, site by site, in plain dictionaries."""

    rows: list[Row]
    states: list[tuple[int, dict[Site, tuple[int, int]]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        live: dict[Site, tuple[int, int]] = {}
        self.states.append((-1, {}))
        for row in self.rows:
            sign = {1: 1, 2: -1, 3: -1, 4: 1}.get(row["kind"], 0)
            if sign:
                site = (row["stack"], row["domain"], size_class(row["size_bytes"]))
                blocks, size = live.get(site, (0, 0))
                live = live | {site: (blocks + sign, size + sign * row["size_bytes"])}
                live = {k: v for k, v in live.items() if v[0]}
            if self.states[-1][0] == row["time_ns"]:
                self.states.pop()
            self.states.append((row["time_ns"], live))

    def at(self, time_ns: int) -> dict[Site, tuple[int, int]]:
        return [live for time, live in self.states if time <= time_ns][-1]

    def moments(self, low: int, high: int) -> Iterator[tuple[int, int, int]]:
        """(time, domain, live bytes) of each moment in [low, high) at which something changed,
        and of ``low``.
        """
        times = [low, *(t for t, _ in self.states if low < t < high)]
        for time in times:
            for domain in range(len(DOMAINS)):
                live = self.at(time)
                yield time, domain, sum(b for (_, d, _), (_, b) in live.items() if d == domain)

    def keyframe(self, time_ns: int, *, exact: bool = True) -> Keyframe:
        rows = [(*site, *counts) for site, counts in self.at(time_ns).items()]
        columns = list(zip(*rows, strict=True)) if rows else [()] * 5
        types = (np.uint32, np.uint8, np.uint16, np.int64, np.int64)
        arrays = [np.array(c, t) for c, t in zip(columns, types, strict=True)]
        return Keyframe(time_ns, *arrays, exact=exact)


def write_files(
    folder: Path,
    ledger: Ledger,
    cuts: list[int],
    keyframes: list[int],
    *,
    per_block: int = 5,
    shuffled: bool = False,
    left_out: tuple[int, ...] = (),
    rates: tuple[float, ...] = (1.0, 1.0),
) -> list[Path]:
    """The ledger's events as files: a new one at each time in ``cuts``, and keyframes. Each file
    numbers its stacks differently. ``shuffled``: blocks overlap in time. ``left_out``: numbers of
    files that are not written.
    """
    edges = [-1, *sorted(set(cuts)), max([0, *(r["time_ns"] for r in ledger.rows)])]
    paths = []
    for number, (low, high) in enumerate(itertools.pairwise(edges), 1):
        rows = [r for r in ledger.rows if low < r["time_ns"] <= high]
        if number in left_out:
            continue
        path = folder / f"x.{number}.memlog"
        order = [(k + number) % STACKS for k in range(STACKS)]
        local = {stack: k for k, stack in enumerate(order)}
        renumber = np.array([local[s] for s in range(STACKS)], dtype=np.uint32)
        with writing(path, number, domains=DOMAINS, rates_bytes=rates) as writer:
            writer.append_facts(facts_profile())
            writer.append_stacks(stack_table([(0x1000, 0x2000 + s) for s in order]))
            blocks = [rows[k : k + per_block] for k in range(0, len(rows), per_block)]
            if shuffled:  # dealt to two blocks in turn, the later one first
                pairs = [rows[k : k + 2 * per_block] for k in range(0, len(rows), 2 * per_block)]
                blocks = [half for pair in pairs for half in (pair[1::2], pair[::2]) if half]
            for time in [max(low, 0), *(t for t in keyframes if low < t <= high)]:
                keyframe = ledger.keyframe(time)
                keyframe.stack = renumber[keyframe.stack]
                writer.append_keyframe(keyframe)
            for block in blocks:
                renamed = [r | {"stack": int(renumber[r["stack"]])} for r in block]
                writer.append_events(events_of(renamed))
                writer.flush()
            writer.end(last=number == len(edges) - 1, how="exited")
        paths.append(path)
    return paths


@contextmanager
def log_of(ledger: Ledger, *args: object, **options: object) -> Iterator[Run]:
    """The ledger's log, as `write_files` writes it, opened."""
    folder = Path(tempfile.mkdtemp(prefix="memlog-test-"))
    try:
        paths = write_files(folder, ledger, *args, **options)  # type: ignore[arg-type]
        with read_log(paths[::-1]) as run:
            yield run
    finally:
        shutil.rmtree(folder)
