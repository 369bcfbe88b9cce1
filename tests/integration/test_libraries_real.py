"""Memory behind libraries, numpy and torch is charged to the function of the program that asks;
allocators that a library brings along are seen.
"""

import csv
import importlib.util
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest

from c_build import compile_program, prefixed_jemalloc
from controller_tools import ROOT, command_environment, command_ok, run_command
from mem_parser.errors import TargetUnsupported
from mem_parser.libraries.projectfile import NAME
from mem_parser.symbols.elf import ElfImage
from mem_profiler.entries import plan, plan_file
from mem_profiler.entries.symbols import Program
from parser_run import parse, report, told
from sampler_run import build, environment, only_counted, run

pytestmark = [pytest.mark.usefixtures("sampler", "segment_dir"), pytest.mark.timeout(240)]
X86_64_ONLY = pytest.mark.skipif(platform.machine() != "x86_64", reason="x86-64 only")
CACHE = tempfile.TemporaryDirectory()
"""Of names, for all tests of this file."""
SECONDS = "3"
OWNER = "RouteSession::add"
POOL = r"^libstdc\+\+\.so\.6\+0x"  # its constructor, which keeps room for exceptions


@pytest.fixture(scope="module")
def routes() -> Path:
    return compile_program(ROOT / "tests" / "targets" / "routes.cc", ("-O1", "-g"))


def captured(program: Path | str, folder: Path, *arguments: str, rate: str = "1024") -> Path:
    command_ok("run", "-c", rate, "-o", folder / "p", "--", program, *(arguments or (SECONDS,)))
    [file] = folder.glob("p.*.heap")
    return file


@pytest.fixture(scope="module")
def file(routes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return captured(routes, tmp_path_factory.mktemp("routes"))


def parser(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    with chdir(cwd or Path.cwd()):
        return parse(*words, MEM_PROFILER_CACHE=CACHE.name)


def rows(*words: object, cwd: Path | None = None) -> list[dict[str, Any]]:
    """The rows of a report; of bytes in use, although the program has ended, unless told."""
    chosen = words[0] == "leaks" or "--alloc" in words
    done = parser(*words, "--json", *(() if chosen else ("--inuse",)), cwd=cwd)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)["rows"]
    return found


def flat(file: Path, *words: object, cwd: Path | None = None) -> dict[str, float]:
    found = rows("top", file, "-n", "0", "--ignore", POOL, *words, cwd=cwd)
    return {r["function"]: r["flat"] for r in found if r["flat"]}


def test_one_leak_behind_three_containers_is_one_row(file: Path) -> None:
    leaks = [r for r in rows("leaks", file) if r["verdict"] == "leak"]
    apart = [r for r in rows("leaks", file, "--all-frames") if r["verdict"] == "leak"]
    owned = [r for r in leaks if r["stack"][0]["function"] == OWNER]
    assert len(owned) == 1
    assert owned[0]["stacks"] >= 4
    assert {r["stack"][0]["function"] for r in leaks} <= {OWNER, "open_session"}
    below = [r for r in apart if r["stack"][0]["function"].startswith("std::")]
    assert len(below) == owned[0]["stacks"]
    assert owned[0]["bytes"] == pytest.approx(sum(r["bytes"] for r in below))


def test_the_verdict_is_one_sentence_at_both_ends(file: Path) -> None:
    done = parser("leaks", file, "--fail-on", "leak", "--ignore", "open_session")
    lines = done.stdout.splitlines()
    assert done.returncode == 6
    assert lines[0].startswith("1 leak, ")
    assert re.search(rf"/s ± [\d.]+ \S+/s, in {re.escape(OWNER)}, routes\.cc:", lines[0])
    assert lines[-1].endswith("exit code 6 (--fail-on leak)")
    assert lines[0] in (lines[-1].split("   ")[0], lines[-2])


def test_no_bytes_vanish_and_all_frames_are_there_on_request(file: Path) -> None:
    charged, whole = flat(file), flat(file, "--all-frames")
    assert set(charged) == {OWNER, "open_session"}
    assert sum(charged.values()) == pytest.approx(sum(whole.values()))
    names = {r["function"] for r in rows("top", file, "-n", "0", "--all-frames")}
    assert {"std::vector::emplace_back", "operator new"} <= names
    own = rows("summary", file, "-s", "own", "-n", "1")
    assert own[0]["function"] == OWNER


def test_template_arguments_are_whole_on_request(file: Path) -> None:
    names = {r["function"] for r in rows("top", file, "-n", "0", "--all-frames", "--templates")}
    spelled = {name.replace("> >", ">>") for name in names}
    assert "std::vector<Point, std::allocator<Point>>::emplace_back<Point>" in spelled
    assert OWNER in names
    assert flat(file, "--templates") == flat(file)


def test_the_user_and_the_project_say_what_is_a_library(file: Path, tmp_path: Path) -> None:
    callers = {"import_routes", "follow_route", "replay_route", "merge_routes"}
    assert set(flat(file, "--library", "^RouteSession::|^open_session$")) == callers
    (tmp_path / NAME).write_text('library = ["^RouteSession::"]\nprogram = ["^std::map::"]\n')
    assert set(flat(file, cwd=tmp_path)) == callers | {"std::map::operator[]", "open_session"}
    (tmp_path / NAME).write_text("libary = []\n")
    done = parser("top", file, "--inuse", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and NAME in done.stderr
    assert done.stdout == ""


def test_leaks_and_diff_take_the_filters_of_reports(file: Path, routes: Path) -> None:
    assert {
        r["stack"][0]["function"] for r in rows("leaks", file, "--focus", "^open_session$")
    } == {"open_session"}
    hidden = rows("leaks", file, "--hide", "RouteSession")
    assert OWNER not in {f["function"] for r in hidden for f in r["stack"]}
    assert parser("leaks", file, "--focus", "(").returncode == 2
    of_thread = parser("leaks", file, "--json", "--thread", routes.name[:15])
    found = json.loads(of_thread.stdout)
    assert found["rows"] == rows("leaks", file)
    assert any(note.startswith("--thread routes") for note in found["notes"])
    none = rows("diff", file, file, "--ignore", f"open_session|{POOL}")
    assert {r["function"] for r in none} == {OWNER}
    assert {r["function"] for r in rows("diff", file, file, "--focus", "import", "--alloc")} <= {
        OWNER, "open_session",
    }  # fmt: skip
    assert parser("diff", file, file, "--thread", "nobody").returncode == 2


def test_every_report_names_the_wrappers_that_it_found_by_shape(tmp_path: Path) -> None:
    users = [f"use{k}" for k in range(7)]
    source = tmp_path / "wrapped.c"
    source.write_text(
        "#include <stdlib.h>\n#define PLACE __attribute__((noinline, noclone))\n"
        "static void *volatile kept;\n"
        'PLACE void *take(size_t n) { void *p = malloc(n); __asm__(""); return p; }\n'
        + "".join(
            f"PLACE void {name}(void) {{ kept = take({50 + 40 * k}); }}\n"
            for k, name in enumerate(users)
        )
        + "int main(void) { for (int k = 0; k < 500; k++) {"
        + "".join(f" {name}();" for name in users)
        + " } return 0; }\n"
    )
    wrapped = captured(compile_program(source, ("-O1",)), tmp_path, "-", rate="1")
    charged = flat(wrapped)
    assert charged == {name: 500.0 * (50 + 40 * k) for k, name in enumerate(users)}
    for words in (("top", wrapped), ("leaks", wrapped), ("diff", wrapped, wrapped)):
        assert re.search(
            "to whom they pass all they allocate: take$", parser(*words).stdout, re.MULTILINE
        )
    assert set(flat(wrapped, "--all-frames")) != set(charged)


def stacks_of(text: str) -> dict[str, int]:
    return {line.rpartition(" ")[0]: int(line.rpartition(" ")[2]) for line in text.splitlines()}


def test_convert_keeps_libraries_and_takes_the_filters(file: Path, tmp_path: Path) -> None:
    whole = stacks_of(parser("convert", file, "-o", "-", "--to", "collapsed").stdout)
    assert any("std::vector::emplace_back" in stack for stack in whole)
    kept = stacks_of(
        parser("convert", file, "-o", "-", "--to", "collapsed", "--ignore", "import_routes").stdout
    )
    assert kept == {s: n for s, n in whole.items() if "import_routes" not in s}
    text = parser("convert", file, "-o", "-", "--to", "csv", "--hide", "^std::").stdout
    stacks = [row["stack"] for row in csv.DictReader(io.StringIO(text))]
    assert stacks and not any("std::" in stack for stack in stacks)
    part = tmp_path / "part.heap"
    assert parser("convert", file, "-o", part, "--focus", "import_routes").returncode == 0
    assert flat(part) == pytest.approx(flat(file, "--focus", "import_routes"))
    assert parser("convert", file, "-o", tmp_path / "x.heap", "--hide", "std").returncode == 2


def test_pprof_without_hidden_frames_has_all_bytes(file: Path, tmp_path: Path) -> None:
    plain, hidden = tmp_path / "a.pb.gz", tmp_path / "b.pb.gz"
    assert parser("convert", file, "-o", plain).returncode == 0
    assert parser("convert", file, "-o", hidden, "--hide", "^(std::|RouteSession)").returncode == 0
    found = rows("top", hidden, "-n", "0", "--ignore", POOL, "--all-frames")
    assert not any(r["function"].startswith(("std::", "RouteSession")) for r in found)
    before = flat(plain, "--all-frames")
    assert sum(before.values()) == pytest.approx(sum(r["flat"] for r in found))


def test_call_sites_of_a_function_without_a_name_are_one_row(routes: Path, tmp_path: Path) -> None:
    stripped = tmp_path / "routes"
    shutil.copy(routes, stripped)
    subprocess.run(["strip", str(stripped)], check=True, timeout=60)
    found = captured(stripped, tmp_path)
    symbols = ElfImage.open(str(routes)).addresses_of(
        ".symtab", ["_ZN12RouteSession3addEi", "_ZL12open_sessionv"]
    )
    names = {f"routes+0x{address:x}" for address in symbols.values()}
    assert len(names) == 2
    rows_found = flat(found)
    assert names <= set(rows_found)
    # The instances of the containers have no names either; the shared library's have.
    assert len(rows_found) <= 4
    again = flat(found)  # from the cache
    assert again == rows_found


def test_a_string_of_a_rust_program_is_its_functions(tmp_path: Path) -> None:
    compiler = shutil.which("rustc")
    if compiler is None:
        pytest.skip("no Rust compiler")
    source = tmp_path / "shop.rs"
    source.write_text(
        "use std::collections::HashMap;\n"
        "#[inline(never)] fn load(all: &mut HashMap<u32, String>, k: u32) {\n"
        '    all.insert(k, format!("an order with the number {}", k)); }\n'
        "fn main() { let mut all = HashMap::new(); for k in 0..50000 { load(&mut all, k); }\n"
        "    std::mem::forget(all); }\n"
    )
    program = tmp_path / "shop"
    subprocess.run(
        [compiler, "-C", "opt-level=1", "-g", "-o", str(program), str(source)],
        check=True, timeout=120, env=os.environ | {"HOME": os.path.expanduser("~")},
    )  # fmt: skip
    charged = flat(captured(program, tmp_path, "-"))
    assert charged["shop::load"] > 0.99 * sum(charged.values())


def test_an_array_of_numpy_is_not_its_allocators(tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    script = tmp_path / "arrays.py"
    script.write_text(
        "import numpy\nkept = [numpy.empty(20_000) for _ in range(200)]\n"
        "more = [numpy.arange(20_000.0) for _ in range(200)]\n"
        "import os\nos._exit(0)\n"
    )
    found = captured(sys.executable, tmp_path, str(script), rate="65536")
    charged = flat(found, "--focus", "default_malloc|PyDataMem")
    assert charged
    wrappers = ("default_malloc", "PyDataMem", "PyArray_NewFromDescr", "npy_alloc_cache")
    assert not any(name.startswith(wrappers) for name in charged)


LIVE = 30  # blocks that one call of use() keeps
ROOMY = {"GLIBC_TUNABLES": "glibc.rtld.optional_static_tls=16384"}
LINKED = ("-shared", "-fPIC", "-Wl,--exclude-libs,ALL")


def library(*flags: str) -> Path:
    """A library with a jemalloc of its own; its thread-local data is in the static block."""
    libs = (str(prefixed_jemalloc("_pic")), "-lm", "-lpthread", "-ldl")
    return build("led_library.c", *LINKED, *flags, libs=libs, out="libled.so")


@X86_64_ONLY
def test_a_library_is_followed_each_time_it_is_opened(segment_dir: Path) -> None:
    path = library()
    with Program(path) as program:
        made = plan.of_library(program, 0)
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


@X86_64_ONLY
@pytest.mark.parametrize("launcher", [(), ("sh", "-c", '"$@"; exit $?', "sh")])
def test_a_run_of_a_python_sees_the_allocators_of_its_packages(
    tmp_path: Path, package: Path, launcher: tuple[str, ...]
) -> None:
    words = (*launcher, sys.executable, tmp_path / "script.py", package)
    done = run_python(package, "-c", 1, "-o", tmp_path / "p", "--", *words, given="3\n")
    assert done.returncode == 0, done.stderr
    assert in_use_bytes(tmp_path) == int(done.stdout.split()[1])


@X86_64_ONLY
@pytest.mark.parametrize(("limit", "code", "word"), [("30 MiB", 6, "FAIL"), ("100 MiB", 0, "PASS")])
def test_a_budget_has_a_verdict_on_what_such_a_library_takes(
    tmp_path: Path, package: Path, limit: str, code: int, word: str
) -> None:
    # With what the script maps, an allocator that is not seen would leave no verdict.
    (tmp_path / "check.toml").write_text(f'[budget]\npeak = "{limit}"\n')
    words = ("--budget", tmp_path / "check.toml", "-o", tmp_path / "p", "--")
    script = (sys.executable, tmp_path / "script.py", package)
    done = run_python(package, *words, *script, given="700\n")
    assert (done.returncode, word in done.stderr + done.stdout) == (code, True), done.stderr


@X86_64_ONLY
def test_an_attach_sees_the_allocator_of_a_library_that_is_there(
    tmp_path: Path, package: Path
) -> None:
    words = [sys.executable, tmp_path / "script.py", package]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(words, text=True, **pipes) as target:  # type: ignore[call-overload]
        try:
            assert target.stdout.readline() == "ready\n"
            command_ok("attach", "-c", 1, target.pid)
            print(3, file=target.stdin, flush=True)
            ledger = int(target.stdout.readline())
            command_ok("stop", target.pid, "-o", tmp_path / "p")
            assert run_command("detach", target.pid).returncode == 0
            print(1, file=target.stdin, flush=True)
            assert int(target.stdout.readline()) == ledger // 3 * 4
        finally:
            target.kill()
    assert in_use_bytes(tmp_path) == ledger


@X86_64_ONLY
def test_a_library_with_copies_in_its_callers_is_left_alone(tmp_path: Path) -> None:
    source = tmp_path / "copied.c"
    source.write_text(COPIED)
    path = compile_program(source, ("-O1", "-shared", "-fPIC", "-Wl,-Bsymbolic"))
    said = "copied functions of mimalloc into arrow_release"
    with Program(path) as program, pytest.raises(TargetUnsupported, match=said):
        plan.of_library(program, 0)


needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed: pip install .[torch]"
)
MIB = 1 << 20
ARRAYS = """\
import numpy as np
kept = []
def make():
    kept.append(np.zeros(1 << 20))
    kept.append(kept[0] + 1)
    kept.append(np.concatenate([kept[0], kept[1]]))
    kept.append(kept[0].astype(np.float32))
    kept.append(np.sort(kept[0]))
make()
"""
ARRAYS_MIB = {4: 8, 5: 8, 6: 16, 7: 4, 8: 8}
TRAINING = """\
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.steps = nn.Sequential(nn.Linear(64, 4096), nn.GELU())
        self.image = nn.Conv2d(1, 16, 3, padding=1)

    def forward(self, x, y):
        return self.steps(x) + 1, self.image(y)

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = Block()
        self.block.register_forward_hook(lambda *_: None)

    @torch.no_grad()
    def forward(self, x, y):
        return self.block(x, y)

def train():
    model, kept = Model(), []
    for _ in range(4):
        kept.append(model(torch.ones(256, 64), torch.ones(16, 1, 64, 64)))
    model.train()
    out, _ = model.block(torch.ones(256, 64), torch.ones(1, 1, 64, 64))
    kept.append(out)
    out.sum().backward()
    return kept

kept = train()
"""


def captured_script(text: str, folder: Path) -> Path:
    script = folder / "prog" / "app.py"
    script.parent.mkdir()
    script.write_text(text)
    heap = folder / "out.heap"
    command_ok("run", "-c", "64K", "-o", heap, "--", sys.executable, script)
    return heap


def rows_of(*words: object) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(told(*words, "--json", "-n", "0"))["rows"]
    return found


def test_arrays_count_for_the_line_that_makes_them(tmp_path: Path) -> None:
    heap = captured_script(ARRAYS, tmp_path)
    found = {
        r.get("line"): r for r in rows_of("top", heap, "--lines", "--alloc", "--focus", "^make$")
    }
    for line, mib in ARRAYS_MIB.items():
        row = found[line]
        assert row["function"] == "make (prog/app.py)"
        assert row["flat"] == pytest.approx(mib * MIB, rel=0.05)


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return captured_script(TRAINING, tmp_path_factory.mktemp("torch"))


@needs_torch
def test_tensors_count_for_the_layer_or_the_programs_own_forward(training: Path) -> None:
    def owned(*options: str) -> dict[str, float]:
        found = rows_of("top", training, "--alloc", "--focus", "^train$", *options)
        return {r["function"]: r["flat"] / MIB for r in found if r["flat"] >= MIB}

    plain, folded = owned(), owned("--nn-modules")
    # Five results of 256 x 4096 floats of each of Linear, GELU and the addition.
    assert plain["Block.forward (prog/app.py)"] > 60
    # Kernels take memory of their own for a while.
    for layer in ("Linear() (modules/linear.py)", "GELU() (modules/activation.py)"):
        assert 19 < folded[layer] < 30
    assert 19 < folded["Block() (prog/app.py)"] < 30
    assert folded["Conv2d() (modules/conv.py)"] >= 15
    assert not any("forward" in name for name in folded)


@needs_torch
def test_the_stack_of_a_model_reads_as_the_model(training: Path) -> None:
    text = told("tree", training, "--nn-modules", "--alloc", "--focus", r"^Linear\(\)$", "-n", 0)
    names = ("train (prog", "Model() (", "Block() (", "Sequential() (", "Linear() (")
    places = [text.index(name) for name in names]
    assert places == sorted(places)
    for name in ("_call_impl", "decorate_context", ".forward"):
        assert name not in text
