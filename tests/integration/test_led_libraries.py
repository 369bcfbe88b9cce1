"""An allocator that a library brings along is seen from the library's opening to its closing."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from c_build import compile_program, prefixed_jemalloc
from controller_tools import command_environment, run_command
from mem_parser.errors import TargetUnsupported
from mem_profiler import inprocess
from mem_profiler.entries import plan, plan_file
from mem_profiler.entries.symbols import Program
from parser_run import report
from sampler_run import build, environment, only_counted, run

LIVE = 30  # blocks that one call of use() keeps
ROOMY = {"GLIBC_TUNABLES": "glibc.rtld.optional_static_tls=16384"}
LINKED = ("-shared", "-fPIC", "-Wl,--exclude-libs,ALL")

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="x86-64 only")


def library(*flags: str) -> Path:
    """A library with a jemalloc of its own; its thread-local data is in the static block."""
    libs = (str(prefixed_jemalloc("_pic")), "-lm", "-lpthread", "-ldl")
    return build("led_library.c", *LINKED, *flags, libs=libs, out="libled.so")


def test_a_library_is_followed_each_time_it_is_opened(segment_dir: Path) -> None:
    path = library()
    with Program(path) as program:
        made = plan.of_library(program, 0)
    assert made is not None
    fd = plan_file.sealed(made.data)
    try:
        env = environment(segment_dir, rate=1, plan=f"fd:{fd}") | ROOMY
        opener = build("led_library.c", "-DPROGRAM", out="led")
        done = run([opener, path], env, pass_fds=[fd])
    finally:
        os.close(fd)
    assert (done.returncode, done.stderr) == (0, "")
    counted = only_counted(segment_dir)
    ledgers = [int(word) for word in done.stdout.split()]
    assert len(ledgers) == 3
    counts = counted.under("use")
    assert (counts.live_blocks, counts.live_bytes) == (3 * LIVE, sum(ledgers))


COPIED = """
__attribute__((noinline)) void mi_free_generic_mt(void *p) { __asm__("" : : "r"(p)); }
__attribute__((noinline)) void *mi_malloc(unsigned long n) { return (void *)n; }
__attribute__((noinline)) void mi_free(void *p) { mi_free_generic_mt(p); }
void arrow_release(void *p) { if (p) mi_free_generic_mt(p); }
"""
SCRIPT = """
import ctypes, mmap, os, sys, time
mapped = mmap.mmap(-1, 40 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
mapped.write(bytes(40 << 20))
library = ctypes.CDLL(sys.argv[1])
library.ledger.restype = ctypes.c_size_t
print("ready", flush=True)
for line in sys.stdin:
    for _ in range(int(line)):
        library.use()
    print(library.ledger(), flush=True)
time.sleep(1)  # for some readings
os._exit(0)
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same library, as large as Arrow's, in a package that Python finds."""
    package = tmp_path / "packages" / "led"
    package.mkdir(parents=True)
    shutil.copy(library("-DLARGE"), package / "libled.so")
    (tmp_path / "script.py").write_text(SCRIPT)
    for name, value in ROOMY.items():
        monkeypatch.setenv(name, value)
    return package / "libled.so"


def run_python(package: Path, *words: object, given: str) -> subprocess.CompletedProcess[str]:
    """Run mem_profiler with a folder of packages beside those of this tree."""
    folders = (package.parents[1], command_environment()["PYTHONPATH"])
    paths = os.pathsep.join(map(str, folders))
    return run_command("run", *words, variables={"PYTHONPATH": paths}, input=given)


def in_use_bytes(folder: Path) -> float:
    """What the one profile in a folder has in use below the library's function."""
    [path] = folder.glob("*.heap")
    rows = report("top", "--inuse", "--focus", "^use$", "--all-frames", "-n", 0, path)["rows"]
    return sum(row["flat"] for row in rows)


@pytest.mark.parametrize("launcher", [(), ("sh", "-c", '"$@"; exit $?', "sh")])
def test_a_run_of_a_python_sees_the_allocators_of_its_packages(
    tmp_path: Path, package: Path, launcher: tuple[str, ...]
) -> None:
    words = (*launcher, sys.executable, tmp_path / "script.py", package)
    done = run_python(package, "-c", 1, "-o", tmp_path / "p", "--", *words, given="3\n")
    assert done.returncode == 0, done.stderr
    assert in_use_bytes(tmp_path) == int(done.stdout.split()[1])


@pytest.mark.parametrize(("limit", "code", "word"), [("30 MiB", 6, "FAIL"), ("150 MiB", 0, "PASS")])
def test_a_budget_has_a_verdict_on_what_such_a_library_takes(
    tmp_path: Path, package: Path, limit: str, code: int, word: str
) -> None:
    # With what the script maps, an allocator that is not seen would leave no verdict.
    (tmp_path / "check.toml").write_text(f'[budget]\npeak = "{limit}"\n')
    words = ("--budget", tmp_path / "check.toml", "-o", tmp_path / "p", "--")
    script = (sys.executable, tmp_path / "script.py", package)
    done = run_python(package, *words, *script, given="700\n")
    assert (done.returncode, word in done.stderr + done.stdout) == (code, True), done.stderr


def test_an_attach_sees_the_allocator_of_a_library_that_is_there(
    tmp_path: Path, package: Path
) -> None:
    words = [sys.executable, tmp_path / "script.py", package]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(words, text=True, **pipes) as target:  # type: ignore[call-overload]
        try:
            assert target.stdout.readline() == "ready\n"
            done = run_command("attach", "-c", 1, target.pid)
            assert done.returncode == 0, done.stderr
            print(3, file=target.stdin, flush=True)
            ledger = int(target.stdout.readline())
            done = run_command("stop", target.pid, "-o", tmp_path / "p")
            assert done.returncode == 0, done.stderr
            assert run_command("detach", target.pid).returncode == 0
            print(1, file=target.stdin, flush=True)
            assert int(target.stdout.readline()) == ledger // 3 * 4
        finally:
            target.kill()
    assert in_use_bytes(tmp_path) == ledger


INSIDE = """
import ctypes, sys
from mem_profiler import Tracker, inprocess

def opened():
    library = ctypes.CDLL(sys.argv[1])
    library.ledger.restype = ctypes.c_size_t
    return library

early = opened() if sys.argv[2] == "opened before" else None
for path in sys.argv[4:]:
    tracked = sys.argv[3].startswith("Tracker")
    with Tracker(path, rate=1) if tracked else inprocess.capture(path, rate_bytes=1):
        library = opened()
        before = library.ledger()
        for _ in range(3):
            library.use()
        print(library.ledger() - before)
    library.use()
"""


@pytest.mark.parametrize("how", ["Tracker", "Tracker, preloaded", "capture"])
@pytest.mark.parametrize("when", ["opened before", "opened inside"])
@pytest.mark.usefixtures("quick_helper")
def test_a_program_that_captures_itself_sees_the_allocator_of_a_library(
    tmp_path: Path, package: Path, when: str, how: str
) -> None:
    paths = [tmp_path / name / "out.heap" for name in ("first", "again")]
    for path in paths:
        path.parent.mkdir()
    env = command_environment() | ({} if how == "Tracker" else inprocess.environment())
    if when == "opened inside":
        env["PYTHONPATH"] = os.pathsep.join((str(package.parents[1]), env["PYTHONPATH"]))
    done = subprocess.run(
        [sys.executable, "-c", INSIDE, package, when, how, *paths],
        env=env, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ledgers = [int(word) for word in done.stdout.split()]
    assert [in_use_bytes(path.parent) for path in paths] == ledgers


def test_a_library_with_copies_in_its_callers_is_left_alone(tmp_path: Path) -> None:
    source = tmp_path / "copied.c"
    source.write_text(COPIED)
    path = compile_program(source, ("-O1", "-shared", "-fPIC", "-Wl,-Bsymbolic"))
    said = "copied functions of mimalloc into arrow_release"
    with Program(path) as program, pytest.raises(TargetUnsupported, match=said):
        plan.of_library(program, 0)
