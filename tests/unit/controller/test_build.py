"""From hand-built segments to the records of a file: the arithmetic of the reading side."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller_tools import HeapFile
from fake_segment import FakeSegment, site_key
from mem_parser.errors import MemError, NotAProfile
from mem_parser.heapfile.writer import write_heap_to
from mem_parser.model import ExecRange, Module
from mem_profiler.capture.recorder import Recorder
from mem_profiler.process import pagemap
from mem_profiler.process.procfs import Mapping
from mem_profiler.profile import tables
from mem_profiler.profile.build import Ending, build, recorded_map_lines
from mem_profiler.profile.readings import Readings
from mem_profiler.profile.target import Target
from mem_profiler.segment import collect, layout
from mem_profiler.segment.file import Segment

RECOVERED = Ending("recovered", "unknown")


def heap_of(path: Path, out: Path, readings: Readings | None = None) -> HeapFile:
    with Segment.open(path, writable=False) as segment:
        host, *_ = build(segment, Target(None), RECOVERED, readings)
    with out.open("wb") as file:
        write_heap_to(file, host)
    return HeapFile(out)


def test_other_tools_find_the_sampler_of_an_attach_by_its_path() -> None:
    """jeprof and pprof take its frames for the allocator's only by their names."""
    inside = Mapping(
        0x1000, 0x3000, "r-xp", 0, (0, 1), 5, "/memfd:libmem_sampler.so (deleted)", b"x"
    )
    sampler = Module("/opt/libmem_sampler.so", [ExecRange(0x1000, 0x3000, 0)])
    [line] = recorded_map_lines([sampler], [inside])
    assert line.startswith(b"1000-3000 r-xp ") and line.endswith(b" /opt/libmem_sampler.so")


PAGE = 4096
PRESENT, SWAPPED = 1 << 63, 1 << 62


def parts_of(path: Path, folder: Path, words: dict[int, int]) -> tuple[HeapFile, list[str]]:
    """The file of a segment whose process has these pages, by number, and its notes."""
    pages = np.zeros(max(words, default=0) + 1, np.uint64)
    for number, word in words.items():
        pages[number] = word
    (folder / "pagemap").write_bytes(pages.tobytes())
    with Segment.open(path, writable=False) as segment, (folder / "pagemap").open("rb") as file:
        host, *_ = build(segment, Target(None), RECOVERED, page_fds=[file.fileno()])
    with (folder / "x.heap").open("wb") as file:
        write_heap_to(file, host)
    return HeapFile(folder / "x.heap"), host.capture.notes


@pytest.fixture
def fake() -> FakeSegment:
    segment = FakeSegment()
    segment.begin(rate=512)
    return segment


def test_shards_and_twice_stored_stacks_become_one_record(
    fake: FakeSegment, tmp_path: Path
) -> None:
    one, two = fake.stack([0x10, 0x20]), fake.stack([0x10, 0x20])
    fake.site(site_key(one), (10, 1000), (4, 400))
    fake.site(site_key(one, shard=3), (5, 500))
    fake.site(site_key(two), (1, 100))
    fake.site(site_key(one, size_class=9), (2, 9000))
    heap = heap_of(fake.save(tmp_path), tmp_path / "x.heap")
    assert sorted(heap.record_lines) == [
        " 12: 1200 [16: 1600] @ 0x10 0x20",
        " 2: 9000 [2: 9000] @ 0x10 0x20",
    ]
    assert heap.first_line == "heap profile: 14: 10200 [18: 10600] @ heap_v2/512"
    assert heap.columns["stack_depth"].tolist() == [2]
    assert heap.end == 2


def test_only_the_latest_capture_is_read(tmp_path: Path) -> None:
    fake = FakeSegment()
    fake.begin(number=7)
    stack = fake.stack([1, 2])
    for capture in (1, 6, 7, 8):
        fake.site(site_key(stack, capture=capture), (capture, 100 * capture))
        fake.live(16 * capture, site_key(stack, capture=capture), 100)
    fake.site_keys[200] = layout.KEY_RECYCLING
    heap = heap_of(fake.save(tmp_path), tmp_path / "x.heap")
    assert heap.record_lines == [" 7: 700 [7: 700] @ 0x1 0x2"]
    assert heap.total("live_births") == 1
    assert heap.first_line.endswith("@ heapprofile")


def test_a_sampled_malloc_of_nothing_counts_a_byte_in_the_legacy_part_only(
    fake: FakeSegment, tmp_path: Path
) -> None:
    fake.site(site_key(fake.stack([5])), (3, 0), (1, 0))
    heap = heap_of(fake.save(tmp_path), tmp_path / "x.heap")
    assert heap.record_lines == [" 2: 2 [3: 3] @ 0x5"]
    assert heap.total("alloc_bytes") == 0


def test_live_rows_give_ages_and_threads(fake: FakeSegment, tmp_path: Path) -> None:
    key = site_key(fake.stack([5]))
    worker = fake.thread(42, b"worker")
    fake.site(key, (4, 400))
    fake.live(16, key, 100, age_s=0.5)
    fake.live(32, key, 100, age_s=2, thread=worker)
    fake.live(48, key, 100, age_s=20, thread=worker)
    fake.live(65, key, 100)  # odd: claimed, not published
    heap = heap_of(fake.save(tmp_path), tmp_path / "x.heap")
    assert heap.columns["live_births"].tolist() == [2, 0, 0, 0, 0, 0, 0, 1]
    assert heap.columns["oldest_birth_s"].tolist() == pytest.approx([0.5], abs=0.005)
    assert heap.columns["thread_row"].tolist() == [0, worker]
    assert heap.columns["thread_bytes"].tolist() == [100, 200]
    assert {"row": worker, "tid": 42, "name": "worker"} in heap.lists["%thread"]
    assert heap.header["duration_s"] == pytest.approx(20, abs=0.005)


def test_live_rows_give_what_is_resident_and_swapped(fake: FakeSegment, tmp_path: Path) -> None:
    small, large = site_key(fake.stack([5])), site_key(fake.stack([6]), size_class=9)
    fake.site(small, (3, 3000), (1, 1000))
    fake.site(large, (2, 6 * PAGE))
    fake.live(PAGE - 600, small, 1000)  # 600 bytes on page 0, 400 on page 1
    fake.live(PAGE + 1008, small, 1000)
    fake.live(10 * PAGE, large, 3 * PAGE)
    fake.live(20 * PAGE, large, 3 * PAGE)
    words = {1: PRESENT, 10: PRESENT, 11: SWAPPED, 12: PRESENT, 22: SWAPPED, 23: PRESENT}
    heap, notes = parts_of(fake.save(tmp_path), tmp_path, words)
    order = np.argsort(heap.columns["alloc_bytes"]).tolist()
    found = {name: column[order].tolist() for name, column in heap.columns.items()
             if name.startswith(("resident", "swapped"))}  # fmt: skip
    assert found["resident_bytes"] == [1400, 2 * PAGE]
    assert found["resident_squares"] == [400**2 + 1000**2, (2 * PAGE) ** 2]
    assert found["swapped_bytes"] == [0, 2 * PAGE]
    assert found["swapped_squares"] == [0, 2 * PAGE**2]
    assert notes == []


def test_no_more_is_resident_than_in_use(fake: FakeSegment, tmp_path: Path) -> None:
    key = site_key(fake.stack([5]))
    fake.site(key, (2, 4 * PAGE))
    for k in range(3):  # the program went on: a block more than the counters had
        fake.live((1 + 2 * k) * PAGE, key, 2 * PAGE)
    pages = {1: PRESENT, 2: SWAPPED, 3: PRESENT, 4: SWAPPED, 5: PRESENT, 6: SWAPPED}
    heap, _ = parts_of(fake.save(tmp_path), tmp_path, pages)
    assert heap.total("resident_bytes") == 3 * PAGE
    assert heap.total("swapped_bytes") == PAGE


def test_forged_live_rows_give_a_file_all_the_same(
    fake: FakeSegment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = site_key(fake.stack([5]))
    fake.site(key, (4, 4000))
    for address in (PAGE, PAGE + 8, (1 << 64) - 8, 1 << 63):
        fake.live(address, key, collect.BYTES_MAX)
    monkeypatch.setattr(pagemap, "PAGES_MAX", 100)
    heap, notes = parts_of(fake.save(tmp_path), tmp_path, {1: PRESENT, 2: PRESENT})
    assert heap.total("resident_bytes") == 4000
    assert notes == [pagemap.CUT_NOTE]


def test_lost_stacks_keep_their_samples(fake: FakeSegment, tmp_path: Path) -> None:
    fake.site(site_key(2), (7, 700))
    fake.site(site_key(1 << 25), (2, 200))  # outside the arena
    heap = heap_of(fake.save(tmp_path), tmp_path / "x.heap")
    assert sorted(heap.record_lines) == [" 2: 200 [2: 200] @ 0x1", " 7: 700 [7: 700] @ 0x1"]
    assert heap.header["lost"]["stack_table_full"] == 7
    assert heap.header["lost"]["stack_unreadable"] == 2
    assert heap.header["samples"] == 9


def test_frees_ahead_of_allocations_never_make_in_use_negative(
    fake: FakeSegment, tmp_path: Path
) -> None:
    fake.site(site_key(fake.stack([5])), (3, 300), (4, 400))
    heap = heap_of(fake.save(tmp_path), tmp_path / "x.heap")
    assert heap.record_lines == [" 0: 0 [3: 300] @ 0x5"]


def test_paths_and_commands_with_odd_characters_stay_on_their_lines(
    fake: FakeSegment, tmp_path: Path
) -> None:
    fake.module(b"/opt/a b=c\n\xff.so", 0x1000, 0x2000)
    fake.control["command"] = b"prog a=b \xfe"
    heap = heap_of(fake.save(tmp_path), tmp_path / "x.heap")
    assert heap.maps == ["1000-2000 r-xp 00000000 00:00 0".ljust(73) + "/opt/a b=c\\012\udcff.so"]
    assert heap.lists["%module"][0]["path"] == "/opt/a b=c\n\udcff.so"
    assert heap.header["command"] == "prog a=b \udcfe"


def test_modules_that_shared_an_address_get_one_map_line(fake: FakeSegment, tmp_path: Path) -> None:
    fake.module(b"/old.so", 0x1000, 0x3000)
    fake.module(b"/new.so", 0x2000, 0x4000)
    heap = heap_of(fake.save(tmp_path), tmp_path / "x.heap")
    assert [line.split()[-1] for line in heap.maps] == ["/new.so"]
    assert len(heap.lists["%module"]) == 2


def test_the_recorder_keeps_a_series(fake: FakeSegment, tmp_path: Path) -> None:
    key = site_key(fake.stack([5]))
    row = fake.site(key, (10, 51200), (0, 0))
    path = fake.save(tmp_path)
    with Segment.open(path, writable=True) as segment:
        recorder = Recorder(segment, 0)
        recorder.tick(10**9)
        fake.site_rows[row]["freed_blocks"], fake.site_rows[row]["freed_bytes"] = 9, 46080
        path.write_bytes(fake.data.tobytes())
        recorder.tick(2 * 10**9, final=True)
    heap = heap_of(path, tmp_path / "x.heap", recorder.readings)
    expected = 51200 / (1 - np.exp(-5120 / 512))
    assert heap.header["peak"] is None
    assert "peak_bytes" not in heap.columns
    assert [round(s["estimate_bytes"] / expected, 3) for s in heap.lists["%sample"]] == [1, 0.1]


def test_a_long_series_is_thinned_and_never_long(fake: FakeSegment, tmp_path: Path) -> None:
    with Segment.open(fake.save(tmp_path), writable=True) as segment:
        recorder = Recorder(segment, 0)
        for second in range(10_000):
            recorder._read(segment.control(), second * 10**9, final=False)
        times = [reading.t_s for reading in recorder.readings.host.series]
    assert 1000 < len(times) < 4096
    assert times == sorted(times)


def test_files_that_are_no_segments_are_refused(tmp_path: Path) -> None:
    for name, content in {"empty": b"", "short": b"x" * 100, "long": bytes(10_000)}.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(NotAProfile):
            Segment.open(path, writable=False)
    with pytest.raises(OSError, match="is a device"):
        Segment.open("/dev/null", writable=False)
    link = tmp_path / "link"
    link.symlink_to(FakeSegment().save(tmp_path))
    with pytest.raises(OSError):
        Segment.open(link, writable=False)


def test_a_segment_cut_off_under_the_controller_is_an_error_and_no_signal(
    fake: FakeSegment, tmp_path: Path
) -> None:
    path = fake.save(tmp_path)
    with Segment.open(path, writable=True) as segment:
        path.write_bytes(b"")
        with pytest.raises(MemError, match="cut off"):
            segment.load(("gate",))
        with pytest.raises(MemError, match="cut off"):
            segment.store(("gate",), 1)
        assert segment.read(0, 100).tolist() == [0] * 100


@given(
    places=st.lists(st.integers(0, 1 << 62), min_size=1, max_size=40),
    values=st.lists(st.binary(min_size=8, max_size=8), min_size=40, max_size=40),
)
def test_any_bytes_in_a_segment_give_a_file_or_a_clean_error(
    tmp_path: Path, places: list[int], values: list[bytes]
) -> None:
    fake = FakeSegment()
    fake.begin(rate=512)
    stack = fake.stack([1, 2, 3])
    for i in range(20):
        fake.site(site_key(stack, size_class=i), (i, i * 100), (i // 2, i * 50))
        fake.live(16 * i + 16, site_key(stack, size_class=i), 100)
    fake.module(b"/x.so", 0x1000, 0x2000)
    interesting = [(0, 4096), (fake.offset_of(layout.STACKS), 4096)]
    interesting += [(int(fake.control["sites"]["level"][0]["offset"]), 8192)]
    interesting += [(fake.offset_of(layout.MODULES), 2048)]
    for number, place in enumerate(places):
        start, size = interesting[place % len(interesting)]
        at = start + (place // 8) % (size - 8)
        fake.data[at : at + 8] = list(values[number])
    path = tmp_path / "segment"
    path.write_bytes(fake.data.tobytes())
    try:
        with Segment.open(path, writable=False) as segment:
            recorder = Recorder(segment, 0)
            recorder.readings.moments.update(segment, segment.control(), 1.0)
            recorder.tick(0, final=True)
            ending = Ending("capture", "exited 0")
            for profile in build(segment, Target(None), ending, recorder.readings):
                write_heap_to(io.BytesIO(), profile)
    except MemError:
        pass


def test_many_sites_are_read(tmp_path: Path) -> None:
    rows = 1 << 17
    fake = FakeSegment(site_rows=rows, live_rows=rows)
    fake.begin()
    stacks = [fake.stack(list(range(i, i + 10))) for i in range(5000)]
    number = np.arange(rows, dtype=np.uint64)
    ids = np.array(stacks, np.uint64)[number % 5000]
    fake.site_keys[:] = ids | (number // 5000) << 26 | np.uint64(1 << 47)
    fake.site_rows["alloc_blocks"], fake.site_rows["alloc_bytes"] = 1, 100
    fake.live_rows["key"] = (number + 1) * 16
    fake.live_rows["site_key"], fake.live_rows["size_thread"] = fake.site_keys, 100
    path = fake.save(tmp_path)
    with Segment.open(path, writable=False) as segment:
        found = tables.read_tables(segment, segment.control())
        quick = collect.read_quick(segment, segment.control(), 1)
    assert found.samples == quick.samples == rows
    assert int(found.sites.live_births.sum()) == rows
    assert len(found.sites) == rows
