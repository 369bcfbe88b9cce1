"""Real programs whose memory is behind libraries: charged to the function of theirs that asked."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest

from c_build import compile_program
from controller_tools import ROOT, run_command
from mem_parser.libraries.projectfile import NAME
from mem_parser.symbols.elf import ElfImage
from parser_run import parse

pytestmark = [pytest.mark.usefixtures("sampler"), pytest.mark.timeout(150)]
CACHE = tempfile.TemporaryDirectory()
"""Of names, for all tests of this file."""
SECONDS = "3"
OWNER = "RouteSession::add"
POOL = r"^libstdc\+\+\.so\.6\+0x"  # its constructor, which keeps room for exceptions


@pytest.fixture(scope="module")
def routes() -> Path:
    return compile_program(ROOT / "tests" / "targets" / "routes.cc", ("-O1", "-g"))


def captured(program: Path | str, folder: Path, *arguments: str, rate: str = "1024") -> Path:
    done = run_command(
        "run", "-c", rate, "-o", folder / "p", "--", program, *(arguments or (SECONDS,))
    )
    assert done.returncode == 0, done.stderr
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
    for words in (("top", wrapped), ("diff", wrapped, wrapped)):
        assert re.search(
            "to whom they pass all they allocate: take$", parser(*words).stdout, re.MULTILINE
        )
    assert "to whom they pass" not in parser("leaks", wrapped).stdout  # no row is in question
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
