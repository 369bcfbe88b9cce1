"""Go's own heap profiles as its runtime writes them; what `go tool pprof` says of them is right."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from c_build import BUILD
from mem_parser.model import Count, Profile, Unit
from mem_parser.names import FrameRule
from mem_parser.readers import read_profile
from mem_parser.reports.aggregate import rows_of, sum_stacks
from mem_parser.reports.header import header_lines
from mem_parser.symbols.cache import SymbolCache
from mem_parser.symbols.symbolizer import symbolize
from sampler_run import TARGETS

WAIT_S = 300
FILES = ("heap.pb.gz", "allocs.pb.gz", "heap.txt")
INDEX = {
    "inuse_space": (Count.INUSE, Unit.SPACE),
    "inuse_objects": (Count.INUSE, Unit.OBJECTS),
    "alloc_space": (Count.ALLOC, Unit.SPACE),
    "alloc_objects": (Count.ALLOC, Unit.OBJECTS),
}
METHODS = {
    "main.(*Store).Load", "main.(*Stack[...]).Push", "main.Fill[...]", "main.cold", "main.main",
}  # fmt: skip
_ROW = re.compile(r"\s*(-?\d+)(?:B)?\s+[\d.]+%\s+[\d.]+%\s+(-?\d+)(?:B)?\s+[\d.]+%\s+(.*\S)")

pytestmark = pytest.mark.skipif(shutil.which("go") is None, reason="no Go toolchain")


def run(*command: str | Path, cwd: Path) -> str:
    variables = os.environ | {"GO111MODULE": "off", "GOCACHE": str(BUILD / "go-cache"),
                              "GOFLAGS": "", "PPROF_TMPDIR": str(cwd)}  # fmt: skip
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, cwd=cwd, timeout=WAIT_S,
        env=variables,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def profiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the profiles of tests/targets/go_heap.go, and the program."""
    folder = tmp_path_factory.mktemp("go")
    shutil.copy(TARGETS / "go_heap.go", folder / "main.go")
    run("go", "build", "-trimpath", "-o", "program", "main.go", cwd=folder)
    run(folder / "program", folder, cwd=folder)
    return folder


def rows_here(profile: Profile, index: str) -> dict[str, tuple[float, float]]:
    count, unit = INDEX[index]
    symbols = symbolize(profile, cache=SymbolCache(None))
    sums = sum_stacks(profile, symbols, count=count, unit=unit, rule=FrameRule.NONE)
    return {r.name: (r.flat.value, r.cum.value) for r in rows_of(sums)}


def rows_of_go(folder: Path, file: str, index: str) -> dict[str, tuple[float, float]]:
    unit = ("-unit=B",) if index.endswith("space") else ()
    text = run(
        "go", "tool", "pprof", "-top", "-nodecount=500", "-nodefraction=0", "-edgefraction=0",
        f"-sample_index={index}", *unit, "-symbolize=none", folder / file, cwd=folder,
    )  # fmt: skip
    found = (_ROW.fullmatch(line) for line in text.splitlines())
    return {
        re.sub(r" \((?:partial-)?inline\)$", "", m[3]): (float(m[1]), float(m[2]))
        for m in found
        if m is not None
    }


@pytest.mark.parametrize("index", INDEX)
@pytest.mark.parametrize("file", FILES[:2])
def test_every_function_has_what_gos_pprof_says(profiles: Path, file: str, index: str) -> None:
    theirs = rows_of_go(profiles, file, index)
    ours = rows_here(read_profile(profiles / file), index)

    assert METHODS - {"main.main"} < set(theirs), theirs
    assert {n for n, v in ours.items() if any(v)} == {n for n, v in theirs.items() if any(v)}
    for name, (flat, cum) in theirs.items():
        # Go cuts off fractions record by record.
        assert ours.get(name, (0, 0)) == pytest.approx((flat, cum), rel=2e-5, abs=40), name


@pytest.mark.parametrize("index", INDEX)
def test_the_text_form_says_the_same_as_the_protobuf_form(profiles: Path, index: str) -> None:
    text, proto = (read_profile(profiles / f) for f in ("heap.txt", "heap.pb.gz"))
    ours, theirs = rows_here(text, index), rows_here(proto, index)

    assert text.incomplete is None
    assert set(ours) > METHODS
    # The text is written after the other one, which allocates itself.
    for name in METHODS - {"main.main"}:
        assert ours[name] == pytest.approx(theirs[name], rel=1e-6), name


def test_the_totals_of_the_text_are_those_of_gos_pprof(profiles: Path) -> None:
    for index, (count, unit) in INDEX.items():
        shown = "B" if unit is Unit.SPACE else ""
        text = run(
            "go", "tool", "pprof", "-top", f"-sample_index={index}", "-symbolize=none",
            *(["-unit=B"] if shown else []), profiles / "heap.txt", cwd=profiles,
        )  # fmt: skip
        (total,) = re.findall(r"of (\d+)B? total", text)
        ours = read_profile(profiles / "heap.txt").total(count, unit)
        assert ours.value == pytest.approx(float(total), rel=2e-5, abs=60)
        assert ours.std_error > 0


@pytest.mark.parametrize("file", FILES)
def test_a_report_says_whose_estimates_they_are(profiles: Path, file: str) -> None:
    profile = read_profile(profiles / file)
    total = profile.total(Count.INUSE, Unit.SPACE)

    first = header_lines(profile, total, Count.INUSE, Unit.SPACE)[0]

    assert "estimated by Go's sampler at 512 KiB" in first
    assert "every block" not in first


def test_names_from_the_program_itself_keep_their_receivers(profiles: Path) -> None:
    listed = run("go", "tool", "nm", profiles / "program", cwd=profiles).splitlines()
    found = {x.split(maxsplit=2)[2]: int(x.split()[0], 16) for x in listed if " T main." in x}
    method = next(n for n in found if n.startswith("main.(*Store)"))
    generic = next(n for n in found if n.startswith("main.Fill["))
    addresses = [found[n] + 1 for n in (method, generic, "main.cold")]
    maps = run("readelf", "-lW", profiles / "program", cwd=profiles)
    ((offset, start, size),) = re.findall(r"LOAD\s+0x(\w+) 0x(\w+) 0x\w+ 0x\w+ 0x(\w+) R E", maps)
    low, end = int(start, 16), int(start, 16) + (int(size, 16) + 0xFFF & ~0xFFF)
    frames = " ".join(f"0x{a + 1:x}" for a in addresses)
    text = (
        f"heap profile: 1: 9 [1: 9] @ heapprofile\n 1: 9 [1: 9] @ {frames}\n\nMAPPED_LIBRARIES:\n"
        f"{low:x}-{end:x} r-xp {int(offset, 16):08x} 08:01 77 {profiles / 'program'}\n"
    )
    heap = profiles / "made.heap"
    heap.write_text(text)

    symbols = symbolize(read_profile(heap), cache=SymbolCache(None))

    assert {f.name for f in symbols.functions} == {method, generic, "main.cold"}
