"""Allocations before the program's main, and before the sampler's own constructor: by constructors
of libraries. The oracle is a plain counter beneath the sampler (tests/support/beneath.py).
"""

import platform
import subprocess
from pathlib import Path

import pytest

import beneath
from c_build import ROOT, compile_program
from controller_tools import command_ok, run_command
from mem_profiler.profile.build import LATE_NOTE
from sampler_run import SAMPLER, WAIT_S, Counted, build, environment, run_ok, segments

CTOR_BLOCKS, CTOR_BLOCK_BYTES = 578, 100_000  # tests/targets/ctor_library.c
MAP_NODES = 200_000  # tests/targets/ctor_map.cc
EXCEEDED = 6  # docs/budgets.md
IMPORTS = ROOT / "tests" / "data" / "sampler_imports.txt"


def program(library: str = "ctor_library.c") -> Path:
    """The program, linked to a library that allocates before main."""
    shared = build(library, "-shared", "-fPIC", out=f"lib{library.partition('.')[0]}.so")
    return build(
        "ctor_program.c",
        libs=(str(shared), f"-Wl,-rpath,{shared.parent}"),
        out=f"ctor-{shared.name}",
    )


def test_a_constructors_blocks_are_recorded_to_the_byte(segment_dir: Path, tmp_path: Path) -> None:
    counted, seen = beneath.run([program()], segment_dir, tmp_path / "counts")

    total, ctor = counted.total(), counted.by("allocate_in_constructor")
    assert (total.blocks, total.bytes) == (seen.blocks, seen.bytes)
    assert (ctor.blocks, ctor.bytes) == (CTOR_BLOCKS, CTOR_BLOCKS * CTOR_BLOCK_BYTES)
    assert counted.by("allocate_in_main").bytes == 4321
    assert counted.lost == {}


def test_a_static_map_is_recorded(segment_dir: Path, tmp_path: Path) -> None:
    counted, seen = beneath.run([program("ctor_map.cc")], segment_dir, tmp_path / "counts")

    assert (counted.total().blocks, counted.total().bytes) == (seen.blocks, seen.bytes)
    assert counted.under("_GLOBAL__sub_I_ctor_map.cc").blocks == MAP_NODES


@pytest.mark.parametrize("what", ["thread", "environment", "missing"])
def test_what_a_constructor_does_beside_loses_nothing(
    what: str, segment_dir: Path, tmp_path: Path
) -> None:
    counted, seen = beneath.run([program()], segment_dir, tmp_path / "counts", CTOR=what)

    assert (counted.total().blocks, counted.total().bytes) == (seen.blocks, seen.bytes)
    if what == "thread":
        assert counted.by("allocate_in_thread").blocks == 5


@pytest.mark.parametrize("follow", [False, True])
def test_a_child_of_a_constructor_has_counts_of_its_own(
    follow: bool, segment_dir: Path, tmp_path: Path
) -> None:
    # The child ends before the sampler's constructor: nobody follows it, and it counts nowhere.
    settings = {"MEM_PROFILER_FOLLOW_FORK": "1"} if follow else {}
    counted, seen = beneath.run(
        [program()], segment_dir, tmp_path / "counts", CTOR="fork", **settings
    )

    assert (counted.total().blocks, counted.total().bytes) == (seen.blocks, seen.bytes)
    assert counted.by("in_child").blocks == 0


REAL = [
    ["bash", "-c", "for i in 1 2 3; do a[$i]=$i; done"],
    ["perl", "-e", "$h{$_} = 1 for 1..1000"],
    ["gawk", 'BEGIN { for (i = 0; i < 1000; i++) a[i] = i "x" }'],
    ["git", "--version"],
    ["sqlite3", ":memory:", "create table t(x); insert into t values (1); select * from t"],
    ["/usr/bin/python3", "-c", "import json, threading, subprocess"],
    ["redis-cli", "--version"],
]


def installed(folder: Path, pattern: str) -> str | None:
    """The last of the programs that match, which no link on the search path names."""
    return next((str(path) for path in sorted(folder.glob(pattern), reverse=True)), None)


def real_programs() -> list[list[str]]:
    """Real programs with their arguments, each in one process image."""
    psql = installed(Path("/usr/lib/postgresql"), "*/bin/psql")
    cc1 = subprocess.run(
        ["gcc", "-print-prog-name=cc1"], capture_output=True, text=True, timeout=WAIT_S, check=True
    ).stdout.strip()
    extra = [[psql, "--version"]] if psql else []
    return [
        *REAL,
        *extra,
        [cc1, "-quiet", "-o", "/dev/null", str(ROOT / "sampler/companion/ascend_gate.c")],
    ]


@pytest.mark.parametrize("argv", real_programs(), ids=lambda argv: Path(argv[0]).name)
@pytest.mark.parametrize("pymalloc", [False, True], ids=["malloc", "pymalloc"])
def test_real_programs_lose_no_block_and_no_byte(
    argv: list[str], pymalloc: bool, segment_dir: Path, tmp_path: Path
) -> None:
    if pymalloc and "python" not in argv[0]:
        pytest.skip("only Python has pools of its own")
    # The oracle stands behind malloc, and so must the sampler.
    variables = {"MEM_PROFILER_PYMEM": "0"} | ({} if pymalloc else {"PYTHONMALLOC": "malloc"})
    counted, seen = beneath.run(argv, segment_dir, tmp_path / "counts", **variables)

    assert (counted.total().blocks, counted.total().bytes) == (seen.blocks, seen.bytes)
    assert counted.missing == 0


def test_a_gate_sees_what_a_constructor_holds(segment_dir: Path, tmp_path: Path) -> None:
    check = tmp_path / "check.toml"
    check.write_text('[budget]\npeak = "1 MiB"\nleaks = "0"\n', encoding="utf-8")
    result = run_command("run", "-o", tmp_path / "out", "--budget", check, "--", program())
    assert result.returncode == EXCEEDED, result.stdout + result.stderr
    assert "FAIL  peak  55.1" in result.stderr, result.stderr


def test_a_capture_that_could_not_begin_before_main_says_so(
    segment_dir: Path, tmp_path: Path
) -> None:
    tool = build("own_malloc.c", "-shared", "-fPIC", "-Dmain=unused_main", out="own_malloc.so")
    orders = {"late": [tool, SAMPLER], "early": [SAMPLER, tool]}
    for name, order in orders.items():
        env = environment(segment_dir, rate=1) | {"LD_PRELOAD": " ".join(map(str, order))}
        run_ok([program()], env)
        command_ok("recover", "--all", "-o", tmp_path / name)
    texts = [next(tmp_path.glob(f"{name}.*.heap")).read_text() for name in orders]
    assert [LATE_NOTE in text for text in texts] == [True, False]


# A function in front of one of the C library's, as ThreadSanitizer has them: it works from the
# constructor of its library on.
NOT_READY = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
static int ready;
extern void *reals[];
static void too_early(const char *name) {
    syscall(SYS_write, 2, name, strlen(name));
    __builtin_trap();
}
__attribute__((used)) static void *real(int index, const char *name) {
    if (!ready)
        too_early(name);
    if (reals[index] == NULL)
        reals[index] = dlsym(RTLD_NEXT, name);
    return reals[index];
}
__attribute__((constructor)) static void get_ready(void) { ready = 1; }
"""
STAND_IN = r"""
__asm__(".text\n.globl {name}\n.type {name}, @function\n{name}:\n"
        "push %rdi\npush %rsi\npush %rdx\npush %rcx\npush %r8\npush %r9\npush %rax\n"
        "mov ${index}, %edi\nlea 1f(%rip), %rsi\ncall real\nmov %rax, %r11\n"
        "pop %rax\npop %r9\npop %r8\npop %rcx\npop %rdx\npop %rsi\npop %rdi\njmp *%r11\n"
        "1: .asciz \"{name}\"\n.size {name}, .-{name}");
"""


def callable_since_main() -> list[str]:
    """Functions of other libraries that the sampler may call only once the program runs."""
    rows = [line.split("#")[0].split() for line in IMPORTS.read_text().splitlines()]
    return [row[0] for row in rows if row and row[1] != "-" and row[3] == "main"]


# What else ThreadSanitizer has wrappers for, and neither the program nor the stand-ins call.
WRAPPED = (
    "mmap munmap mprotect madvise open close readlink prctl snprintf getauxval clock_gettime"
    " strrchr strtoull fnmatch pthread_self sysconf"
)


@pytest.fixture(scope="module")
def not_ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library in front of what the sampler must not call before main."""
    names = dict.fromkeys([*callable_since_main(), *WRAPPED.split()])
    stand_ins = [
        STAND_IN.replace("{name}", name).replace("{index}", str(index))
        for index, name in enumerate(name for name in names if not name.startswith("__cxa"))
    ]
    source = tmp_path_factory.mktemp("ready") / "not_ready.c"
    reals = f"void *reals[{len(stand_ins)}];\n"
    source.write_text(NOT_READY + reals + "".join(stand_ins), encoding="utf-8")
    flags = ("-shared", "-fPIC", "-O1", "-fno-builtin")
    return compile_program(source, flags, name="not-ready.so", libs=("-ldl",))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the stand-ins are in its assembly")
@pytest.mark.parametrize("place", ["before us", "behind us"])
@pytest.mark.parametrize("rate", [None, 1])
def test_nothing_of_a_library_that_is_not_ready_is_called(
    place: str, rate: int | None, not_ready: Path, segment_dir: Path
) -> None:
    # Behind us its constructor runs before ours; its functions come first in both places.
    env = environment(segment_dir, rate=rate)
    order = [not_ready, SAMPLER] if place == "before us" else [SAMPLER, not_ready]
    env["LD_PRELOAD"] = " ".join(map(str, order))
    run_ok([program()], env)
    if rate is not None:
        [path] = segments(segment_dir)
        assert Counted.read(path).by("allocate_in_constructor").blocks == CTOR_BLOCKS
