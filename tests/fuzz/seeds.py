"""Write the honest inputs that the fuzzers begin with to corpus/NAME: python tests/fuzz/seeds.py

Inputs that once failed lie beside them under names of their own and are left alone.
"""

from __future__ import annotations

import gzip
import lzma
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mem_parser.model import Profile

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
sys.path[:0] = [str(ROOT / part) for part in ("parser", "bindings", "cmd", "tests/support")]

BASE = 0x7F0000000000
SOURCE = """
typedef unsigned long size_t;
extern void *outside(size_t n);
static char heap[64];
__attribute__((noinline)) void *malloc(size_t n) { return n > 64 ? outside(n) : heap; }
__attribute__((noinline)) void free(void *p) { heap[0] = p != 0; }
void *calloc(size_t n, size_t m) { return malloc(n * m); }
void *realloc(void *p, size_t n) { free(p); return malloc(n); }
int posix_memalign(void **p, size_t a, size_t n) { *p = malloc(n + a); return *p == 0; }
void *alpha(size_t n) { char room[n]; __asm__ volatile("" ::"r"(room)); return malloc(n + 1); }
"""
TINY = (
    "-shared", "-fPIC", "-Os", "-nostdlib", "-fno-builtin", "-Wl,-z,noseparate-code",
    "-Wl,-z,norelro", "-Wl,--build-id", "-Wl,-z,max-page-size=4096", "-Wl,--hash-style=both",
    "-fasynchronous-unwind-tables", "-fno-stack-protector", "-Wl,-z,lazy",
)  # fmt: skip


def library(work: Path, *flags: str, name: str = "x.so") -> bytes:
    """A shared library of about 3 KB."""
    (work / "x.c").write_text(SOURCE)
    out = work / name
    subprocess.run(["gcc", *TINY, *flags, "x.c", "-o", name], cwd=work, check=True, timeout=60)
    return out.read_bytes()


def loaded(data: bytes) -> bytes:
    """A library as the loader lays it out in memory."""
    at, count = struct.unpack_from("<Q", data, 32)[0], struct.unpack_from("<H", data, 56)[0]
    memory = bytearray()
    for k in range(count):
        kind, _, offset, address, _, size, room, _ = struct.unpack_from(
            "<IIQQQQQQ", data, at + 56 * k
        )
        if kind == 1:
            memory = memory.ljust(address + room, b"\0")
            memory[address : address + size] = data[offset : offset + size]
    return bytes(memory)


def profiles() -> Iterator[tuple[str, bytes]]:
    """Every format that readers know, small."""
    import heapfiles
    from heapfiles import HeapFile, Record, column, map_line
    from mem_parser.heapfile.writer import write_heap
    from mem_parser.readers import read_bytes
    from mem_parser.symbols.cache import SymbolCache
    from mem_parser.symbols.symbolizer import name_addresses
    from mem_parser.writers.pprof import write_pprof

    module = {"path": "/opt/my program", "build_id": "ab" * 10, "start": 0x400000, "end": 0x500000,
              "bias": 0, "exec": [[0x400000, 0x500000, 0]], "first_generation": 0,
              "last_generation": None}  # fmt: skip
    records = [
        Record((0x7F0000001000, 0x401010, 0x402020), 10, 1000, 4, 400),
        Record((0x7F0000001000, 0x401010, 0x402020), 2, 9000),
        Record((0x7F0000001000, 0x403030), 5, 0),
        Record((1,), 3, 30, lost_cause=heapfiles.LOST),
    ]
    births = [k for n in (10, 2, 5, 3) for k in (n, 0, 0, 0, 0, 0, 0, 0)]
    extra = [
        '%thread {"row": 1, "tid": 42, "name": "worker"}',
        '%sample {"t_s": 0.5, "estimate_bytes": 9000.0, "std_error_bytes": 9.0, "rss_bytes": null}',
        *column("births", "<u4", births), *column("live_births", "<u4", births),
        *column("oldest_birth_s", "<f8", [0.5, 1.0, 1.5, 2.0]),
        *column("peak_blocks", "<u8", [10, 2, 5, 3]),
        *column("peak_bytes", "<u8", [1000, 90, 0, 3]),
        *column("thread_record", "<u4", [0, 1]), *column("thread_row", "<u4", [0, 1]),
        *column("thread_blocks", "<u8", [6, 2]), *column("thread_bytes", "<u8", [600, 9000]),
        *column("mark_time_s", "<f8", [0.5]), *column("mark_id", "<u8", [1]),
        *column("mark_kind", "<u4", [1]), *column("mark_thread", "<u4", [0]),
        *column("mark_domain", "<u4", [0]), *column("mark_name", "<u4", [0]),
        *column("mark_text", "|u1", list(b"step")),
    ]  # fmt: skip
    header = {"pid": 7, "samples": 20, "lost": {"reentry": 1}, "duration_s": 2.5,
              "bucket_end_s": [1, 4, 16, 64, 256, 1024, 4096, None], "exe": "/opt/my program",
              "memory": {"rss_bytes": 1 << 20}, "peak": {"t_s": 1.0, "bytes": 9000}}  # fmt: skip
    native = HeapFile(records, maps=[map_line(0x400000, 0x500000, 0, "/opt/my program")],
                      modules=[module], header=header, extra_lines=extra)  # fmt: skip
    device = {"family": "cuda", "index": 0, "kind": "device", "alloc_calls": 9, "failed_calls": 3,
              "freed_calls": 1, "actual": None, "reserved_bytes": None,
              "reserved_peak_bytes": None}  # fmt: skip
    lines = [
        *column("alloc_taken_bytes", "<u8", [1000] * 4),
        *column("freed_taken_bytes", "<u8", [0] * 4),
        *column("failed_blocks", "<u8", [0, 0, 0, 3]), *column("failed_bytes", "<u8", [0, 0, 0, 9]),
    ]  # fmt: skip
    profile = read_bytes(native.data, "x")
    names = name_addresses(profile, cache=SymbolCache(None), debug_dirs=())
    pprof = write_pprof(profile, names)
    yield "native", native.data
    yield (
        "native-device",
        HeapFile(
            records, header=header | {"domain": "cuda-0", "device": device}, extra_lines=lines
        ).data,
    )
    yield "native-gz", gzip.compress(native.data, mtime=0)
    yield "pprof-gz", gzip.compress(gzip.decompress(pprof), mtime=0)
    yield "pprof", gzip.decompress(pprof)
    yield "embedded", write_heap(read_bytes(pprof, "x"))
    yield "python", write_heap(running_python())
    yield "gperftools", native.first_part()
    yield (
        "gperftools-old",
        (
            b"%warn x\r\nheap profile: 4: 64 [4: 64] @ heap/1024\n 4: 64 [4: 64] @ 0x1 0x2\n"
            b" 1: 600 [1: 600] @ 0x2\n\nMAPPED_LIBRARIES:\n"
            b"00400000-00500000 r-xp 00000000 08:01 77    /opt/a b\n"
        ),
    )
    yield (
        "jemalloc",
        (
            b"heap_v2/1024\n  t*: 3: 300 [4: 400]\n  t0: 1: 100 [0: 0] a [b]: 3\n"
            b"  t1: 2: 200 [0: 0]\n"
            b"@ 0x10 0x20\n  t*: 2: 200 [0: 0]\n  t1: 2: 200 [0: 0]\n"
            b"@\n  t*: 1: 100 [0: 0]\n  t0: 1: 100 [0: 0]\n\nMAPPED_LIBRARIES:\n"
            b"00400000-00500000 r-xp 00000000 08:01 77    /opt/a b\n"
        ),
    )
    yield "collapsed", b"main;a b;c 10\nmain;[x] 5\nmain 1\n"
    yield "collapsed-heaptrack", b"main (a.cc);Cache::load(int) (a.cc); 300\n0x7f00; 0\n"
    yield (
        "go-text",
        (
            b"heap profile: 3: 6000 [5: 10000] @ heap/1048576\n"
            b"2: 4000 [4: 8000] @ 0x47d9b2 0x47d9e6 0x46b121\n"
            b"#\t0x47d9b1\tmain.(*Store).Load+0x51\t\t/src/a b.go:12\n"
            b"#\t0x47d9e5\tmain.Fill[...]+0x24\t/src/main.go:20\n\n"
            b"1: 2000 [1: 2000] @ 0x47d9b2\n#\t0x47d9b1\tmain.other+0x51\t/src/main.go:12\n"
            b"#\t0x47d9e5\n\n# runtime.MemStats\n# Alloc = 1234\n# PauseNs = [1 2 3]\n"
        ),
    )
    yield (
        "java",
        (
            b"--- heapz 1 ---\nformat = java\nresolution = bytes\n"
            b"  8000 4 @ 0x00000003 0x00000004\n  2097152  1 @ 0x00000005 0x00000004\n\n"
            b"  0x00000003 com.example.Cache.load (Cache.java:103)\n"
            b"  0x00000004 com.example.Main.main (/lib/libm.so)\n  0x00000005 GC\n"
        ),
    )


def running_python() -> Profile:
    """A profile with Python's frames, whose native ones have names without a module."""
    from mem_parser.symbols.embedded import NO_MODULE
    from python_profiles import LOOP, Stack, profile_of

    call = f"ext!walk python!_TAIL_CALL_CALL python!{LOOP}"
    profile = profile_of(
        [
            Stack(f"sampler!malloc python!{LOOP} {call} libc!start", "a:1 *b:2 c:3 *d:4"),
            Stack(f"sampler!malloc {call}", "*b:2 c:9 *d:4", cut=True),
            Stack(f"python!PyObject_Malloc python!{LOOP}", "x:1 *<module>:2@/src/x.py"),
            Stack("", "*b:2", cause=2),
            Stack("ext!walk"),
        ]
    )
    assert profile.embedded is not None
    names = profile.embedded.frames
    profile.embedded.frames = {(NO_MODULE, at): found for (_, at), found in names.items()}
    profile.modules = []
    return profile


def elves(work: Path) -> Iterator[tuple[str, bytes]]:
    """ELF files with each kind of table."""
    yield "plain", library(work)
    yield "debug", library(work, "-g1", "-gz=zlib")
    library(work, name="full.so")
    (work / "packed").write_bytes(lzma.compress(library(work, name="inner.so"), preset=1))
    for command in (
        ["strip", "-o", "stripped.so", "full.so"],
        ["objcopy", "--add-section", ".gnu_debugdata=packed", "stripped.so", "mini.so"],
        ["objcopy", "--only-keep-debug", "full.so", "full.debug"],
        ["objcopy", "--add-gnu-debuglink=full.debug", "stripped.so", "linked.so"],
    ):
        subprocess.run(command, cwd=work, check=True, timeout=60)
    yield "debugdata", (work / "mini.so").read_bytes()
    yield "debuglink", (work / "linked.so").read_bytes()


def in_memory(work: Path) -> Iterator[tuple[str, bytes]]:
    for style in ("gnu", "sysv"):
        data = loaded(library(work, f"-Wl,--hash-style={style}", "-s"))
        middle, end = BASE + 4096, BASE + -(-len(data) // 4096) * 4096
        maps = f"{BASE:x}-{middle:x} r-xp 00000000 08:01 77    /usr/lib/x.so\n"
        maps += f"{middle:x}-{end:x} rw-p 00001000 08:01 77    /usr/lib/x.so\n"
        yield style, maps.encode() + b"\0" + data


def tables(work: Path) -> Iterator[tuple[str, bytes]]:
    """The unwind tables of a library, as they lie behind each other."""
    data = library(work)
    places = {}
    said = subprocess.run(
        ["readelf", "-SW", "x.so"], cwd=work, capture_output=True, text=True, check=True, timeout=60
    ).stdout
    for line in said.splitlines():
        words = line.replace("[ ", "[").split()
        if len(words) > 5 and words[1].startswith(".eh_frame"):
            places[words[1]] = int(words[3], 16), int(words[4], 16), int(words[5], 16)
    address, start, _ = places[".eh_frame_hdr"]
    _, last, size = places[".eh_frame"]
    yield "library", struct.pack("<HH", 0, address % 65536) + data[start : last + size]


def stopped(work: Path) -> Iterator[tuple[str, bytes]]:
    data = library(work, "-s")
    stack = struct.pack("<Q", BASE + 0x400) * 64
    for name, pc in (("deep", 0x400), ("shallow", 0x3C0)):
        yield name, struct.pack("<6I", len(data), 16384, pc, 64, 128, 1) + data + stack


def filters() -> Iterator[tuple[str, bytes]]:
    from_call = struct.pack("<iIQ6Q", 1, 0xC000003E, 0x1000, *range(6))
    code = [(0x20, 0, 0, 4), (0x15, 1, 0, 0xC000003E), (0x06, 0, 0, 0), (0x20, 0, 0, 0),
            (0x35, 0, 1, 0x40000000), (0x06, 0, 0, 0x80000000), (0x54, 0, 0, 0xFF), (0x02, 0, 0, 3),
            (0x61, 0, 0, 3), (0x0C, 0, 0, 0), (0x07, 0, 0, 0), (0x05, 0, 0, 1), (0x06, 0, 0, 0),
            (0x06, 0, 0, 0x7FFF0000)]  # fmt: skip
    yield "usual", from_call + b"".join(struct.pack("<HBBI", *row) for row in code)


def plans() -> Iterator[tuple[str, bytes]]:
    """Plans that fit the page of code of fuzz_plan.c."""
    from mem_profiler.entries import decode, plan
    from mem_profiler.entries.names import NONE, Signature
    from mem_profiler.entries.symbols import Function

    page = bytes.fromhex("488b0510000000905541574156 4881ec") * 256
    entries = []
    for at, kind in ((0, 0), (72, 4), (512, 2)):
        code = page[at : at + decode.CODE_BYTES]
        signature = Signature(kind, 0, 0, NONE, NONE if kind == 0 else 0)
        function = Function("malloc", at, len(code), is_ifunc=False, is_local=False)
        entries.append(plan._Entry(function, signature, code, decode.points(code, at)))
    yield "three", plan._packed(entries, 0)
    yield "library", plan._packed(entries, 0, of_library=True)


def forged_segments() -> Iterator[tuple[str, bytes]]:
    """Stacks that lie in each other, one for each of many sites."""
    sys.path.insert(0, str(FOLDER))
    from fuzz_segments import PATCH, TABLES
    from mem_profiler.segment import layout

    (arena, *_), (keys, *_), (rows, width, _) = TABLES[:3]
    first = 16 | 1 << 26 | 1 << 47  # the first stack, size class 1, capture 1
    yield (
        "overlapping",
        bytes([1])
        + b"".join(
            [
                PATCH.pack(layout.offset_of("arena_cursor"), 1, 8, 8, 1 << 20, 0),
                PATCH.pack(arena, 60000, 8, 8, layout.DEPTH_MAX, 1 << 32),
                PATCH.pack(keys, 4096, 8, 8, first, 1),
                PATCH.pack(rows, 4096, width, 8, 1, 0),
                PATCH.pack(rows + 8, 4096, width, 8, 100, 0),
            ]
        ),
    )
    yield "once", bytes([0])
    yield "recorded", bytes([1])


BUDGETS = {
    "budget": b"""include = []
[budget]
peak = "256 MiB"
leaks = "0"
growth = "5 %"
tolerance = "1 KiB"
baseline = "x.baseline"
suppressions = ["x.supp"]

[[budget.site]]
match = "module:libparser"
inuse = "8 MiB"

[target."serv*"]
alloc_rate = "1 MiB/s"

[run]
tries = 3
rate = "16 KiB"
""",
    "baseline": (
        b"mem_parser baseline 1\n\nprogram\tredis-server\nbuild\t3f2c1a9b20de\nrate\t16384\n"
        b"measure\tpeak\ntotal\t211.604 MiB\t1.21000 MiB\t13541\t52\n"
        b"site\t8.10000 MiB\t240.000 KiB\t518\t1\tmodule:libparser\n"
        b"function\t103.720 MiB\t840.000 KiB\t6638\t1\tsdsnewlen\tsds.c\tcreateObject\tmain\n"
    ),
}
NAMES = {
    "plain": ["parse_header", "/src/server.c", "/opt/server", "load", "worker", "vec.h",
              "/opt/lib.so", "running"],
    "hostile": ["a<b>|`x`\x1b]0;x\x07::error::%0A,:\n@everyone", "::error file=a::x.c",
                "##[error]x",
                "\u2028x", "\x85x", "-->", "</details>", "\ud800"],
}  # fmt: skip


MADE_CODE = {
    "perf-map": b"1000 20 JS:*serve /srv/app.js:4:15\n0x1008 0x20 void a.B.c(int)\n",
    "jitdump": struct.pack("IIIIIIQQ", 0x4A695444, 1, 40, 62, 0, 7, 0, 0)
    + struct.pack("IIQIIQQQQ", 0, 60, 0, 7, 7, 0x1000, 0x1000, 2, 1)
    + b"f\0\xcc\xcc"
    + struct.pack("IIQIIQQQQQ", 1, 64, 0, 7, 7, 0, 0x1000, 0, 2, 1),
}


def records() -> bytes:
    """A stack of ten frame records of made code, for fuzz_records.c."""
    words = [2 | 64, 0, 0, 0]  # made code, at the first word, whose record is the first
    for k in range(10):
        words += [8 * (4 * k + 4) << 3, (k + 5) << 3 | 2, 6, 6]
    return struct.pack(f"<{len(words)}Q", *words)


def with_launches(path: Path) -> bytes:
    from mem_parser.memlog.filefacts import FileFacts
    from mem_parser.memlog.launches import Launches, LaunchKind, tensor_text
    from mem_parser.memlog.writer import MemlogWriter
    from memlogs import facts_profile

    with path.open("w+b") as file:
        writer = MemlogWriter(file.fileno(), FileFacts("run", 1, 7, ("host",), (1.0,)))
        writer.append_facts(facts_profile())
        writer.append_texts([b"MatMul", b"a/0_MatMul", tensor_text(1, 2, (2, 3)), b"\xff,\n"])
        # Kind, device, name, detail; the last names a text that is not there.
        rows = [
            *((kind, (0, 63, 1)[k % 3], 1, (0, 2, 2, 2, 2, 3, 3, 3)[k % 8])
              for k, kind in enumerate(LaunchKind)),
            (LaunchKind.KERNEL, 1, 4, 0),
        ]  # fmt: skip
        kinds, devices, names, details = zip(*rows, strict=True)
        writer.append_launches(
            Launches.of(
                time_ns=range(len(rows)), kind=kinds, address=[7 << 32 | 1] * len(rows),
                size_bytes=[3] * len(rows), thread=[0] * len(rows), device=devices,
                name=names, detail=details,
            )
        )  # fmt: skip
        writer.end(last=True)
    return path.read_bytes()


def logs(work: Path) -> Iterator[tuple[str, bytes]]:
    from ledger import Ledger, write_files

    block = {"domain": 0, "birth_ns": 0, "stack": 2, "size_bytes": 100, "thread": 1}
    rows = [
        block | {"time_ns": 5 * k, "kind": kind, "address": 16 * (k % 5), "domain": k % 2}
        for k, kind in enumerate([1, 1, 1, 3, 4, 2, 2, 1, 5, 6, 1, 2, 3, 1])
    ]
    (path,) = write_files(work, Ledger(rows), [], [20, 40])
    yield "small", path.read_bytes()
    yield "launches", with_launches(work / "launches.memlog")


def every(work: Path) -> Iterator[tuple[str, str, bytes]]:
    """Fuzzer, name and bytes of each input."""
    for fuzzer, found in (
        ("readers", profiles()), ("elf", elves(work)), ("images", in_memory(work)),
        ("cfi", tables(work)), ("unwind", stopped(work)), ("seccomp", filters()), ("plan", plans()),
        ("budget", BUDGETS.items()), ("segments", forged_segments()),
        ("lookup", [("both", loaded(library(work)))]),
        ("records", [("chain", records())]), ("madecode", MADE_CODE.items()),
        ("memlog", logs(work)),
    ):  # fmt: skip
        yield from ((fuzzer, name, data) for name, data in found)
    for name, texts in NAMES.items():
        yield "outputs", name, b"\xff".join(t.encode("utf-8", "surrogatepass") for t in texts)


def main() -> None:
    """Write them all."""
    with tempfile.TemporaryDirectory() as work:
        for fuzzer, name, data in every(Path(work)):
            folder = FOLDER / "corpus" / fuzzer
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
