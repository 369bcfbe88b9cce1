"""Small objects of real CPythons, by hooks of their allocators: each block once, with its bytes."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

from pythons import any_interpreter, blocks_library, interpreter, of_versions, system_interpreter
from sampler_run import (
    SAMPLER,
    Controller,
    Counted,
    Counts,
    Target,
    environment,
    only_counted,
    run,
    run_ok,
    segments,
)

pytestmark = pytest.mark.usefixtures("sampler")

DOMAINS = ("raw", "mem", "object")
KINDS = ("malloc", "calloc", "realloc")
LOAD = """
import ctypes, sys
library = ctypes.PyDLL(sys.argv[1])
def call(name, *numbers):
    function = getattr(library, name)
    function.restype = None
    function(*map(ctypes.c_size_t, numbers))
"""
ALL_BLOCKS = LOAD + (
    "for d in ('raw', 'mem', 'object'):\n"
    "    for k in ('malloc', 'calloc', 'realloc'):\n"
    "        call(f'{d}_{k}_blocks', 10, 100, 3)\n"
    "        call(f'{d}_{k}_blocks', 10, 600, 2)\n"
    "call('object_growing_blocks', 50)\n"
    "call('object_refused_block')\n"
)
# 10 of 100 bytes and 10 of 600; of each kind some stay.
EACH = Counts(20, 10 * 100 + 10 * 600, 5, 3 * 100 + 2 * 600)


def names_of_blocks() -> list[tuple[str, str]]:
    prefix = {"raw": "PyMem_Raw", "mem": "PyMem_", "object": "PyObject_"}
    return [
        (f"{domain}_{kind}_blocks", f"{prefix[domain]}{kind.capitalize()}")
        for domain in DOMAINS
        for kind in KINDS
    ]


def of_sizes(counted: Counted, function: str, *sizes: int) -> Counts:
    """Blocks of these sizes under a function; tracemalloc's records about them have others."""
    total = Counts()
    for stack in counted.stacks:
        if function in stack.names and stack.counts.bytes / stack.counts.blocks in sizes:
            total.add(stack.counts)
    return total


def check_all_blocks(counted: Counted) -> None:
    for function, _ in names_of_blocks():
        assert of_sizes(counted, function, 100, 600) == EACH, function
    grown = of_sizes(counted, "object_growing_blocks", 50, 100, 2000)
    assert grown == Counts(150, 50 * (100 + 2000 + 50), 0, 0)
    assert of_sizes(counted, "object_refused_block", 100) == Counts(1, 100, 1, 100)
    assert counted.control.number("pymem_ns") != 0


def counted_run(
    python: Path, code: str, folder: Path, *, rate: int = 1, **variables: str
) -> Counted:
    env = environment(folder, rate=rate) | {"PYTHONHASHSEED": "0"} | variables
    run_ok([python, "-S", "-c", code, blocks_library()], env)
    return only_counted(folder)


@pytest.mark.parametrize("version", of_versions(ends=True))
def test_every_block_of_each_allocator_is_counted_once(version: str, segment_dir: Path) -> None:
    counted = counted_run(interpreter(version), ALL_BLOCKS, segment_dir)
    check_all_blocks(counted)
    assert counted.missing == 0
    for function, hook in names_of_blocks():
        assert counted.under(function) == EACH
        hooks = {stack.names[0] for stack in counted.stacks if stack.names[1:2] == [function]}
        assert hooks == {hook}, function


def test_an_interpreter_inside_the_program_is_found_as_well(segment_dir: Path) -> None:
    check_all_blocks(counted_run(system_interpreter(), ALL_BLOCKS, segment_dir))


@pytest.mark.parametrize("version", of_versions())
@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PYTHONMALLOC", "malloc"),
        ("PYTHONMALLOC", "debug"),
        ("PYTHONTRACEMALLOC", "5"),
        # What an interpreter chooses itself, and the debug hooks once more.
        pytest.param("PYTHONMALLOC", "pymalloc", marks=pytest.mark.soak),
        pytest.param("PYTHONDEVMODE", "1", marks=pytest.mark.soak),
    ],
)
def test_allocators_that_the_program_chooses_stay_behind_the_hooks(
    version: str, variable: str, value: str, segment_dir: Path
) -> None:
    python = interpreter(version)
    check_all_blocks(counted_run(python, ALL_BLOCKS, segment_dir, **{variable: value}))


def test_mimalloc_stays_behind_the_hooks(segment_dir: Path) -> None:
    python = interpreter("3.13")
    check_all_blocks(counted_run(python, ALL_BLOCKS, segment_dir, PYTHONMALLOC="mimalloc"))


@pytest.mark.parametrize("version", of_versions())
def test_a_whole_program_has_the_blocks_that_it_has_without_pymalloc(
    version: str, segment_dir: Path, tmp_path: Path
) -> None:
    python = interpreter(version)
    code = "import json; kept = [json.dumps({'a': [n, str(n)] * 5}) for n in range(2000)]"
    hooked = counted_run(python, code, segment_dir)
    env = environment(tmp_path, rate=1, pymem="0") | {"PYTHONHASHSEED": "0"}
    env |= {"PYTHONMALLOC": "malloc"}
    assert run([python, "-S", "-c", code, blocks_library()], env).returncode == 0
    plain = only_counted(tmp_path)
    assert plain.control.number("pymem_ns") == 0
    ours, theirs = hooked.total(), plain.total()
    # pymalloc keeps a few tables of its regions; one environment has a variable more.
    assert abs(ours.blocks - theirs.blocks) < 30
    assert abs(ours.bytes - theirs.bytes) < 64 << 10
    assert abs(ours.live_blocks - theirs.live_blocks) < 30


def test_tracemalloc_and_the_sampler_agree(segment_dir: Path) -> None:
    code = (
        LOAD + "import tracemalloc\n"
        "def kept():\n    return [bytes(n % 900 + 1) for n in range(5000)]\n"
        "tracemalloc.start(1)\n"
        "first = tracemalloc.get_traced_memory()[0]\n"
        "call('mem_malloc_blocks', 0, 0, 0)\n"
        "many = kept()\n"
        "print(tracemalloc.get_traced_memory()[0] - first)\n"
        "call('object_malloc_blocks', 100, 77, 100)\n"
        "tracemalloc.stop()\n"
        "call('object_malloc_blocks', 100, 77, 100)\n"
        "call('drop_all')\n"
    )
    env = environment(segment_dir, rate=1)
    done = run_ok([any_interpreter(), "-S", "-c", code, blocks_library()], env)
    counted = only_counted(segment_dir)
    found = of_sizes(counted, "object_malloc_blocks", 77)
    assert found == Counts(200, 200 * 77, 0, 0)
    # What tracemalloc traced is in blocks; the sampler saw these and more.
    assert counted.total().bytes > int(done.stdout)


THREADS = {
    "without the interpreter's lock": (
        "call('raw_threads', 8, 5000)\n",
        "raw_malloc_blocks",
        Counts(8 * 5000, 8 * 5000 * 600, 0, 0),
    ),
    "of Python": (
        (
            "import threading\n"
            "one = lambda: [call('object_malloc_blocks', 100, 64, 0) for _ in range(50)]\n"
            "many = [threading.Thread(target=one) for _ in range(6)]\n"
            "for thread in many: thread.start()\n"
            "for thread in many: thread.join()\n"
        ),
        "object_malloc_blocks",
        Counts(6 * 50 * 100, 6 * 50 * 100 * 64, 0, 0),
    ),
}


@pytest.mark.parametrize("kind", THREADS)
def test_threads_count_each_block(kind: str, segment_dir: Path) -> None:
    code, function, expected = THREADS[kind]
    assert counted_run(any_interpreter(), LOAD + code, segment_dir).under(function) == expected


@pytest.mark.parametrize("followed", [True, False])
def test_a_fork_child_has_the_hooks_of_its_parent_or_only_forwards(
    followed: bool, segment_dir: Path
) -> None:
    code = LOAD + (
        "import os\n"
        "call('object_malloc_blocks', 10, 100, 10)\n"
        "pid = os.fork()\n"
        "call('object_malloc_blocks', *((7, 50, 7) if pid == 0 else (5, 100, 5)))\n"
        "call('drop_all')\n"
        "if pid: sys.exit(os.waitpid(pid, 0)[1])\n"
    )
    env = environment(segment_dir, rate=1, follow_fork=str(int(followed)))
    run_ok([any_interpreter(), "-S", "-c", code, blocks_library()], env)
    files = {
        bool(c.control.number("parent_pid")): c for c in map(Counted.read, segments(segment_dir))
    }
    assert len(files) == 1 + followed
    assert files[False].under("object_malloc_blocks") == Counts(15, 1500, 0, 0)
    if followed:
        assert files[True].under("object_malloc_blocks") == Counts(7, 350, 0, 0)
        assert files[True].control.number("pymem_ns") != 0


@pytest.mark.parametrize("version", of_versions())
def test_estimates_of_small_and_passed_on_blocks_have_no_bias(
    version: str, segment_dir: Path
) -> None:
    # 600 bytes go through three hooks, 60 through one.
    code = LOAD + (
        "for _ in range(100):\n"
        "    call('object_malloc_blocks', 400, 60, 0)\n"
        "    call('object_malloc_blocks', 400, 600, 0)\n"
        "    call('raw_malloc_blocks', 400, 600, 0)\n"
    )
    rate = 2000
    counted = counted_run(interpreter(version), code, segment_dir, rate=rate)
    for function, size in (("object_malloc_blocks", 60), ("object_malloc_blocks", 600),
                           ("raw_malloc_blocks", 600)):  # fmt: skip
        found = of_sizes(counted, function, size).blocks
        p = 1 - np.exp(-size / rate)
        assert abs(found - 40000 * p) < 5 * np.sqrt(40000 * p * (1 - p)), (function, size)


def test_blocks_from_before_a_capture_are_freed_in_it_and_the_reverse(segment_dir: Path) -> None:
    code = LOAD + ("for line in sys.stdin:\n    call(*eval(line))\n    print('done', flush=True)\n")
    env = environment(segment_dir)
    python = any_interpreter()
    with Target([python, "-S", "-u", "-c", code, blocks_library()], env) as target:
        target.ask("('object_malloc_blocks', 50, 100, 50)")
        with Controller(target) as controller:
            number = controller.start(1)
            target.ask("('drop_all',)")
            target.ask("('object_malloc_blocks', 40, 100, 40)")
            target.ask("('raw_malloc_blocks', 30, 100, 30)")
            first = controller.stop(number)
            target.ask("('drop_all',)")
            number = controller.start(1)
            target.ask("('object_malloc_blocks', 40, 100, 0)")
            second = controller.stop(number)
        target.finish()
    assert first.under("object_malloc_blocks") == Counts(40, 4000, 40, 4000)
    assert first.under("raw_malloc_blocks") == Counts(30, 3000, 30, 3000)
    assert second.under("object_malloc_blocks") == Counts(40, 4000, 0, 0)


EMBEDDING = r"""
#include <Python.h>
int main(void) {
    for (int i = 0; i < 3; i++) {
        Py_InitializeEx(0);
        void *p = PyObject_Malloc(111);
        if (PyRun_SimpleString("kept = [str(n) * 3 for n in range(1000)]") != 0)
            return 1;
        PyObject_Free(p);
        if (Py_FinalizeEx() != 0)
            return 2;
    }
    return 0;
}
"""


def build_embedding(python: Path, folder: Path) -> Path:
    """A program that links libpython; skipped where that has no headers."""
    real = python.resolve()
    [*headers] = (real.parents[1] / "include").glob("python3.*/Python.h")
    [*libraries] = (real.parents[1] / "lib").glob("libpython3.[0-9]*.so")
    if not headers or not libraries:
        pytest.skip("no headers, or no libpython")
    source, program = folder / "embedding.c", folder / "embedding"
    source.write_text(EMBEDDING)
    name = re.sub(r"^lib|\.so$", "", libraries[0].name)
    run_ok(
        ["gcc", "-O1", source, f"-I{headers[0].parent}", f"-L{libraries[0].parent}", f"-l{name}",
         f"-Wl,-rpath,{libraries[0].parent}", "-o", program]
    )  # fmt: skip
    return program


@pytest.mark.parametrize("version", of_versions())
def test_an_interpreter_that_begins_again_has_the_hooks_again(
    version: str, segment_dir: Path, tmp_path: Path
) -> None:
    program = build_embedding(interpreter(version), tmp_path)
    run_ok([program], environment(segment_dir, rate=1) | {"PYTHONHASHSEED": "0"})
    counted = only_counted(segment_dir)
    own = sum(s.counts.blocks for s in counted.stacks if s.names[:2] == ["PyObject_Malloc", "main"])
    assert own == 3
    # Finalization freed nearly everything, through the hooks.
    total = counted.total()
    assert total.live_blocks < total.blocks * 0.2


def test_a_program_without_an_interpreter_has_no_hooks_of_one(segment_dir: Path) -> None:
    assert run(["/bin/ls", "/"], environment(segment_dir, rate=1)).returncode == 0
    assert only_counted(segment_dir).control.number("pymem_ns") == 0


def test_an_interpreter_that_is_opened_later_gets_the_hooks(
    segment_dir: Path, tmp_path: Path
) -> None:
    [*libraries] = (any_interpreter().resolve().parents[1] / "lib").glob("libpython3.[0-9]*.so")
    if not libraries:
        pytest.skip("no libpython")
    source, program = tmp_path / "opening.c", tmp_path / "opening"
    source.write_text(
        "#include <dlfcn.h>\n"
        "int main(int argc, char **argv) {\n"
        "    void *python = dlopen(argv[argc - 1], RTLD_NOW | RTLD_GLOBAL);\n"
        '    ((void (*)(int))dlsym(python, "Py_InitializeEx"))(0);\n'
        '    int (*run)(const char *) = dlsym(python, "PyRun_SimpleString");\n'
        '    return run("import json") | ((int (*)(void))dlsym(python, "Py_FinalizeEx"))();\n'
        "}\n"
    )
    run_ok(["gcc", "-O1", source, "-o", program, "-ldl"], {**os.environ})
    env = environment(segment_dir, rate=1) | {"PYTHONHOME": str(libraries[0].parents[1])}
    run_ok([program, libraries[0]], env)
    counted = only_counted(segment_dir)
    assert counted.control.number("pymem_ns") != 0
    hooks = [stack.names[0] for stack in counted.stacks]
    assert hooks.count("PyObject_Malloc") > 100


def test_the_option_leaves_the_allocators_alone(segment_dir: Path) -> None:
    env = environment(segment_dir, rate=1, pymem="0")
    run_ok([any_interpreter(), "-S", "-c", ALL_BLOCKS, blocks_library()], env)
    counted = only_counted(segment_dir)
    assert counted.control.number("pymem_ns") == 0
    assert counted.under("mem_malloc_blocks").blocks == 10  # those above 512 bytes
    wrong = run(["/bin/true"], environment(segment_dir, rate=1, pymem="no"))
    assert "MEM_PROFILER_PYMEM=no: expected 0 or 1" in wrong.stderr
    assert SAMPLER.exists()
