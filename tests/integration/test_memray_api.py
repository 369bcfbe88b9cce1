"""`mem_profiler.memray_api` beside memray itself: the same script gives the same records."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from controller_tools import ROOT, command_environment, errors_of
from mem_parser.readers import read_profile
from mem_parser.records.reader import FileReader
from python_frames import PYTHON_FRAMES
from sampler_run import silent

pytestmark = [
    pytest.mark.usefixtures("sampler", "segment_dir", "quick_helper"),
    pytest.mark.timeout(180),
]
C = "import ctypes; libc = ctypes.CDLL(None)\n" + "".join(
    f"libc.{name}.restype = ctypes.c_void_p; libc.{name}.argtypes = [ctypes.c_size_t] * {n}\n"
    for name, n in (
        ("malloc", 1), ("calloc", 2), ("realloc", 2), ("reallocarray", 3), ("aligned_alloc", 2),
        ("memalign", 2), ("valloc", 1), ("pvalloc", 1),
    )
) + (
    "libc.free.argtypes = [ctypes.c_void_p]; libc.free.restype = None\n"
    "libc.realloc.argtypes = [ctypes.c_void_p, ctypes.c_size_t]\n"
    "libc.reallocarray.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]\n"
    "place = ctypes.c_void_p()"
)  # fmt: skip

# name: what is imported and made before the capture, and what runs in it
SCRIPTS: dict[str, tuple[str, str]] = {
    "blocks": ("", """
def a(n):
    return b(n)

def b(n):
    return [c(n), d(n)]

def c(n):
    return "a" * n

def d(n):
    return "a" * n

v = a(100000)
w = bytes(100_000)
x = [bytearray(10_000 + k) for k in range(50)]
y = bytearray(300_000)
del y
z = bytearray(1000)
"""),
    "two peaks": ("", """
x = bytearray(5_000_000)
del x
y = [bytearray(100_000) for _ in range(9)]
"""),
    "functions": ("", """
def f(n):
    return bytearray(5000) if n == 0 else [bytearray(2000), f(n - 1)]
class A:
    def __init__(self):
        self.x = bytearray(3000)
    def more(self):
        self.y = bytes(4000)
        return self
def g():
    for k in range(20):
        yield bytearray(3000 + k)
def h(n):
    return lambda: bytearray(n)
try:
    x = bytearray(7000)
    raise ValueError(bytearray(9000))
except ValueError as error:
    kept = error.args
kept = [kept, f(30), [A().more() for _ in range(20)], list(g())]
kept.append([h(2000 + n)() for n in range(10)])
"""),
    "lists": ("", """
v = []
for k in range(100_000):
    v.append(None)
w = [None] * 50_000
x = list(w)
y = w + x
z = sorted(range(20_000), reverse=True)
"""),
    "dict grows": ("", "x = {k: None for k in range(300, 20_000)}"),
    "set grows": ("", "x = set(range(300, 20_000))"),
    "values": ("", """
u = tuple(range(256)) * 100
v = u[:5000]
w = 1 << 200_000
x = w + 1
y = ','.join(['abc'] * 5000)
z = [y.upper(), y.encode(), '\u20ac' * 20_000, '\U0001f600' * 20_000]
"""),
    "modules": ("import array, hashlib, io, pickle, struct, zlib", """
u = array.array('d', [1.0]) * 30_000
u.extend(u)
v = io.BytesIO()
for _ in range(50):
    v.write(b'a' * 999)
w = zlib.compress(bytes(200_000))
x = zlib.decompress(w)
y = hashlib.sha256(b'a' * 50_000).digest()
x = pickle.dumps([b'a' * 900] * 3 + [bytes(2000)] * 3)
z = struct.pack('5000s', b'a')
"""),
    "database": (
        "import sqlite3; base = sqlite3.connect(':memory:'); base.execute('create table t (x)')",
        "base.execute('insert into t values (zeroblob(100000))')",
    ),
    "numbers": ("import numpy", """
x = numpy.ones(40_000)
y = x + 1
z = y.reshape(200, 200).T.copy()
"""),
    "malloc": (C, """
u = [libc.malloc(1000) for _ in range(10)]
for one in u[:5]:
    libc.free(one)
v = [libc.calloc(10, 100) for _ in range(10)]
w = libc.malloc(1000)
for n in range(2, 9):
    w = libc.realloc(w, n * 1000)
x = libc.aligned_alloc(64, 6400)
y = libc.memalign(128, 5000)
libc.posix_memalign(ctypes.byref(place), ctypes.c_size_t(256), ctypes.c_size_t(7000))
z = [libc.valloc(3000), libc.pvalloc(3000)]
"""),
}  # fmt: skip


def driven(module: str, folder: Path, *words: str) -> dict[str, Any]:
    env = command_environment() | {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    env.pop("PYTHONMALLOC", None)
    driver = ROOT / "tests" / "support" / "memray_driver.py"
    done = silent(
        [sys.executable, driver, module, folder / f"{module}.bin", *words], env, cwd=folder
    )
    found: dict[str, Any] = json.loads(done)
    return found


@pytest.mark.skipif(importlib.util.find_spec("memray") is None, reason="memray is missing")
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_has_the_records_that_memray_has(name: str, tmp_path: Path) -> None:
    theirs = driven("memray", tmp_path, *SCRIPTS[name])
    ours = driven("mem_profiler.memray_api", tmp_path, *SCRIPTS[name])
    assert ours.pop("pid") != theirs.pop("pid")
    ours_total = ours["total"]["by allocator"]
    for what in ("peak", "left", "total"):
        assert ours[what]["by allocator"] == theirs[what]["by allocator"], what
        if PYTHON_FRAMES:
            assert ours[what]["by line"] == theirs[what]["by line"], what
        del ours[what], theirs[what]
    of_log, of_theirs = ours["single"], theirs["single"]
    regions = [one.pop("regions") for one in (of_log, of_theirs)]
    if any(regions):  # counted among the allocations in between; chance says when one is needed
        for what in ("temporary", "temporary by thread", "temporary of 5"):
            del of_log[what], of_theirs[what]
    assert len(of_log["events"]) >= sum(row[1] for row in ours_total)
    if not PYTHON_FRAMES:
        del ours["single"], theirs["single"]
    assert ours == theirs


@pytest.mark.skipif(importlib.util.find_spec("memray") is None, reason="memray is missing")
@pytest.mark.parametrize("name", ["blocks", "functions", "malloc"])
def test_a_file_of_counts_alone_has_the_sums_that_memray_has(name: str, tmp_path: Path) -> None:
    theirs = driven("memray", tmp_path, *SCRIPTS[name])
    ours = driven("mem_profiler.memray_api", tmp_path, *SCRIPTS[name], "AGGREGATED_ALLOCATIONS")
    assert not list(tmp_path.glob("*.memlog"))
    assert not ours["single"]
    for what in ("peak", "left", "total"):
        assert ours[what]["by allocator"] == theirs[what]["by allocator"], what


def ran(folder: Path, text: str) -> str:
    """Run a script of the module, which must succeed in silence; returns its output."""
    return silent(
        [sys.executable, "-c", f"from mem_profiler import memray_api as memray\n{text}"],
        command_environment(), cwd=folder,
    )  # fmt: skip


def test_records_by_thread_add_up_to_those_of_all(tmp_path: Path) -> None:
    shown = ran(
        tmp_path,
        """
import os, threading
kept = []
def work(n):
    kept.extend(bytearray(n) for _ in range(3))
with memray.Tracker("out.bin") as tracker:
    work(20_000)
    for n in (30_000, 40_000):
        thread = threading.Thread(target=work, args=(n,))
        thread.start()
        thread.join()
reader = tracker.reader
both = reader.get_leaked_allocation_records
counts, sizes = {}, {}
for record in both(merge_threads=False):
    assert (record.tid == os.getpid()) != bool(record.thread_name), record
    if record.size >= 20_000:
        counts[record.tid] = counts.get(record.tid, 0) + record.n_allocations
        sizes[record.tid] = sizes.get(record.tid, 0) + record.size
assert set(counts.values()) == {3}, counts
assert sizes.pop(os.getpid()) == 60_003, sizes
assert sorted(sizes.values()) == [90_003, 120_003], sizes
for what in ("size", "n_allocations"):
    parts = sum(getattr(r, what) for r in both(merge_threads=False))
    assert parts == sum(getattr(r, what) for r in both(merge_threads=True))
print("good")
""",
    )
    assert shown == "good\n"


def test_a_log_is_read_as_the_file_beside_it_is(tmp_path: Path) -> None:
    shown = ran(
        tmp_path,
        """
import threading
def work(n):
    x = [bytearray(n) for _ in range(20)]
    y = bytearray(7)
    return x[::2]
with memray.Tracker("out.heap"):
    kept = work(20_000)
    thread = threading.Thread(target=lambda: kept.extend(work(50_000)))
    thread.start()
    thread.join()
    del kept[:5]
def sums(records):
    found = {}
    for r in records:
        if r.size >= 20_000:
            key = (r.tid, r.allocator, tuple(r.stack_trace()))
            size, count = found.get(key, (0, 0))
            found[key] = (size + r.size, count + r.n_allocations)
    return found
with memray.FileReader("out.heap") as file, memray.FileReader("out-0.memlog") as log:
    for reader in (file, log):
        assert reader.metadata.file_format is memray.FileFormat.ALL_ALLOCATIONS
    for name in ("get_leaked_allocation_records", "get_high_watermark_allocation_records"):
        for merge in (True, False):
            one, other = (sums(getattr(r, name)(merge_threads=merge)) for r in (file, log))
            assert one == other, (name, merge)
            assert len({key[0] for key in one}) == (1 if merge else 2), one
    assert sums(file.get_temporary_allocation_records(threshold=64)) == sums(
        log.get_temporary_allocation_records(threshold=64))
    both = [[(r.tid, r.address, r.size, r.allocator) for r in reader.get_allocation_records()]
            for reader in (file, log)]
    assert both[0] == both[1]
    try:
        file.get_temporary_allocation_records(threshold=10_000)
    except ValueError as error:
        assert "from 0 to 64" in str(error), error
    else:
        raise AssertionError
    free = next(r for r in log.get_allocation_records() if not r.size)
    try:
        free.stack_trace()
    except NotImplementedError as error:
        print(error)
""",
    )
    assert shown == "Stack traces for deallocations aren't captured.\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out-0.memlog", "out.heap"]


THREADS = """
import json, threading
def work(n):
    for k in range(5):
        x = bytearray(n + k)
        del x
    kept.append(bytearray(2 * n))
kept = []
with memray.Tracker("out.bin"):
    for n in (20_000, 40_000):
        thread = threading.Thread(target=work, args=(n,))
        thread.start()
        thread.join()
    kept.pop()
def sums(records):
    found = {}
    for r in records:
        if r.size >= 20_000 and memray.AllocatorType(r.allocator).name in ("MALLOC", "CALLOC"):
            entry = found.setdefault((r.tid, r.stack_trace()[0][2]), [0, 0])
            entry[0] += r.n_allocations
            entry[1] += r.size
    return sorted([line, *entry] for (_, line), entry in found.items())
with memray.FileReader("out.bin") as r:
    print(json.dumps([
        sums(r.get_temporary_allocation_records(merge_threads=False)),
        sums(r.get_temporary_allocation_records(merge_threads=True)),
        sums(r.get_leaked_allocation_records(merge_threads=False)),
        sums(r.get_high_watermark_allocation_records(merge_threads=False)),
        [[r.size, r.n_allocations] for r in r.get_allocation_records() if r.size >= 20_000
         and memray.AllocatorType(r.allocator).name in ("MALLOC", "CALLOC")],
    ]))
"""


@pytest.mark.skipif(importlib.util.find_spec("memray") is None, reason="memray is missing")
def test_threads_have_the_records_that_memray_has(tmp_path: Path) -> None:
    [shown] = printed(tmp_path, THREADS)
    by_thread, merged, left, _, single = json.loads(shown)
    assert len(by_thread) == 2 * len(merged) == 2
    assert len(left) == 1
    assert len(single) == 12


def test_a_log_of_another_capture_is_not_taken_for_that_of_a_file(tmp_path: Path) -> None:
    ran(
        tmp_path,
        """
import os
with memray.Tracker("other.heap"):
    other = bytearray(20_000)
with memray.Tracker("out.heap", file_format=memray.FileFormat.AGGREGATED_ALLOCATIONS):
    kept = bytearray(30_000)
os.rename("other-0.memlog", "out-0.memlog")
with memray.FileReader("out.heap") as reader:
    assert reader.metadata.file_format is memray.FileFormat.AGGREGATED_ALLOCATIONS
    for ask in (reader.get_allocation_records, reader.get_temporary_allocation_records):
        try:
            ask()
        except memray.NotInFile as error:
            assert "does not have" in str(error)
        else:
            raise AssertionError
try:
    memray.Tracker("out.bin").__enter__()
except RuntimeError as error:
    assert "out-0.memlog exists already" in str(error), error
else:
    raise AssertionError
""",
    )


ERRORS = {
    "memray.Tracker()": "TypeError: Exactly one of",
    "memray.Tracker('a', destination=memray.FileDestination('b'))": "TypeError: Exactly one of",
    "memray.Tracker(destination=memray.SocketDestination(1234))": "there is no live view yet",
    "memray.Tracker('a', track_object_lifetimes=True)": "lifetimes of Python objects",
    "memray.Tracker('a', file_format=7)": "ValueError: 7 is not a valid FileFormat",
    "open('a', 'w'); memray.Tracker('a')": "FileExistsError: [Errno 17] Could not create output",
    "memray.Tracker('/nowhere/a')": "FileNotFoundError: [Errno 2] Could not create output",
    "memray.Tracker('a').__enter__(); memray.Tracker('b').__enter__()": "a tracker is active",
    "t = memray.Tracker('a')\nwith t: pass\nwith t: pass": "Attempting to use stale output handle",
    "memray.FileReader('nothing')": "OSError: ",
    "memray.nothing": "has no attribute 'nothing'",
}


def test_errors_are_of_the_kinds_that_memray_raises(tmp_path: Path) -> None:
    said = errors_of("from mem_profiler import memray_api as memray", list(ERRORS), tmp_path)
    assert [text for text, line in zip(ERRORS, said, strict=True) if ERRORS[text] not in line] == []


def test_destinations_and_statistics(tmp_path: Path) -> None:
    ran(
        tmp_path,
        """
import pathlib
place = memray.FileDestination(pathlib.Path("out.bin"), overwrite=True, compress_on_exit=False)
for size in (30_000, 50_000):
    with memray.Tracker(destination=place, native_traces=True, memory_interval_ms=5,
                        file_format=memray.FileFormat.AGGREGATED_ALLOCATIONS):
        kept = [bytearray(size) for _ in range(4)]
found = memray.compute_statistics("out.bin")
assert found.allocation_count_by_size == {50_001: 4}, found
assert found.allocation_count_by_allocator == {"MALLOC": 4}, found
assert (found.total_num_allocations, found.total_memory_allocated) == (4, 200_004), found
assert found.peak_memory_allocated == 200_004, found
""",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["out.bin"]


def both(folder: Path, text: str, **variables: str) -> list[str]:
    """Run a script with memray and with what stands in for it; what each prints."""
    shown = []
    for module in ("memray", "mem_profiler.memray_api"):
        place = folder / module
        place.mkdir()
        script = place / "script.py"
        script.write_text(
            f"import importlib, sys\nmemray = importlib.import_module({module!r})\n{text}"
        )
        done = silent(
            [sys.executable, script.name, "one", "two"], command_environment() | variables,
            cwd=place,
        )  # fmt: skip
        shown.append(done)
    return shown


def printed(folder: Path, text: str, **variables: str) -> list[str]:
    """The same; both must print the same."""
    theirs, ours = both(folder, text, **variables)
    assert ours == theirs
    return ours.splitlines()


OWN_ALLOCATIONS = """
def own(reader, what="get_allocation_records", **how):
    return [r for r in getattr(reader, what)(**how) if r.size >= 50_000 and r.n_allocations]
def stacks(records):
    return [[f[::2] for f in r.stack_trace()] for r in records]
"""
LIKE_MEMRAY = {
    "a stack ends at the frame of the block": """
def deep():
    return bytearray(60_000)
def inner():
    with memray.Tracker("out.bin"):
        kept = [deep(), bytearray(70_000)]
    return kept
def outer():
    return inner()
kept = outer()
with memray.FileReader("out.bin") as reader:
    for what in ("get_allocation_records", "get_high_watermark_allocation_records"):
        print(sorted(stacks(own(reader, what))))
""",
    "names of files": """
import os, threading
kept = []
for name in ("test.bin.1", "test.bin.2", "test.bin"):
    with memray.Tracker(name):
        kept.append(bytearray(50_000 + len(kept)))
    with memray.FileReader(name) as reader:
        print(name, [r.size for r in own(reader)])
os.unlink("test.bin")
with memray.Tracker("test.bin"):
    print(os.path.exists("test.bin"))
    kept.append(bytearray(90_000))
with memray.FileReader("test.bin") as reader:
    print([r.size for r in own(reader)])
""",
    "a child": """
import glob, os, time
with memray.Tracker("test.bin", follow_fork=True):
    pid = os.fork()
    if not pid:
        kept = bytearray(80_000)
        os._exit(0)
    os.waitpid(pid, 0)
print(glob.glob("test.bin.*[0-9]") == [f"test.bin.{pid}"])
with memray.FileReader(f"test.bin.{pid}") as reader:
    print([r.size for r in own(reader)])
""",
    "names of threads": """
import threading
def work():
    kept.append(bytearray(50_000))
kept = []
with memray.Tracker("out.bin"):
    work()
    for name in (None, "io"):
        thread = threading.Thread(target=work, name=name)
        thread.start()
        thread.join()
with memray.FileReader("out.bin") as reader:
    print([r.thread_name for r in own(reader)])
""",
    "facts": """
kept = [bytearray(50_000)]
with memray.Tracker("out.bin"):
    kept.append(bytearray(60_000))
with memray.FileReader("out.bin") as reader:
    known = reader.metadata
    print(known.command_line, known.python_allocator)
    print(known.total_allocations == len(list(reader.get_allocation_records())))
    print(all(b.time - a.time >= 10 for a, b in zip(*[list(reader.get_memory_snapshots())[k:]
          for k in (0, 1)])))
    try:
        reader.get_temporal_allocation_records(merge_threads=True)
    except NotImplementedError:
        pass
""",
    "the last of equal peaks": """
with memray.Tracker("out.bin"):
    x = bytearray(1_000_000)
    del x
    x = bytearray(1_000_000)
    del x
with memray.FileReader("out.bin") as reader:
    print(stacks(own(reader, "get_high_watermark_allocation_records")))
""",
    "what counts alone do not have": """
import re
with memray.Tracker("out.bin", file_format=memray.FileFormat.AGGREGATED_ALLOCATIONS):
    x = bytearray(1_000_000)
with memray.FileReader("out.bin") as reader:
    for ask in (reader.get_allocation_records, reader.get_temporary_allocation_records):
        try:
            list(ask())
        except NotImplementedError as error:
            print(re.match("[^.:]*", str(error))[0])
""",
}


@pytest.mark.skipif(importlib.util.find_spec("memray") is None, reason="memray is missing")
@pytest.mark.skipif(not PYTHON_FRAMES, reason="no Python frames here")
@pytest.mark.parametrize("name", LIKE_MEMRAY)
def test_a_script_sees_what_it_sees_with_memray(name: str, tmp_path: Path) -> None:
    assert printed(tmp_path, OWN_ALLOCATIONS + LIKE_MEMRAY[name])


@pytest.mark.skipif(importlib.util.find_spec("memray") is None, reason="memray is missing")
@pytest.mark.parametrize("allocator", ["malloc", "pymalloc", "pymalloc_debug"])
def test_the_allocator_of_python_is_told(allocator: str, tmp_path: Path) -> None:
    text = """
with memray.Tracker("out.bin"):
    x = bytearray(9)
print(memray.FileReader("out.bin").metadata.python_allocator)
"""
    assert printed(tmp_path, text, PYTHONMALLOC=allocator) == [allocator.replace("_", " ")]


@pytest.mark.parametrize("end", ["os._exit(0)", "os.kill(os.getpid(), 9)", "pass"])
def test_a_file_grows_while_it_is_tracked_and_is_whole_when_the_process_is_gone(
    end: str, tmp_path: Path
) -> None:
    subprocess.run(
        [
            sys.executable, "-c", f"""
import os
from mem_profiler import memray_api as memray
with memray.Tracker("out.bin"):
    first = os.stat("out.bin").st_ino
    kept = [bytearray(60_000)]
    while os.stat("out.bin").st_ino == first:
        kept.append(bytearray(7))
    kept.append(bytearray(70_000))
    {end}
""",
        ],
        cwd=tmp_path, env=command_environment(), timeout=90,
    )  # fmt: skip
    reader = FileReader(tmp_path / "out.bin")
    sizes = {r.size for r in reader.get_allocation_records()}
    assert {60_001, 70_001} <= sizes
    assert {r.size for r in reader.get_leaked_allocation_records()} >= {60_001, 70_001}


SMALL = """
import json
def work():
    return [(str(k), str(-k)) for k in range(200_000)]
with memray.Tracker("out.bin"):
    kept = work()
    more = [float(k) for k in range(200_000)]
    del more
with memray.FileReader("out.bin") as r:
    single = list(r.get_allocation_records())
    left = {}
    for one in r.get_leaked_allocation_records(merge_threads=True):
        line = one.stack_trace()[0][2]
        left[line] = left.get(line, 0) + one.size
    given_back = [one for one in single if one.allocator == memray.AllocatorType.MUNMAP]
    arenas = [one for one in single if one.allocator == memray.AllocatorType.MMAP]
    print(json.dumps([
        sum(one.size for one in arenas), {one.size for one in arenas} == {arenas[0].size},
        bool(given_back), left.get(6, 0), r.metadata.peak_memory,
        r.metadata.trace_python_allocators,
    ]))
"""


@pytest.mark.skipif(importlib.util.find_spec("memray") is None, reason="memray is missing")
def test_small_objects_are_in_the_arenas_that_memray_shows(tmp_path: Path) -> None:
    theirs, ours = map(json.loads, both(tmp_path, SMALL))
    some = 3 << 20  # what is free in arenas that are there before
    assert ours[1:3] == theirs[1:3] == [True, True]
    assert ours[5] is theirs[5] is False
    for of_theirs, of_ours in zip((theirs[0], *theirs[3:5]), (ours[0], *ours[3:5]), strict=True):
        assert of_theirs > 10 * some
        assert abs(of_theirs - of_ours) < some, (theirs, ours)
    profile = read_profile(str(tmp_path / "mem_profiler.memray_api" / "out.bin"))
    assert "as the arenas taken for them" in profile.capture.notes[0]
