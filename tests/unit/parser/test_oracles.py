"""The readers of the field as oracles: jeprof and google-pprof on our files, and we on files of
their allocators.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from heapfiles import HeapFile, Record
from mem_parser.model import Count, Profile, Unit
from mem_parser.names import FrameRule
from mem_parser.readers import read_profile
from mem_parser.reports.aggregate import rows_of, sum_stacks
from mem_parser.symbols.cache import SymbolCache
from mem_parser.symbols.elf import ElfImage
from mem_parser.symbols.symbolizer import symbolize

LIBRARIES = Path("/usr/lib/x86_64-linux-gnu")
SOURCE = """
#include <cstdlib>
#include <map>
#include <string>
#include <vector>
static std::vector<void *> kept;
static std::map<int, std::string> names;
#define KEEP __attribute__((noinline, noclone))
extern "C" KEEP void *leaf(size_t n) {
    void *p = malloc(n); asm volatile("" ::: "memory"); return p; }
extern "C" KEEP void deep(int d) {
    if (d) deep(d - 1);
    else for (int i = 0; i < 500; i++) kept.push_back(leaf(100 + i % 700));
    asm volatile("" ::: "memory");
}
extern "C" KEEP void wide() {
    for (int i = 0; i < 50; i++) {
        kept.push_back(new char[40000]);
        asm volatile("" ::: "memory"); deep(0); }
}
int main() {
    for (int i = 0; i < 5000; i++) names[i] = std::string(50 + i % 100, 'x');
    wide();
    for (int i = 0; i < 4; i++) deep(5);
    for (size_t i = 0; i < kept.size() / 3; i++) free(kept[i]);
}
"""
needs_jeprof = pytest.mark.skipif(not shutil.which("jeprof"), reason="jeprof is not installed")
needs_pprof = pytest.mark.skipif(
    not shutil.which("google-pprof"), reason="google-pprof is not installed"
)


@dataclass(frozen=True)
class Dumps:
    program: Path
    jemalloc: Path
    gperftools: Path
    ours: Path


@pytest.fixture(scope="module")
def dumps(tmp_path_factory: pytest.TempPathFactory) -> Dumps:
    """One program run under both profilers, and its blocks once more in our own format."""
    for library in ("libjemalloc.so.2", "libtcmalloc.so"):
        if not (LIBRARIES / library).exists():
            pytest.skip(f"{library} is not installed")
    folder = tmp_path_factory.mktemp("dumps")
    (folder / "p.cc").write_text(SOURCE)
    program = folder / "p"
    subprocess.run(["g++", "-O1", "-g", "-o", program, folder / "p.cc"], check=True, timeout=60)
    conf = f"prof:true,lg_prof_sample:13,prof_final:true,prof_accum:true,prof_prefix:{folder}/je"
    run_under(program, LD_PRELOAD=LIBRARIES / "libjemalloc.so.2", MALLOC_CONF=conf)
    run_under(program, LD_PRELOAD=LIBRARIES / "libtcmalloc.so", HEAPPROFILE=folder / "gp")
    jemalloc = next(folder.glob("je.*.heap"))
    gperftools = max(folder.glob("gp*.heap"))
    ours = folder / "ours.heap"
    ours.write_bytes(rewritten(read_profile(gperftools), gperftools).data)
    return Dumps(program, jemalloc, gperftools, ours)


def run_under(program: Path, **environment: object) -> None:
    extra = {k: str(v) for k, v in environment.items()}
    subprocess.run([program], env=os.environ | extra, check=True, timeout=60, capture_output=True)


def rewritten(profile: Profile, source: Path) -> HeapFile:
    """The records of an exact profile as our sampler would have written them, with an exported
    malloc as frame 0.
    """
    library = next(m for m in profile.modules if m.name.startswith("libtcmalloc.so"))
    code = library.ranges[0]
    bias = ElfImage.open(library.path).bias_of(code.start, code.file_offset, 1) or 0
    hook = next(
        int(line.split()[0], 16) + bias
        for line in subprocess.check_output(
            ["nm", "-D", library.path], text=True, timeout=60
        ).splitlines()
        if line.endswith(" T malloc")
    )
    records = []
    for k in range(len(profile.sites)):
        start, end = profile.stacks.offsets[profile.sites.stack[k] : profile.sites.stack[k] + 2]
        frames = tuple(int(f) for f in profile.stacks.frames[start:end])
        blocks, size = int(profile.sites.alloc_blocks[k]), int(profile.sites.alloc_bytes[k])
        freed = blocks - int(profile.sites.inuse_blocks[k])
        freed_bytes = size - int(profile.sites.inuse_bytes[k])
        records.append(Record((hook, *frames), blocks, size, freed, freed_bytes))
    maps = source.read_text().partition("MAPPED_LIBRARIES:\n")[2].splitlines()
    return HeapFile(records, rate=4096, maps=maps)


def their_table(
    tool: str, program: Path, heap: Path, *options: str
) -> tuple[int, dict[str, list[int]]]:
    command = [tool, "--text", "--show_bytes", *options, str(program), str(heap)]
    text = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    total = int(re.search(r"Total: (\d+)", text)[1])  # type: ignore[index]
    rows: dict[str, list[int]] = {}
    for line in text.splitlines():
        match = re.match(r"\s*(\d+)\s+\S+%\s+\S+%\s+(\d+)\s+\S+%\s(.*)$", line)
        if match:
            row = rows.setdefault(match[3].removesuffix(" (inline)"), [0, 0])
            row[0] += int(match[1])
            row[1] = max(row[1], int(match[2]))
    return total, rows


def our_table(
    program: Path, heap: Path, count: Count = Count.INUSE, unit: Unit = Unit.SPACE
) -> tuple[float, dict[str, list[float]]]:
    profile = read_profile(heap)
    symbols = symbolize(profile, str(program), cache=SymbolCache(program.parent / "cache"))
    sums = sum_stacks(profile, symbols, count=count, unit=unit, rule=FrameRule.JEPROF)
    return sums.total.value, {r.name: [r.flat.value, r.cum.value] for r in rows_of(sums)}


def assert_agree(
    theirs: tuple[int, dict[str, list[int]]], ours: tuple[float, dict[str, list[float]]]
) -> None:
    assert ours[0] == pytest.approx(theirs[0], rel=1e-3)
    for name in ("leaf", "deep", "wide", "main"):
        assert ours[1][name] == pytest.approx(theirs[1][name], rel=1e-3, abs=theirs[0] * 1e-6), name


COUNTS = {
    "--inuse_space": (Count.INUSE, Unit.SPACE), "--alloc_space": (Count.ALLOC, Unit.SPACE),
    "--alloc_objects": (Count.ALLOC, Unit.OBJECTS),
}  # fmt: skip


DAILY = {
    ("ours", "--alloc_objects"), ("jemalloc", "--alloc_space"), ("gperftools", "--inuse_space")
}  # fmt: skip
"""Each file and each count once, google-pprof reads live bytes of ours; all in `make soak`."""


@needs_jeprof
@pytest.mark.parametrize(
    ("which", "option"),
    [
        pytest.param(which, option, marks=[] if pair in DAILY else [pytest.mark.soak])
        for pair in itertools.product(("ours", "jemalloc", "gperftools"), COUNTS)
        for which, option in [pair]
    ],
)
def test_jeprof_agrees(dumps: Dumps, which: str, option: str) -> None:
    heap = getattr(dumps, which)
    count, unit = COUNTS[option]
    theirs = their_table("jeprof", dumps.program, heap, option)
    ours = our_table(dumps.program, heap, count, unit)
    if which != "ours":
        # jeprof misnames the innermost frame of `new` there: a return address that it does not
        # lower, or a function without a symbol in a stripped libjemalloc.
        theirs[1]["wide"][0] = ours[1]["wide"][0]  # type: ignore[call-overload]
    assert_agree(theirs, ours)


@needs_pprof
def test_google_pprof_agrees_on_our_file(dumps: Dumps) -> None:
    theirs = their_table("google-pprof", dumps.program, dumps.ours)
    assert_agree(theirs, our_table(dumps.program, dumps.ours))


@needs_jeprof
def test_a_thousand_blocks_of_one_byte_at_rate_one_are_a_thousand_bytes(dumps: Dumps) -> None:
    source = read_profile(dumps.ours)
    frames = tuple(int(f) for f in source.stacks.frames[: source.stacks.offsets[1]])
    maps = dumps.ours.read_text().partition("MAPPED_LIBRARIES:\n")[2].partition("%")[0].splitlines()
    heap = dumps.ours.with_name("exact.heap")
    heap.write_bytes(HeapFile([Record(frames, 1000, 1000)], rate=1, maps=maps).data)
    assert their_table("jeprof", dumps.program, heap)[0] == 1000
    assert our_table(dumps.program, heap)[0] == 1000
