"""Where names come from when things go wrong: a reader that dies, a file elsewhere, no file."""

from __future__ import annotations

import http.server
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pycxxfilt
import pytest

from heapfiles import HeapFile, Record
from mem_parser.errors import InputFileError, UsageProblem
from mem_parser.readers import read_bytes
from mem_parser.symbols import demangle, dwarf
from mem_parser.symbols.cache import SymbolCache
from mem_parser.symbols.debuginfod import Debuginfod
from mem_parser.symbols.elf import ElfImage
from mem_parser.symbols.isolation import Crash, Job, in_child
from mem_parser.symbols.reasons import why_nameless
from mem_parser.symbols.symbolizer import symbolize
from mem_parser.symbols.table import Symbols

ROOT = Path(__file__).resolve().parents[3]
BIAS = 0x5500_0000_0000
SOURCE = """
#include <stdlib.h>
__attribute__((noinline))
void *beta(int n) { void *p = malloc(n); __asm__ volatile("" ::: "memory"); return p; }
int main(void) { return beta(3) == 0; }
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program with debug information, `p`, and its parts apart: `stripped` and `debug`."""
    (tmp_path / "p.c").write_text(SOURCE)
    commands = (
        ["gcc", "-g", "-O1", "-pie", "-fPIE", "-Wl,--build-id", "-o", "p", "p.c"],
        ["objcopy", "--only-keep-debug", "p", "debug"],
        ["strip", "-o", "stripped", "p"],
    )
    for command in commands:
        subprocess.run(command, check=True, timeout=60, cwd=tmp_path)
    return tmp_path / "p"


def heap_of(program: Path, *paths: Path) -> bytes:
    """A profile with one stack of `beta` and `main`, each of the program as if it lay at one of
    the ``paths``, one after the other.
    """
    nm = subprocess.check_output(["nm", program], text=True, timeout=60).splitlines()
    at = {x.split()[2]: int(x.split()[0], 16) for x in nm if len(x.split()) == 3}
    build_id = ElfImage.open(str(program)).build_id
    modules, frames = [], [0x1000]
    for k, (path, name) in enumerate(zip(paths, ("beta", "main"), strict=False)):
        bias = BIAS + k * 0x10000
        modules.append({"path": str(path), "build_id": build_id, "start": bias,
                        "end": bias + 0x9000, "bias": bias, "exec": [[bias, bias + 0x9000, 0]],
                        "first_generation": 0, "last_generation": None})  # fmt: skip
        frames.append(bias + at[name] + 6)
    return HeapFile([Record(tuple(frames), 1, 100)], modules=modules).data


def names(symbols: Symbols) -> list[str]:
    return [f.name for f in symbols.functions]


@pytest.mark.parametrize(
    ("script", "what"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crashed its reader (SIGSEGV)"),
        ("import signal; signal.pause()", "took longer than 1 s to read"),
        ("raise SystemExit(1)", "cannot be read"),
    ],
)
def test_a_reader_that_dies_costs_lines_but_no_names(
    script: str, what: str, program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "reader.py").write_text(script)
    monkeypatch.setattr(dwarf, "_READER", str(tmp_path / "reader.py"))
    monkeypatch.setattr(dwarf, "READ_TIMEOUT_S", 1.0)
    cache = SymbolCache(tmp_path / "cache")
    profile = read_bytes(heap_of(program, program), "x")
    symbols = symbolize(profile, cache=cache)

    assert "beta" in names(symbols)
    assert not any(x.line for x in symbols.locations)
    assert [p.text for p in symbols.problems] == [
        f"{program}: its debug information {what}; names are from symbol tables"
    ]

    monkeypatch.undo()
    again = symbolize(profile, cache=cache)
    assert again.problems == []
    assert any(x.line for x in again.locations)


def test_names_that_are_kept_need_no_file_and_no_child(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved, gone, other = (tmp_path / name for name in ("moved", "gone.so", "other.so"))
    shutil.copy(program, moved)
    shutil.copy("/bin/true", other)
    cache = SymbolCache(tmp_path / "cache")
    profiles = [read_bytes(heap_of(program, program, missing), "x") for missing in (gone, other)]

    def report() -> list[object]:
        symbols = [symbolize(profile, str(moved), cache=cache) for profile in profiles]
        return [*symbols, why_nameless([str(other), str(moved)], cache)]

    first = report()
    for symbols in first[:2]:
        assert isinstance(symbols, Symbols)
        assert "beta" in names(symbols)
        assert any(x.line for x in symbols.locations)
        assert len(symbols.problems) == 1

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a file was opened, or a process started")

    for owner, name in ((ElfImage, "open"), (os, "fork"), (subprocess, "run")):
        monkeypatch.setattr(owner, name, refuse)
    again = report()
    assert str(again) == str(first)
    monkeypatch.undo()

    shutil.copy("/bin/true", moved)
    with pytest.raises(InputFileError, match="not the program of this profile"):
        symbolize(read_bytes(heap_of(program, tmp_path / "a"), "x"), str(moved), cache=cache)


def killed(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_file_that_kills_its_reader_costs_the_names_of_one_module(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = tmp_path / "bad.so", tmp_path / "good.so"
    shutil.copy(program, bad)
    shutil.copy(program, good)
    read = ElfImage.symbols
    monkeypatch.setattr(
        ElfImage, "symbols", lambda image: killed() if image.path == str(bad) else read(image)
    )
    symbols = symbolize(read_bytes(heap_of(program, bad, good), "x"), cache=SymbolCache(None))

    assert "main" in names(symbols)
    assert "beta" not in names(symbols)
    assert [p.text for p in symbols.problems] == [
        f"{bad} crashed its reader (SIGKILL); it is shown without names"
    ]


def test_a_name_that_kills_the_demangler_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    made = pycxxfilt.demangle
    monkeypatch.setattr(
        pycxxfilt, "demangle", lambda name: killed() if name == "_Z3badv" else made(name)
    )
    monkeypatch.setattr(demangle, "_AT_A_TIME", 2)
    known = demangle.demangled(["_Z1av", "_Z1bv", "_Z3badv", "_Z1cv", "_Z1dv"])

    assert known["_Z1av"] == ("a", "a()")
    assert known["_Z3badv"] == ("_Z3badv", "_Z3badv")
    assert known["_Z1dv"] == ("d", "d()")
    embedded = read_bytes(b"main;_Z1av 5\nmain;_Z3badv 10\n_Z1bv;c 3\n", "x").embedded
    assert embedded is not None
    found = {f.name for frames in embedded.frames.values() for f in frames}
    assert found == {"main", "_Z1av", "_Z3badv", "b", "c"}


def test_what_the_child_finds_or_raises_comes_back() -> None:
    def work(number: int) -> int:
        if number == 3:
            raise UsageProblem("three", hint="take four")
        if number == 9:
            time.sleep(60)
        return os.getpid() if number == 0 else number * number

    job: Job[int, int] = Job(work, int)
    child, *squares = in_child([0, 1, 2], job)
    assert child != os.getpid()
    assert squares == [1, 4]
    with pytest.raises(UsageProblem, match="three") as raised:
        list(in_child([1, 3], job))
    assert raised.value.hint == "take four"
    found = list(in_child([1, 9, 2], Job(work, int, timeout_s=0.3)))
    assert found == [1, Crash("took longer than 0 s to read"), 4]


class _Server(http.server.BaseHTTPRequestHandler):
    content = b""
    asked: list[str]
    stall: threading.Event | None = None

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.stall is not None:
            self.stall.wait(30)
        found = self.path.endswith("/debuginfo")
        self.send_response(200 if found else 404)
        self.end_headers()
        if found:
            self.wfile.write(self.content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, type[_Server]]]:
    handler = type("Handler", (_Server,), {"asked": []})
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=served.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{served.server_address[1]}", handler
    if handler.stall is not None:
        handler.stall.set()
    served.shutdown()
    served.server_close()
    thread.join(10)


def test_debuginfod_gives_names_and_lines_and_is_asked_once(
    server: tuple[str, type[_Server]], program: Path, tmp_path: Path
) -> None:
    url, handler = server
    stripped = tmp_path / "stripped"
    handler.content = (tmp_path / "debug").read_bytes()
    profile = read_bytes(heap_of(program, stripped), "x")
    cache = SymbolCache(tmp_path / "cache")

    without = symbolize(profile, cache=cache)
    assert "beta" not in names(without)
    assert handler.asked == []

    for _ in range(2):
        servers = Debuginfod([url], tmp_path / "kept")
        symbols = symbolize(profile, cache=cache, debuginfod=servers)
        assert "beta" in names(symbols)
        assert any(x.line for x in symbols.locations)
    build_id = ElfImage.open(str(program)).build_id
    assert handler.asked == [f"/buildid/{build_id}/debuginfo"]


def test_a_server_that_sends_another_file_is_not_believed(
    server: tuple[str, type[_Server]], program: Path, tmp_path: Path
) -> None:
    url, handler = server
    handler.content = Path("/bin/true").read_bytes()
    servers = Debuginfod([url], tmp_path / "kept")
    assert servers.find(ElfImage.open(str(program)).build_id) is None
    assert servers.find("../../etc/passwd") is None
    assert len(handler.asked) == 1


def test_a_server_that_stalls_costs_no_more_than_its_time(
    server: tuple[str, type[_Server]], tmp_path: Path
) -> None:
    url, handler = server
    handler.stall = threading.Event()
    servers = Debuginfod([url, url, url], tmp_path / "kept", timeout_s=0.3)
    assert servers.find("ab" * 20) is None
    assert len(handler.asked) == 1


def test_debuginfod_without_servers_is_a_usage_problem() -> None:
    for value in ("", "ftp://x file:///etc"):
        with pytest.raises(UsageProblem, match="DEBUGINFOD_URLS names no server"):
            Debuginfod.from_environment({"DEBUGINFOD_URLS": value})


def test_a_stripped_file_is_said_to_be_stripped(program: Path, tmp_path: Path) -> None:
    stripped = str(tmp_path / "stripped")
    reasons = why_nameless([stripped, str(program), "/nowhere"])
    assert reasons == {stripped: "stripped; pass --debug-dir"}


def test_the_package_of_debug_symbols_is_named() -> None:
    if subprocess.run(["dpkg-query", "-S", "/bin/true"], capture_output=True).returncode:
        pytest.skip("the system has no dpkg that knows /bin/true")
    assert why_nameless(["/bin/true"]) == {
        "/bin/true": "stripped; install coreutils-dbgsym or pass --debug-dir"
    }


def parse(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(str(ROOT / p) for p in ("parser", "cmd", "bindings"))
    return subprocess.run(
        [sys.executable, "-m", "mem_cli.parser.group", *map(str, arguments)],
        capture_output=True, text=True, timeout=60,
        env=os.environ | {"PYTHONPATH": paths, "MEM_PROFILER_CACHE": ""},
    )  # fmt: skip


def test_the_commands_convert_symbolize_and_merge(program: Path, tmp_path: Path) -> None:
    heap = tmp_path / "x.heap"
    heap.write_bytes(heap_of(program, program))
    for arguments in (
        ("convert", heap, "-o", tmp_path / "x.pb.gz"),
        ("symbolize", heap, "-o", tmp_path / "named.heap"),
        ("merge", heap, heap, "-o", tmp_path / "sum.heap"),
    ):
        done = parse(*arguments)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), arguments
    program.unlink()
    for name in ("x.pb.gz", "named.heap"):
        done = parse("-f", tmp_path / name, "-t")
        assert done.returncode == 0, done.stderr
        assert "beta" in done.stdout
    table = parse("convert", tmp_path / "named.heap", "--to", "collapsed", "-o", "-")
    assert table.stdout.startswith("beta")


def test_a_name_without_a_format_is_a_usage_problem(tmp_path: Path) -> None:
    done = parse("convert", "/dev/null", "-o", tmp_path / "x.what")
    assert done.returncode == 2
    assert "cannot tell the format from the name" in done.stderr
