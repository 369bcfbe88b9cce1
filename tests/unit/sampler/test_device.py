"""Device memory in the segment: a C program of cases, and random operations against a model."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from c_build import ASAN, TSAN, core_program, expect_pass
from mem_parser.errors import MemError
from mem_parser.heapfile.writer import write_heap
from mem_parser.readers import read_bytes
from mem_profiler.capture.recorder import Recorder
from mem_profiler.profile import tables
from mem_profiler.profile.build import Ending, build
from mem_profiler.profile.target import Target
from mem_profiler.segment import devices, layout
from mem_profiler.segment.file import Segment


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("test_device", ASAN),
        ("test_device", TSAN),
        ("test_launches", ASAN),
        ("test_launches", TSAN),
        ("test_heaps", ASAN),
        ("test_heaps", TSAN),
        ("test_ranges", ASAN),
        ("test_ranges", TSAN),
    ],
)
def test_device_memory_holds_under(name: str, flags: tuple[str, ...]) -> None:
    expect_pass(core_program(f"{name}.c", flags))


@dataclass
class Block:
    """A live block as a user thinks of it."""

    domain: int
    asked: int
    taken: int
    container: int
    capture: int
    owners: int = 1


@dataclass
class Model:
    """What the segment has to say, kept in dictionaries. Sums are by (domain, capture)."""

    live: dict[tuple[int, int], Block] = field(default_factory=dict)
    sums: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    capture: int = 0
    running: bool = False
    taken: list[tuple[tuple[int, int], Block, bool] | None] = field(default_factory=list)

    def _add(self, block: Block, at: int, *values: int) -> None:
        row = self.sums.setdefault((block.domain, block.capture), [0] * 8)
        for i, value in enumerate(values):
            row[at + i] += value

    def _free(self, block: Block, sign: int = 1) -> None:
        if block.capture == self.capture:
            self._add(block, 3, sign, sign * block.asked, sign * block.taken)

    def alloc(self, domain: int, space: int, at: int, container: int, size: tuple[int, int]) -> int:
        old = self.live.pop((space, at), None)
        if old is not None:
            self._free(old)
        if self.running:
            block = Block(domain, *size, container, self.capture)
            self._add(block, 0, 1, *size)
            self.live[space, at] = block
        return 0

    def fail(self, domain: int, size: int) -> int:
        if self.running:
            self._add(Block(domain, 0, 0, 0, self.capture), 6, 1, size)
        return 0

    def take(self, space: int, at: int) -> int:
        block = self.live.get((space, at))
        if block is None:
            self.taken.append(None)
            return 0
        block.owners -= 1
        self.taken.append(((space, at), block, block.owners == 0))
        if block.owners == 0:
            del self.live[space, at]
            self._free(block)
        return 1

    def put(self) -> int:
        """Undo the latest take, which nothing came after."""
        latest = self.taken[-1]
        if latest is not None:
            key, block, was_last = latest
            block.owners += 1
            if was_last:
                self.live[key] = block
                self._free(block, -1)
        return 0

    def retain(self, space: int, at: int) -> int:
        block = self.live.get((space, at))
        if block is not None:
            block.owners += 1
        return int(block is not None)

    def drop(self, space: int, container: int) -> int:
        gone = [
            key
            for key, block in self.live.items()
            if container and key[0] == space and block.container == container
        ]
        for key in gone:
            self._free(self.live.pop(key))
        return len(gone)


class Script:
    """The C program at the other end of two pipes."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [str(core_program("device_script.c", ASAN))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, *words: object) -> list[int]:
        """Send an operation and return the numbers it is answered with."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        return [int(word) for word in self.process.stdout.readline().split()]


@pytest.fixture(scope="module")
def script() -> Iterator[Script]:
    one = Script()
    yield one
    one.process.communicate(timeout=20)
    assert one.process.returncode == 0


@pytest.fixture(scope="module")
def segment_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("device") / "segment"


SPACES = st.integers(1, 2)
ADDRESSES = st.sampled_from([0, 1, (1 << 64) - 1])
CONTAINERS = st.integers(0, 2)
DOMAINS = st.integers(0, 2)
SIZES = st.tuples(st.integers(0, 1 << 40), st.integers(0, 1 << 40))  # asked and taken
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("alloc"), DOMAINS, SPACES, ADDRESSES, CONTAINERS, SIZES),
        st.tuples(st.just("alloc"), DOMAINS, SPACES, ADDRESSES, CONTAINERS, SIZES),
        st.tuples(st.just("fail"), DOMAINS, SIZES),
        st.tuples(st.just("take"), SPACES, ADDRESSES),
        st.tuples(st.just("refused"), SPACES, ADDRESSES),
        st.tuples(st.just("retain"), SPACES, ADDRESSES),
        st.tuples(st.just("drop"), SPACES, CONTAINERS),
        st.tuples(st.just("start")),
        st.tuples(st.just("stop")),
    ),
    min_size=5,
    max_size=60,
)


def _one(script: Script, model: Model, name: str, *args: Any) -> None:
    """Do one operation in both; they must answer alike."""
    if name == "start":
        model.capture, model.running = model.capture + 1, True
        script.ask("start", model.capture)
    elif name == "stop":
        model.running = False
        script.ask("stop")
    elif name == "alloc":
        domain, space, at, container, size = args
        script.ask("alloc", domain, space, at, container, *size)
        model.alloc(domain, space, at, container, size)
    elif name == "fail":
        domain, size = args
        script.ask("fail", domain, size[0])
        model.fail(domain, size[0])
    elif name == "refused":
        assert script.ask("take", *args) == [model.take(*args)]
        script.ask("put", (len(model.taken) - 1) % 64)
        model.put()
    else:
        assert script.ask(name, *args) == [getattr(model, name)(*args)], (name, args)


@given(operations=OPERATIONS)
def test_random_operations_agree_with_a_model(
    script: Script, segment_path: Path, operations: list[tuple[Any, ...]]
) -> None:
    script.ask("new", segment_path)
    model = Model()
    _one(script, model, "start")

    for name, *args in operations:
        _one(script, model, str(name), *args)

    assert script.ask("live") == [len(model.live)]
    assert _as_read(segment_path) == _as_meant(model)
    _one(script, model, "start")  # the domains keep their numbers only while a capture runs
    for (domain, capture), sums in model.sums.items():
        assert script.ask("sums", domain, capture) == sums


def _as_read(path: Path) -> dict[str, list[int]]:
    """By domain, what the controller finds of the latest capture: sums as the model's, then live
    blocks and bytes.
    """
    with Segment.open(path, writable=False) as segment:
        control = segment.control()
        number = control.number("capture_number")
        found = {}
        for domain in devices.used_in(devices.read_domains(segment, control), number):
            read = tables.read_tables(segment, control, domain=domain.number)
            sites, live = read.sites, read.thread_blocks
            columns = (
                sites.alloc_blocks, sites.alloc_bytes, sites.alloc_taken_bytes,
                sites.alloc_blocks - sites.inuse_blocks, sites.alloc_bytes - sites.inuse_bytes,
                sites.alloc_taken_bytes - sites.inuse_taken_bytes,
                sites.failed_blocks, sites.failed_bytes, live.blocks, live.bytes,
            )  # fmt: skip
            found[domain.name] = [int(column.sum()) for column in columns]
            assert sites.live_births.sum() == live.blocks.sum()
        return found


def _as_meant(model: Model) -> dict[str, list[int]]:
    found = {}
    for (domain, capture), sums in model.sums.items():
        if capture == model.capture:
            live = [
                b.asked for b in model.live.values() if (b.domain, b.capture) == (domain, capture)
            ]
            found[f"hal-{domain}"] = [*sums, len(live), sum(live)]
    return found


def test_each_domain_is_known_as_it_was_before_the_program_ended(
    script: Script, segment_path: Path
) -> None:
    script.ask("new", segment_path)
    script.ask("start", 1)
    for k in range(20):
        script.ask("alloc", k % 2, 1, 64 * k, 0, 1000, 2000)
    with Segment.open(segment_path, writable=False) as segment:
        recorder = Recorder(segment, 0)
        recorder.readings.moments.update(segment, segment.control(), 1.0)
        for k in range(0, 20, 2):
            script.ask("take", 1, 64 * k)
        recorder.tick(0, final=True)
        ending = Ending("capture", "exited 0")
        profiles = build(segment, Target(None), ending, recorder.readings)
    held = {one.domains[0]: one.before_end for one in profiles}
    assert held["host"] is None
    assert held["hal-1"] is None  # nothing of it was freed
    before = held["hal-0"]
    assert before is not None
    assert (before.sites.inuse_blocks.sum(), before.sites.inuse_bytes.sum()) == (10, 10_000)
    assert before.sites.live_births is not None
    assert before.sites.live_births.sum() == 10


@given(data=st.data())
def test_a_forged_segment_is_read_without_harm(
    script: Script, segment_path: Path, data: st.DataObject
) -> None:
    script.ask("new", segment_path)
    script.ask("start", 1)
    for k in range(20):
        script.ask("alloc", k % 2, 1, 64 * k, 0, 1000, 2000)
        script.ask("fail", k % 2, 500)
        script.ask("mark", k)
    script.ask("actual", 0, 5, 10)
    forged = bytearray(segment_path.read_bytes())
    with Segment.open(segment_path, writable=False) as segment:
        control = segment.control()
        regions = [(layout.offset_of("device_sites"), layout.CONTROL.itemsize)]
        for kind in (layout.DOMAINS, layout.MARKS):
            start = int(control["directory"][kind]["offset"])
            regions.append((start, start + 2048))
        for table in ("device_sites", "device_live"):
            level = control[table]["level"][0]
            start = int(level["offset"])
            regions.append((start, start + int(level["rows"]) * (8 + int(level["row_bytes"]))))
    for _ in range(data.draw(st.integers(1, 12))):
        start, end = data.draw(st.sampled_from(regions))
        at = data.draw(st.integers(start, end - 8))
        forged[at : at + 8] = data.draw(
            st.one_of(st.binary(min_size=8, max_size=8), st.just(b"\xff" * 8), st.just(bytes(8)))
        )
    path = segment_path.with_name("forged")
    path.write_bytes(forged)

    try:
        with Segment.open(path, writable=False) as segment:
            recorder = Recorder(segment, 0)
            recorder.readings.moments.update(segment, segment.control(), 1.0)
            recorder.tick(0, final=True)
            ending = Ending("recovered", "exited 0")
            profiles = build(segment, Target(None), ending, recorder.readings)
    except MemError:
        return
    names = [one.domains[0] for one in profiles]
    assert len(set(names)) == len(names)
    assert all(devices.NAME.fullmatch(name) for name in names)
    for one in profiles:
        read_bytes(write_heap(one), "forged")
