"""The fixed inputs of the goldens, and the command lines that each of them gets."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import timelog
from heapfiles import HeapFile, Record, map_line
from mem_parser.heapfile.writer import write_heap
from mem_parser.model import Profile, Reading, Thread, ThreadBlocks
from mem_parser.processfacts import Memory
from mem_parser.symbols.elf import ElfImage
from memscope_dumps import Story
from python_profiles import Stack, profile_of
from scope_pages import training

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT / "tests" / "fuzz" / "corpus"
WRITER = "mem_profiler 0"

SHOP = [
    Stack("sampler!malloc libc!strdup blender!parse blender!serve blender!main", blocks=40),
    Stack("sampler!malloc blender!parse blender!parse blender!serve blender!main", size=65536),
    Stack("sampler!calloc blender!reply blender!serve blender!main", blocks=16, size=300),
    Stack("sampler!malloc blender!?1 blender!main", blocks=3, size=7),
    Stack(
        "sampler!malloc numpy!array_new python!_PyEval_EvalFrameDefault python!Py_RunMain",
        "load:7 *<module>:20", blocks=5, size=100_000,
    ),
    Stack("sampler!malloc ext!fill python!_PyEval_EvalFrameDefault", "fill:3 load:9", cut=True),
]  # fmt: skip


def _shop(folder: Path, scale: int = 1, name: str = "shop.heap", domain: str = "host") -> None:
    """A profile with names, Python frames, threads, a peak and readings."""
    profile = profile_of(
        [replace(s, blocks=s.blocks * (scale if k != 2 else 1)) for k, s in enumerate(SHOP)],
        started=1.7e9, duration_s=60.0, host="build-host-7", comm="shop", lost={"reentry": 2},
        memory=Memory(
            rss_bytes=9 << 20, file_bytes=2 << 20, shmem_bytes=1 << 20, stack_bytes=65536,
            segment_bytes=1 << 19, peak_rss_bytes=10 << 20,
        ),
    )  # fmt: skip
    _more_facts(profile)
    profile.domains = [domain]
    for module in profile.modules:
        module.path = module.path.replace("/usr/", "/opt/").replace("/lib/", "/opt/lib/")
    (folder / name).write_bytes(write_heap(profile, writer=WRITER))


def _more_facts(profile: Profile) -> None:
    sites = profile.sites
    sites.alloc_blocks += 2 * sites.inuse_blocks
    sites.alloc_bytes += 2 * sites.inuse_bytes
    sites.peak_blocks = sites.inuse_blocks + 1
    sites.peak_bytes = sites.peak_blocks * (sites.inuse_bytes // sites.inuse_blocks)
    profile.threads = [Thread(0, 7, "main"), Thread(1, 8, "worker")]
    stack = sites.stack
    profile.thread_blocks = ThreadBlocks(stack, stack % 2, sites.inuse_blocks, sites.inuse_bytes)
    profile.series = [Reading(t / 2, 1e6 + 1e4 * t, 1e4, t, (8 << 20) + t) for t in range(40)]


def _waste(folder: Path) -> None:
    """A profile that says what its blocks waste."""
    profile = profile_of(SHOP[:3], started=1.7e9, duration_s=60.0, host="build-host-7", comm="shop",
                         memory=Memory(rss_bytes=9 << 20, heap_bytes=8 << 20))  # fmt: skip
    sites = profile.sites
    for part, share in (("resident", 1), ("slop", 16), ("pages", 1), ("held", 2), ("pinned", 4)):
        size = sites.inuse_bytes // share
        setattr(sites, f"{part}_bytes", size)
        setattr(sites, f"{part}_squares", size.astype(float) ** 2)
    (folder / "x.heap").write_bytes(write_heap(profile, writer=WRITER))


def _symbols(folder: Path) -> None:
    """A profile without names, and its program beside it."""
    program = folder / "program"
    shutil.copy(CORPUS / "elf" / "debug", program)
    image = ElfImage.open(str(program))
    module = {"path": "/opt/program", "build_id": image.build_id, "start": 0x10000,
              "end": 0x12000, "bias": 0x10000, "exec": [[0x10000, 0x11000, 0]],
              "first_generation": 0, "last_generation": None}  # fmt: skip
    records = [
        Record((0x103C9, 0x103E3, 0x10420), 3, 300 << 10),
        Record((0x103F0, 0x10418), 5, 700 << 10, 2, 280 << 10),
    ]
    heap = HeapFile(records, maps=[map_line(0x10000, 0x12000, 0, "/opt/program")],
                    modules=[module], header={"exe": "/opt/program", "samples": 8})  # fmt: skip
    (folder / "x.heap").write_bytes(heap.data)


def _dump(form: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        story = training(3)
        story.malloc(0xA00000000, 77, "PTA", 9999, python_stack="a.py(3): f", c_stack="g;h")
        story.access(0xA00000000, 77, 9999)
        story.mark("end")
        getattr(Story, form)(story, folder, f"x.{form}")

    return write


def _log(folder: Path) -> None:
    halves = (timelog.ROWS[:4], timelog.ROWS[4:])
    keyframe = timelog.keyframe(4 * timelog.S, [(timelog.LOAD, 2, 3000)])
    timelog.write_log(folder / "x.1-0.memlog", halves[0], last=False)
    timelog.write_log(folder / "x.1-1.memlog", halves[1], number=2, keyframes=(keyframe,))


def _corpus(path: str, name: str = "") -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        shutil.copy(CORPUS / path, folder / (name or "x.heap"))

    return write


def _bytes(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(data) and None


def _shops(folder: Path) -> None:
    _shop(folder)
    _shop(folder, 3, "more.heap")
    (folder / "check.toml").write_text(
        '[budget]\ninuse = "1 MiB"\npeak = "64 KiB"\n[[budget.site]]\n'
        'match = "function:parse"\ninuse = "1 KiB"\n'
    )


def _domains(folder: Path) -> None:
    _shop(folder, name="x.heap")
    _corpus("readers/native-device", "device.heap")(folder)


FULL, SHORT, REFUSED = "full", "short", "refused"
INPUTS: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "shop": (_shops, "shop.heap", FULL),
    "native": (_corpus("readers/native"), "x.heap", FULL),
    "python": (_corpus("readers/python"), "x.heap", FULL),
    "log": (_log, "x.1-0.memlog x.1-1.memlog", FULL),
    "symbols": (_symbols, "x.heap -p program", SHORT),
    "device": (_domains, "device.heap", SHORT),
    "native-gz": (_corpus("readers/native-gz", "x.heap.gz"), "x.heap.gz", SHORT),
    "embedded": (_corpus("readers/embedded"), "x.heap", SHORT),
    "pprof": (_corpus("readers/pprof-gz", "x.pb.gz"), "x.pb.gz", SHORT),
    "go-text": (_corpus("readers/go-text"), "x.heap", SHORT),
    "gperftools": (_corpus("readers/gperftools"), "x.heap", SHORT),
    "gperftools-old": (_corpus("readers/gperftools-old"), "x.heap", SHORT),
    "java": (_corpus("readers/java"), "x.heap", SHORT),
    "jemalloc": (_corpus("readers/jemalloc"), "x.heap", SHORT),
    "collapsed": (_corpus("readers/collapsed", "x.collapsed"), "x.collapsed", SHORT),
    "heaptrack": (_corpus("readers/collapsed-heaptrack", "x.collapsed"), "x.collapsed", SHORT),
    "log-small": (_corpus("memlog/small", "x.memlog"), "x.memlog", SHORT),
    "log-launches": (_corpus("memlog/launches", "x.memlog"), "x.memlog", SHORT),
    "waste": (_waste, "x.heap", REFUSED),
    "csv": (_dump("csv"), "x.csv", REFUSED),
    "db": (_dump("db"), "x.db", REFUSED),
    "program": (_corpus("elf/plain", "x"), "x", REFUSED),
    "empty": (_bytes("x.heap", b""), "x.heap", REFUSED),
    "text": (_bytes("x.heap", b"hello\n"), "x.heap", REFUSED),
    "cut": (_bytes("x.heap", (CORPUS / "readers/native").read_bytes()[:-200]),
            "x.heap", REFUSED),
    "cut-log": (_bytes("x.memlog", (CORPUS / "memlog/small").read_bytes()[:-200]),
                "x.memlog", REFUSED),
    "missing": (lambda _: None, "x.heap", REFUSED),
}  # fmt: skip
"""Name: what writes its files into a folder, the words that stand for it, how much it gets."""


def lines(name: str) -> Iterator[str]:
    """Yield the command lines of an input, with its words in them."""
    _, words, much = INPUTS[name]
    sections = ["every", *(["profiles"] * (much != REFUSED)), *(["main"] * (much == FULL)), name]
    now = ""
    for line in (ROOT / "tests" / "golden" / "commands").read_text().splitlines():
        if line.startswith("["):
            now = line[1:-1]
        elif line and now in sections:
            yield line.replace("@", words)
