"""Source lines and inlined frames, of what real compilers, linkers and packers make."""

from __future__ import annotations

import gc
import os
import random
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from line_oracle import (
    Frames,
    addr2line_frames,
    call_sites,
    differing,
    llvm_frames,
    our_frames,
    our_lines,
)
from mem_parser.symbols import dwarf
from mem_parser.symbols.debug import split
from mem_parser.symbols.debug.locate import UNNAMED, Locator
from mem_parser.symbols.debug.sections import Sections
from mem_parser.symbols.debug.split import SplitUnits
from mem_parser.symbols.debug.units import DebugFile
from mem_parser.symbols.dwarf import read_lines
from mem_parser.symbols.elf import ElfImage

Make = Callable[[str], Path]
needs_llvm = pytest.mark.skipif(
    not shutil.which("llvm-symbolizer"), reason="llvm-symbolizer is not installed"
)
HEADER = """
#ifdef STANDARD
#include <functional>
#include <map>
#include <string>
#include <vector>
template <class T> using Row = std::vector<T>;
using Text = std::string;
using Step = std::function<int(int)>;
inline std::map<Text, int> &counts() { static std::map<Text, int> m; return m; }
inline int seen(int n) { counts()[Text(n, 'c')]++; return int(counts().size()); }
#else
template <class T> struct Row {
    ~Row() { delete[] at; }
    void push_back(T v) {
        T *more = new T[count + 1];
        for (int i = 0; i < count; i++) more[i] = at[i];
        more[count++] = v;
        delete[] at;
        at = more;
    }
    unsigned long size() const { return count; }
    T *at = nullptr;
    int count = 0;
};
struct Text : Row<char> { Text(int n, char c) { while (n--) push_back(c); } };
typedef int (*Step)(int);
inline int seen(int n) { static Row<int> all; all.push_back(n); return int(all.size()); }
#endif
namespace shapes {
struct Shape { virtual ~Shape() = default; virtual int name() const = 0; };
template <class T, int N> struct Box : Shape {
    explicit Box(T v) { values.push_back(v); grow(N); }
    int name() const override { return int(Text(N, 'b').size() + values.size()); }
    void grow(int n) { for (int i = 0; i < n; i++) values.push_back(T(i * N)); }
    Row<T> values;
};
template <class F> auto twice(F f) { f(); return f(); }
template <int N> int helper(int n) {
    Box<int, N> box(n);
    box.grow(n);
    seen(n * N);
    return twice([&] { box.grow(1); return box.name(); });
}
}
int more(int n);
"""
ONE = """
#include "shapes.h"
template <int... N> int sum(int n) { return (shapes::helper<N>(n) + ...); }
int main(int argc, char **) {
    shapes::Shape *all[] = {new shapes::Box<int, 3>(argc), new shapes::Box<long, 4>(argc)};
    int total = sum<1, 2, 3, 4, 5, 6, 7, 8>(argc);
    for (auto *shape : all) { total += shape->name(); delete shape; }
    return total + more(argc) == 0;
}
"""
TWO = """
#include "shapes.h"
namespace {
struct Keeper {
    Step steps[2];
    int run(int n) const { for (auto &f : steps) n = f(n); return n; }
};
}
__attribute__((noinline)) static int unused(int n) { return seen(n) + int(Text(n, 'u').size()); }
int never_called(int n) { return unused(n) + unused(n + 1); }
int more(int n) {
    Keeper keeper{{[](int k) { return shapes::helper<9>(k) + 1; },
                   [](int k) { return k + seen(k); }}};
    shapes::Box<short, 5> box(n);
    return keeper.run(n) + shapes::twice([&] { box.grow(n % 3); return box.name(); });
}
"""
# How programs are made: the compiler, and its options.
BUILDS = {
    "gcc, DWARF 5": "g++ -gdwarf-5",
    "gcc, DWARF 4": "g++ -gdwarf-4",
    "gcc, DWARF 2": "g++ -gdwarf-2",
    "gcc, whole program": "g++ -gdwarf-5 -flto",
    "gcc, code thrown away": "g++ -gdwarf-5 -ffunction-sections -Wl,--gc-sections",
    "gcc, packed": "g++ -gdwarf-5 -gz=zlib",
    "gcc, packed in the old way": "g++ -gdwarf-4 -Wl,--compress-debug-sections=zlib-gnu",
    "gcc, types apart": "g++ -gdwarf-5 -fdebug-types-section",
    "gcc, split, DWARF 5": "g++ -gdwarf-5 -gsplit-dwarf",
    "gcc, split, DWARF 4": "g++ -gdwarf-4 -gsplit-dwarf",
    "clang, DWARF 5": "clang++ -gdwarf-5",
    "clang, DWARF 4": "clang++ -gdwarf-4",
    "clang, lines only": "clang++ -gline-tables-only",
    "clang, split, DWARF 5": "clang++ -gdwarf-5 -gsplit-dwarf",
    "clang, split, DWARF 4": "clang++ -gdwarf-4 -gsplit-dwarf",
}
# The standard library's headers bring much debug information, and take most of the time.
STANDARD = {f"{how}, standard library": f"{flags} -DSTANDARD" for how, flags in BUILDS.items()}
IN_SOAK = [how for how in STANDARD if "gcc, DWARF 5" not in how]
IN_SOAK += ["gcc, DWARF 4", "clang, DWARF 4", "clang, split, DWARF 4"]
BUILDS |= STANDARD


def run(*command: str | Path, cwd: Path) -> None:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=120,
                          cwd=cwd)  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Makes a program of BUILDS, once."""
    made: dict[str, Path] = {}

    def make(how: str) -> Path:
        if how not in made:
            compiler, *options = BUILDS[how].split()
            if not shutil.which(compiler):
                pytest.skip(f"{compiler} is not installed")
            folder = tmp_path_factory.mktemp("program")
            for name, text in (("shapes.h", HEADER), ("one.cc", ONE), ("two.cc", TWO)):
                (folder / name).write_text(text)
            linking = [o for o in options if o.startswith("-Wl")]
            compiling = [o for o in options if o not in linking]
            for name in ("one", "two"):
                run(compiler, "-O2", "-std=c++17", *compiling, "-c", f"{name}.cc", "-o",
                    f"{name}.o", cwd=folder)  # fmt: skip
            run(compiler, "-O2", *options, "-Wl,--build-id", "one.o", "two.o", "-o", "p",
                cwd=folder)  # fmt: skip
            made[how] = folder / "p"
        return made[how]

    return make


def agreement(ours: dict[int, Frames], theirs: dict[int, Frames]) -> float:
    """The share of addresses at which another reader that knows a line says what ours says."""
    known = [a for a, frames in theirs.items() if any(line for _, _, line in frames)]
    assert len(known) > 100
    return 1 - len(differing(ours, theirs)) / len(known)


@needs_llvm
@pytest.mark.parametrize(
    "how", [pytest.param(h, marks=[pytest.mark.soak] if h in IN_SOAK else []) for h in BUILDS]
)
def test_lines_and_inlined_frames_are_those_of_another_reader(how: str, built: Make) -> None:
    program = built(how)
    addresses = call_sites(program)
    ours = our_frames(program, addresses)
    theirs = llvm_frames(program, addresses)
    assert agreement(ours, theirs) >= 0.995, list(differing(ours, theirs).items())[:2]
    assert sum(len(frames) > 1 for frames in ours.values()) > 50


DEAD = """
        .file   "dead.c"
        .file 1 "dead.c"
        .section .text.dead,"ax",@progbits
dead:   .loc 1 5 0
        nop
        .loc 1 6 0
        .loc 1 7 0 view -0
        .fill 64, 1, 0x90
        .loc 1 8 0
        ret
        .section .text.second,"ax",@progbits
        .globl  second
        .type   second,@function
second: .loc 1 20 0
        call    first
        .loc 1 21 0
        ret
        .size   second, .-second
        .section .text.first,"ax",@progbits
        .globl  first
        .type   first,@function
first:  .loc 1 10 0
        call    second
        .loc 1 11 0
        ret
        .size   first, .-first
"""


def test_code_that_the_linker_threw_away_costs_no_lines_of_other_code(tmp_path: Path) -> None:
    # The assembler sets the address once more in the middle of `dead`, and the linker makes it 0.
    # A reader that takes this for the end of the run adds `second` to the run of `dead`, which
    # then lies over `first`.
    (tmp_path / "dead.s").write_text(DEAD)
    run("gcc", "-gdwarf-5", "-c", "dead.s", cwd=tmp_path)
    run("ld", "--gc-sections", "--sort-section=name", "-e", "second", "-o", "p", "dead.o",
        cwd=tmp_path)  # fmt: skip
    program = tmp_path / "p"
    addresses = call_sites(program)
    lines = our_lines(program, addresses).frames
    theirs = addr2line_frames(program, addresses)
    assert [lines[a][0].line for a in addresses] == [10, 20]
    assert [theirs[a][0][2] for a in addresses] == [10, 20]


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("packer", ["dwp", "llvm-dwp"])
def test_a_package_of_split_debug_information_is_used(
    packer: str, version: int, built: Make, tmp_path: Path
) -> None:
    if not shutil.which(packer):
        pytest.skip(f"{packer} is not installed")
    compiler = "clang" if packer == "llvm-dwp" else "gcc"
    program = built(f"{compiler}, split, DWARF {version}")
    addresses = call_sites(program)
    expected = our_frames(program, addresses)
    moved = tmp_path / "p"
    shutil.copy(program, moved)
    try:
        run(packer, "-e", program, "-o", tmp_path / "p.dwp", cwd=program.parent)
    except AssertionError as error:
        if packer == "dwp":
            pytest.skip(f"this dwp reads no version {version}: {error}")
        raise
    hidden = [f.rename(f.with_suffix(".hidden")) for f in program.parent.glob("*.dwo")]
    try:
        assert our_frames(moved, addresses) == expected
    finally:
        for file in hidden:
            file.rename(file.with_suffix(".dwo"))


def test_missing_split_debug_information_is_said_and_costs_no_lines(
    built: Make, tmp_path: Path
) -> None:
    program = built("gcc, split, DWARF 5")
    addresses = call_sites(program)
    expected = our_frames(program, addresses)
    two = program.parent / "p-two.dwo"
    (two if two.exists() else program.parent / "two.dwo").rename(tmp_path / "away.dwo")
    other = program.parent / "one.dwo"
    shutil.copy(other, program.parent / "two.dwo")  # another unit's is not taken for it
    try:
        lines = our_lines(program, addresses)
    finally:
        (tmp_path / "away.dwo").rename(program.parent / "two.dwo")
    count = lines.lost["two.dwo is missing"]
    assert 0 < count < len(addresses)
    assert lines.problem(len(addresses)) == (
        f"{count} of {len(addresses)} source lines could not be read in full: two.dwo is missing"
    )
    for address, frames in lines.frames.items():
        assert frames[0].line == expected[address][0][2]


def test_names_are_those_of_their_own_file_when_many_files_are_split_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Files of the same form, opened one after the other in the memory of the one before.
    monkeypatch.setattr(split, "_MOST_OPEN", 1)
    units = [f"u{k}" for k in range(8)]
    for name in units:
        (tmp_path / f"{name}.c").write_text(
            f"extern int use(int);\n"
            f"static inline __attribute__((always_inline)) int in_{name}(int n)\n"
            f"{{ return use(n) + 1; }}\n"
            f"int {name}(int n) {{ return in_{name}(n) * 2; }}\n"
        )
    calls = " + ".join(f"{name}(n)" for name in units)
    (tmp_path / "main.c").write_text(
        f"int use(int n) {{ return n; }}\n{''.join(f'int {u}(int);' for u in units)}\n"
        f"int main(int n, char **v) {{ return {calls}; }}\n"
    )
    sources = [f"{name}.c" for name in (*units, "main")]
    run("gcc", "-O1", "-gdwarf-5", "-gsplit-dwarf", "-c", *sources, cwd=tmp_path)
    run("gcc", *(f"{name}.o" for name in (*units, "main")), "-o", "p", cwd=tmp_path)
    program = tmp_path / "p"

    def collect() -> float:
        gc.collect()
        return 0.0

    file = DebugFile(Sections(ElfImage.open(str(program))))
    locator = Locator(file, SplitUnits([]), clock=collect)
    before = len(os.listdir("/proc/self/fd"))
    found = locator.locate(call_sites(program), 1.0)
    assert found.lost == {}
    named = [frames for frames in found.frames.values() if len(frames) > 1]
    assert sorted(frames[0][0] for frames in named) == [f"in_{name}" for name in units]
    for (inlined, file_name, _), _ in named:
        assert file_name == str(tmp_path / f"{inlined[3:]}.c")
    assert len(os.listdir("/proc/self/fd")) <= before + 1


@pytest.mark.skipif(not shutil.which("dwz"), reason="dwz is not installed")
@pytest.mark.parametrize("version", [4, 5])
def test_what_programs_share_in_one_file_is_found_there(
    version: int, built: Make, tmp_path: Path
) -> None:
    program = built(f"gcc, DWARF {version}")
    addresses = call_sites(program)
    expected = our_frames(program, addresses)
    for name in ("a", "b"):
        shutil.copy(program, tmp_path / name)
    run("dwz", "-m", "common.debug", "a", "b", cwd=tmp_path)
    found = our_frames(tmp_path / "a", addresses)
    assert ".gnu_debugaltlink" in ElfImage.open(str(tmp_path / "a")).sections
    assert found == expected
    common = tmp_path / "common.debug"
    whole = common.read_bytes()
    common.unlink()
    lines = our_lines(tmp_path / "a", addresses)
    found = {a: [(f.symbol, f.file, f.line) for f in row] for a, row in lines.frames.items()}
    lessened = [
        address
        for address, frames in expected.items()
        if [row[1:] for row in frames] != [row[1:] for row in found[address]]
        or [row[0] for row in frames[:-1]] != [row[0] for row in found[address][:-1]]
    ]
    assert lessened
    assert lines.lost == {"common.debug is missing": len(lessened)}
    assert {a: [f.line for f in frames] for a, frames in lines.frames.items()} == {
        a: [line for _, _, line in frames] for a, frames in expected.items()
    }
    names = {f.symbol for frames in lines.frames.values() for f in frames[:-1]}
    assert UNNAMED in names
    assert "" not in names
    build_id = bytes.fromhex(ElfImage.from_data("common", whole).build_id)
    common.write_bytes(whole.replace(build_id, bytes(20)))
    lost = our_lines(tmp_path / "a", addresses).lost
    assert list(lost) == [f"{common} is another file (its build-id differs)"]


def test_sections_packed_with_zstd_are_read(built: Make, tmp_path: Path) -> None:
    program = built("gcc, DWARF 5")
    packed = tmp_path / "packed"
    done = subprocess.run(
        ["objcopy", "--compress-debug-sections=zstd", program, packed], capture_output=True,
        timeout=60,
    )  # fmt: skip
    if done.returncode:
        pytest.skip("this objcopy has no zstd")
    addresses = call_sites(program)
    assert our_frames(packed, addresses) == our_frames(program, addresses)


DEBUG_DIR = Path("/usr/lib/debug")
LARGE_BYTES = 4 << 20
MOST_BYTES = 256 << 20


def large_debug_file() -> Path:
    """The largest installed debug file that other readers can read in time."""
    sizes = {path: path.stat().st_size for path in DEBUG_DIR.rglob("*.debug")}
    large = [path for path, size in sizes.items() if LARGE_BYTES <= size <= MOST_BYTES]
    if not large:
        pytest.skip(f"no debug file of {LARGE_BYTES >> 20} MiB or more is below {DEBUG_DIR}")
    return max(large, key=lambda path: sizes[path])


def some_code(debug: Path, most: int) -> list[int]:
    """Addresses in functions of a debug file, whose program need not be there."""
    done = subprocess.run(
        ["nm", "--defined-only", "--print-size", debug], capture_output=True, text=True,
        check=True, timeout=120,
    )  # fmt: skip
    functions = re.findall(r"^([0-9a-f]+) ([0-9a-f]+) [tTwW] ", done.stdout, re.MULTILINE)
    by_chance = random.Random(1)
    found = {
        int(start, 16) + by_chance.randrange(int(size, 16))
        for start, size in functions * 4
        if int(size, 16)
    }
    return sorted(by_chance.sample(sorted(found), min(most, len(found))))


@needs_llvm
@pytest.mark.parametrize("oracle", [llvm_frames, addr2line_frames])
def test_a_large_library_of_many_units_loses_no_lines(oracle: object) -> None:
    """It takes whatever large debug file is installed. A good one, of C++ in 2000 units, is a
    download of 110 MB: `sudo apt-get install librados2-dbg`.
    """
    debug = large_debug_file()
    addresses = some_code(debug, 3000)
    ours = our_frames(debug, addresses)
    theirs = oracle(debug, addresses)  # type: ignore[operator]
    if oracle is addr2line_frames:
        # It calls the innermost frame as the symbol there, if its function has no linkage name.
        theirs = {
            a: [(ours[a][0][0], *f[0][1:]), *f[1:]] for a, f in theirs.items() if a in ours and f
        }
    assert agreement(ours, theirs) >= 0.995, list(differing(ours, theirs).items())[:2]


def test_reading_that_takes_too_long_gives_what_it_has_and_says_so(
    built: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = built("gcc, DWARF 5")
    monkeypatch.setattr(dwarf, "READ_TIMEOUT_S", 0.0)
    image = ElfImage.open(str(program))
    with pytest.raises(dwarf.LinesFailed, match="took longer"):
        read_lines(image, call_sites(program))
