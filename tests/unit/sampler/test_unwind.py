"""The unwinder of the sampler: programs of tests/c/ compiled in many ways, beside other readers.

The oracle for stacks is libgcc's `_Unwind_Backtrace`, inside the programs; for rows of call frame
information it is `readelf --debug-dump=frames-interp`.
"""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from c_build import (
    ASAN,
    C_FLAGS,
    PLAIN,
    ROOT,
    SAMPLER,
    TSAN,
    compile_program,
    core_program,
    expect_pass,
    run_program,
)

C = ROOT / "tests" / "c"
CXX_FLAGS = ("-std=gnu++17", *C_FLAGS[1:])
BUILDS = {"plain": PLAIN, "asan": ASAN, "tsan": TSAN}
CROSS = "aarch64-linux-gnu-gcc"
HOLES = ("-Wl,-z,max-page-size=0x200000", "-Wl,-z,separate-code")
"""The program's segments lie far apart; what is between them is free."""
EMULATOR = ("qemu-aarch64", "-L", "/usr/aarch64-linux-gnu")

VARIANTS = [
    ("gcc", ("-O0",)),
    ("gcc", ("-O2",)),
    ("gcc", ("-O3", "-fomit-frame-pointer", "-mavx2")),
    ("gcc", ("-O2", "-fno-omit-frame-pointer")),
    ("gcc", ("-Os", "-fcf-protection=full")),
    ("gcc", ("-O2", *HOLES)),
    ("gcc", ("-O2", "-no-pie", *HOLES)),
    ("clang", ("-O0",)),
    ("clang", ("-O2",)),
]


def variant_name(variant: tuple[str, tuple[str, ...]]) -> str:
    return " ".join((variant[0], *variant[1]))


def need(*tools: str) -> None:
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} not found")


@functools.cache
def oracle(compiler: str = "gcc") -> Path:
    """The unwinder and its comparison with libgcc, as one library with fixed flags."""
    return compile_program(
        [C / "unwind_oracle.c", *sorted((SAMPLER / "unwind").glob("*.c"))],
        (*C_FLAGS, *PLAIN, "-shared", "-Wl,-z,defs"),
        name=f"unwind_oracle-{compiler}.so",
        compiler=compiler,
    )


def beside_libgcc(source: str, compiler: str, flags: tuple[str, ...]) -> Path:
    base = CXX_FLAGS if source.endswith(".cc") else C_FLAGS
    name = f"{Path(source).stem}-{compiler}"
    cross = "aarch64-linux-gnu-gcc" if compiler.startswith("aarch64") else "gcc"
    libs = (str(oracle(cross)), "-lpthread", "-ldl")
    return compile_program(C / source, (*base, *flags), name=name, compiler=compiler, libs=libs)


@pytest.mark.parametrize("variant", VARIANTS, ids=variant_name)
@pytest.mark.parametrize("source", ["test_unwind_frames.c", "test_unwind_stacks.c"])
def test_every_kind_of_frame_and_stack_is_unwound_like_libgcc_does(
    source: str, variant: tuple[str, tuple[str, ...]]
) -> None:
    compiler, flags = variant
    need(compiler)

    expect_pass(beside_libgcc(source, compiler, flags))


@pytest.mark.parametrize(
    "variant", [("g++", ("-O0",)), ("g++", ("-O2",)), ("clang++", ("-O2",))], ids=variant_name
)
def test_exceptions_in_flight_do_not_change_the_stack(variant: tuple[str, tuple[str, ...]]) -> None:
    compiler, flags = variant
    need(compiler)

    expect_pass(beside_libgcc("test_unwind_cxx.cc", compiler, flags))


@pytest.mark.parametrize("flags", [(), HOLES], ids=["together", "apart"])
def test_libraries_that_come_and_go_never_yield_a_wrong_stack(flags: tuple[str, ...]) -> None:
    plugins = [
        compile_program(
            C / "unwind_plugin.c",
            (*C_FLAGS, "-O1", "-fPIC", "-shared", f"-DFRAME_BYTES={frame_bytes}"),
            name=f"plugin-{frame_bytes}.so",
        )
        for frame_bytes in (400, 1200)
    ]

    program = beside_libgcc("test_unwind_dlopen.c", "gcc", ("-O1", "-rdynamic", *flags))

    expect_pass(program, *map(str, plugins))


INTERPRETER = """
import ctypes, sys, threading
u = ctypes.CDLL(sys.argv[1])
u.oracle_init(0, True)
ends = [u.oracle_check(b"python")]
def compare(a, b):
    ends.append(u.oracle_check(b"callback"))
    return 0
callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(compare)
ctypes.CDLL(None).qsort((ctypes.c_int * 6)(3, 2, 1, 5, 4, 6), 6, 4, callback)
thread = threading.Thread(target=lambda: ends.append(u.oracle_check(b"thread")))
thread.start()
thread.join()
assert len(ends) > 5 and set(ends) == {255} and u.oracle_failures() == 0, ends
"""


def test_stacks_of_an_interpreter_with_callbacks_equal_those_of_libgcc() -> None:
    expect_pass(Path(sys.executable), "-c", INTERPRETER, str(oracle()))


# ThreadSanitizer where there are threads.
@pytest.mark.parametrize(
    ("source", "builds"),
    [
        ("test_unwind_random.c", "plain asan tsan"),
        ("test_unwind_modes.c", "plain asan"),
        ("test_unwind_records.c", "plain asan"),
        ("test_stack_cache.c", "plain asan tsan"),
    ],
)
def test_random_stacks_modes_and_frame_records_hold_under_sanitizers(
    source: str, builds: str
) -> None:
    for build in builds.split():
        expect_pass(core_program(source, BUILDS[build]))


def test_a_known_stack_is_found_by_its_frame_pointers() -> None:
    expect_pass(core_program("test_stack_cache.c", PLAIN, "-fno-omit-frame-pointer"))


def shared_libraries(count: int | None) -> list[Path]:
    """Shared libraries of this machine, spread over their sizes; all of them with None."""
    folders = ["/usr/lib", "/usr/local/lib", "/opt"]
    command = ["find", *[f for f in folders if Path(f).is_dir()], "-xdev", "-type", "f"]
    done = subprocess.run(
        [*command, "-name", "*.so*", "-printf", "%s %p\n"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    # One file of each size: drivers are often many names of one file.
    by_size = {int(size): Path(path) for size, path in map(str.split, done.stdout.splitlines())}
    paths = [by_size[size] for size in sorted(by_size)]
    step = 1 if count is None else max(1, len(paths) // count)
    return paths[::step]


def read_corpus(paths: list[Path], *arguments: str) -> str:
    done = subprocess.run(
        [str(core_program("test_unwind_corpus.c", ASAN)), *arguments],
        input="".join(f"{path}\n" for path in paths),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def test_entries_of_a_hundred_libraries_are_read_within_bounds_and_understood() -> None:
    assert "0 malformed" in read_corpus(shared_libraries(100), "--sample")


@pytest.mark.soak
def test_entries_of_all_libraries_are_read_within_bounds_and_understood() -> None:
    read_corpus(shared_libraries(None))


@pytest.mark.parametrize("rounds", [5000, pytest.param(400_000, marks=pytest.mark.soak)])
def test_noise_as_a_table_is_never_read_out_of_bounds(rounds: int) -> None:
    expect_pass(core_program("test_unwind_fuzz.c", ASAN), "1", str(rounds), timeout=600)


REGISTERS = {
    "rsp": "r7",
    "rbp": "r6",
    "rbx": "r3",
    "rax": "r0",
    "rcx": "r2",
    "rdx": "r1",
    "rsi": "r4",
    "rdi": "r5",
}
ROW = re.compile(r"^[0-9a-f]{16} ")


def as_number(text: str) -> str:
    for name, number in REGISTERS.items():
        text = text.replace(name, number)
    return {"s": "u"}.get(text, text)


def rows_by_readelf(path: Path) -> dict[int, tuple[str, str, str]]:
    """Location -> (CFA, rbp, return address), columns that an entry lacks being `u`."""
    done = subprocess.run(
        ["readelf", "--debug-dump=frames-interp", str(path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,  # 1 when it cannot follow a link to separate debug information
    )
    rows: dict[int, tuple[str, str, str]] = {}
    columns: list[str] = []
    for line in done.stdout.splitlines():
        words = re.sub(r"(r\d+) \(\w+\)", r"\1", line).split()
        if words[:2] == ["LOC", "CFA"]:
            columns = words
        elif "CIE" in words:
            columns = []
        elif ROW.match(line) and columns:
            cell = dict(zip(columns, map(as_number, words), strict=False))
            rows[int(words[0], 16)] = (cell["CFA"], cell.get("rbp", "u"), cell.get("ra", "u"))
    return rows


def rows_by_us(path: Path) -> dict[int, tuple[str, str, str]]:
    rows: dict[int, tuple[str, str, str]] = {}
    program = core_program("test_unwind_corpus.c", PLAIN)
    for line in run_program(program, "--rows", str(path)).stdout.splitlines():
        location, cfa, fp, ra = line.split()
        rows[int(location, 16)] = (cfa, fp, ra)
    return rows


def test_rows_agree_with_readelf() -> None:
    need("readelf")
    library = next(p for p in Path("/").glob("lib/x86_64-linux-gnu/libc.so.6"))

    theirs = rows_by_readelf(library)
    ours = rows_by_us(library)

    common = theirs.keys() & ours.keys()
    assert len(common) > 0.95 * len(theirs) > 1000
    assert {at: theirs[at] for at in common} == {at: ours[at] for at in common}


@pytest.mark.parametrize("flags", [("-O0",), ("-O2",), ("-O3", "-fomit-frame-pointer")], ids=str)
@pytest.mark.parametrize("source", ["test_unwind_frames.c", "test_unwind_stacks.c"])
def test_aarch64_frames_are_unwound_like_libgcc_does(source: str, flags: tuple[str, ...]) -> None:
    need(CROSS, EMULATOR[0])

    expect_pass(*EMULATOR, str(beside_libgcc(source, CROSS, flags)), "emulated")


def test_aarch64_modes_random_stacks_and_frame_records_hold() -> None:
    need(CROSS, EMULATOR[0])
    for source in ("test_unwind_modes.c", "test_unwind_random.c", "test_unwind_records.c"):
        program = core_program(source, PLAIN, compiler=CROSS)
        expect_pass(*EMULATOR, str(program), "500")
