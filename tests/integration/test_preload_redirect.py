"""Whatever allocator there is and wherever it stands, each block is seen once, or it says why not;
also before the program's main.

Model: redirect.cc allocates from each entry point in a function of its own (redirect_facts.py). At
rate 1 the capture must hold exactly those blocks, in whatever way the program was linked and in
whatever order allocator and sampler were loaded. For constructors the oracle is a plain counter
beneath the sampler (tests/support/beneath.py).
"""

import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

import beneath
from c_build import ROOT, compile_program
from controller_tools import command_ok, run_command
from mem_profiler.entries import plan, plan_file
from mem_profiler.profile.build import LATE_NOTE
from redirect_facts import (
    ALLOCATORS,
    FAMILY,
    LIBRARIES,
    LINKING,
    NEW,
    NEW_OF_LIBSTDCXX,
    PLUGIN,
    check,
    check_own,
    needs,
    plugin_of,
    text,
    under,
)
from sampler_run import (
    SAMPLER,
    WAIT_S,
    Counted,
    Counts,
    Target,
    build,
    environment,
    only_counted,
    run,
    run_ok,
    segments,
)

READY, SHADOWED = 1, 2


def seen(folder: Path, *argv: str | Path, preload: Sequence[str | Path] = (SAMPLER,)) -> Counted:
    """What a program has allocated, with exactly these libraries preloaded."""
    env = environment(folder, rate=1) | {"LD_PRELOAD": " ".join(map(str, preload))}
    run_ok(argv, env)
    return only_counted(folder)


def in_order(library: str | Path, order: str) -> list[str | Path]:
    return [library, SAMPLER] if order == "before" else [SAMPLER, library]


in_each_order = pytest.mark.parametrize("order", ["before", "after"])


@in_each_order
@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_preloaded_allocator_is_seen_completely_and_once(
    segment_dir: Path, allocator: str, order: str
) -> None:
    library = LIBRARIES[allocator]
    counted = seen(segment_dir, build("redirect.cc"), preload=in_order(library, order))

    check(counted, FAMILY | NEW)
    check_own(counted, allocator)
    assert under(counted, "by_realloc") == (20, 10 * 114, 6)
    assert library in text(counted, "allocator")


@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_linked_allocator_is_seen_completely_and_once(segment_dir: Path, allocator: str) -> None:
    library = f"-l:{LIBRARIES[allocator]}"
    program = build("redirect.cc", libs=(library, "-ldl"), out=f"redirect-{allocator}")

    counted = seen(segment_dir, program)
    check(counted, FAMILY | NEW)
    check_own(counted, allocator)


@pytest.mark.parametrize("from_malloc", [False, True])
def test_a_mimalloc_beside_the_malloc_of_the_c_library_is_seen_once(
    segment_dir: Path, from_malloc: bool
) -> None:
    flags = ("-DFROM_MALLOC",) if from_malloc else ()
    out = f"beside{len(flags)}"
    library = build("mimalloc_beside.c", "-shared", "-fPIC", *flags, out=f"libmi-{out}.so")
    needed = ("-Wl,--no-as-needed", str(library), "-Wl,--as-needed", "-ldl")
    program = build("redirect.cc", libs=needed, out=f"redirect-{out}")
    own = {"by_mi_malloc": 115, "by_mi_calloc": 116}
    check(seen(segment_dir, program), FAMILY | NEW_OF_LIBSTDCXX | own)


@pytest.mark.parametrize(
    ("before", "sizes"),
    [
        pytest.param([LIBRARIES["jemalloc"]], FAMILY | NEW, marks=needs["jemalloc"], id="jemalloc"),
        pytest.param([], FAMILY | NEW_OF_LIBSTDCXX, id="the C library"),
    ],
)
@pytest.mark.parametrize("linking", LINKING)
def test_every_way_of_linking_is_redirected(
    segment_dir: Path, linking: str, before: list[str], sizes: dict[str, int]
) -> None:
    program = build("redirect.cc", *LINKING[linking], out=f"redirect-{linking}")

    check(seen(segment_dir, program, preload=[*before, SAMPLER]), sizes)


@needs["jemalloc"]
@in_each_order
@pytest.mark.parametrize(
    ("linking", "how"),
    [("full-relro", ""), ("lazy", ""), ("no-plt", ""), ("full-relro", "deepbind")],
)
def test_library_opened_later_is_redirected_too(
    segment_dir: Path, linking: str, how: str, order: str
) -> None:
    """One that is opened with deepbind goes on working."""
    words = [build("redirect.cc"), plugin_of(linking), *how.split()]
    counted = seen(segment_dir, *words, preload=in_order(LIBRARIES["jemalloc"], order))

    check(counted, FAMILY | NEW | ({} if how else PLUGIN))


@needs["jemalloc"]
@pytest.mark.parametrize("linking", ["full-relro", "lazy", "no-relro"])
def test_threads_that_open_and_close_libraries_go_on_working(
    segment_dir: Path, linking: str
) -> None:
    libraries = " ".join(map(str, in_order(LIBRARIES["jemalloc"], "before")))
    env = environment(segment_dir, rate=4096) | {"LD_PRELOAD": libraries}

    result = run([build("redirect_threads.c"), plugin_of(linking)], env)

    assert (result.returncode, result.stdout) == (0, "joined\n"), result.stderr


@pytest.mark.parametrize(
    ("tool", "flags", "order"),
    [
        ("own_malloc.c", ("-Dmain=unused_main",), "before"),
        ("chain.c", (), "before"),
        ("chain.c", (), "after"),
    ],
)
def test_tools_that_forward_or_have_no_operators_are_seen_once(
    segment_dir: Path, tool: str, flags: tuple[str, ...], order: str
) -> None:
    """A bump allocator before us forwards nothing, and new and delete are libstdc++'s."""
    library = build(tool, "-shared", "-fPIC", *flags, out=f"{tool[:-2]}.so")

    counted = seen(segment_dir, build("redirect.cc"), preload=in_order(library, order))

    check(counted, FAMILY | NEW_OF_LIBSTDCXX)


def test_tool_that_forwards_only_some_blocks_is_named(segment_dir: Path) -> None:
    tool = build("chain.c", "-shared", "-fPIC", "-DTAKES_LARGE", out="chain-large.so")
    env = environment(segment_dir) | {"LD_PRELOAD": f"{tool} {SAMPLER}"}
    with Target.started([build("blocks.c")], env) as target:
        counted = target.counted()
        assert counted.control["state"] == SHADOWED
        assert text(counted, "state_text") == str(tool)


def test_malloc_inside_the_program_is_named(segment_dir: Path) -> None:
    program = build("own_malloc.c", "-rdynamic")
    with Target.started([program], environment(segment_dir)) as target:
        counted = target.counted()
        assert counted.control["state"] == SHADOWED
        assert text(counted, "state_text") == str(program)


def static_jemalloc(*flags: str) -> Path:
    """A program with jemalloc linked into it."""
    libs = ("-Wl,-Bstatic", "-ljemalloc", "-lstdc++", "-Wl,-Bdynamic", "-lm", "-lpthread", "-ldl")
    return build("blocks.c", *flags, libs=libs, out=f"static_jemalloc{len(flags)}")


@pytest.mark.parametrize("flags", [("-rdynamic",), ()])
def test_malloc_inside_the_program_is_seen_by_a_plan(
    segment_dir: Path, flags: tuple[str, ...]
) -> None:
    """`run` decodes the functions beforehand; the sampler follows them from the first call on."""
    program = static_jemalloc(*flags)
    made = plan.of_program(program, 0)
    fd = plan_file.sealed(made.data)
    env = environment(segment_dir, rate=1, plan=f"fd:{fd}")
    with Target([program], env, pass_fds=[fd]) as target:
        os.close(fd)
        assert target.line() == "ready"
        assert target.ask("alloc 1000 100") == "done"
        assert target.ask("churn 500 100") == "done"
        counted = target.counted()
        assert counted.control["state"] == READY
        assert counted.by("alloc_kept") == Counts(1000, 100000, 1000, 100000)
        assert counted.by("alloc_churned") == Counts(500, 50000, 0, 0)


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
