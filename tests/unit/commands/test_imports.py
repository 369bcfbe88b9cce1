"""What a command imports before it works: its start is most of the time of a small report."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
HEAVY = {
    "asyncio", "capstone", "decimal", "elftools", "email", "google.protobuf", "graphviz",
    "hashlib", "http.client", "importlib.metadata", "logging", "mem_parser.budget",
    "mem_parser.memscope",
    "mem_parser.symbols.debug.units", "mem_profiler.attach", "mem_profiler.capture.output",
    "mem_profiler.capture.saving",
    "mem_profiler.capture.session", "mem_profiler.doctor.allocator", "mem_profiler.events.logs",
    "mem_profiler.profile.build", "multiprocessing", "numpy", "numpy.ma", "pycxxfilt", "rich",
    "secrets", "socket", "sqlite3", "tempfile", "textual", "tomllib", "xml.etree.ElementTree",
    "zipfile",
}  # fmt: skip
READING = {"hashlib", "numpy", "pycxxfilt"}
RUNNING = {"mem_profiler.capture.output", "socket"}
NEEDED = {
    "mem_parser --help": set[str](),
    "mem_parser table --help": set[str](),
    "mem_parser --version": set[str](),
    "mem_profiler --version": set[str](),
    "mem_profiler --help": set[str](),
    "mem_profiler run --help": set[str](),
    "mem_profiler run -q -o OUT /bin/true": READING | RUNNING,
    "mem_parser summary FILE": READING,
    "mem_parser table FILE --json": READING,
}
"""By command: what it may import until it starts a program, or ends."""
WATCHED = """
import atexit, os, sys
def note(event, _):
    if event == "subprocess.Popen" and not noted:
        noted.append(sorted(sys.modules))
noted = []
sys.addaudithook(note)
atexit.register(lambda: os.write(3, " ".join(noted[0] if noted else sys.modules).encode()))
from mem_cli import entry
sys.argv[:] = sys.argv[1:]
getattr(entry, sys.argv[0])()
"""


def imported(*words: str, cache: str = "") -> set[str]:
    """The modules that a Python has imported."""
    return set(output(*words, cache=cache).split())


def output(*words: str, cache: str = "") -> str:
    """What a Python writes to descriptor 3."""
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" "$@" 3>&1 >/dev/null', sys.executable, *words],
        capture_output=True, text=True, timeout=60, env=os.environ | {"MEM_PROFILER_CACHE": cache},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("command", NEEDED)
def test_a_command_imports_no_more_than_it_needs(tmp_path: Path, command: str) -> None:
    file = tmp_path / "x.folded"
    file.write_text("main;f 5000\n")
    places = {"FILE": str(file), "OUT": str(tmp_path / "out")}
    words = [places.get(word, word) for word in command.split()]
    cache = str(tmp_path / "cache")
    if "run -q" in command:
        imported("-c", WATCHED, *words, cache=cache)  # finds where allocators begin, once a file
    modules = imported("-c", WATCHED, *words, cache=cache)
    assert "click" in modules
    assert modules & HEAVY - NEEDED[command] == set()


COUNTED = """
import atexit, gc, os, sys
collections = []
gc.callbacks.append(lambda phase, _: collections.append(phase))
atexit.register(lambda: os.write(3, f"{len(collections)} {gc.get_freeze_count()}".encode()))
from mem_cli import entry
sys.argv[:] = sys.argv[1:]
getattr(entry, sys.argv[0])()
"""


def test_no_start_looks_for_garbage_in_what_stays(tmp_path: Path) -> None:
    file = tmp_path / "x.folded"
    file.write_text("main;f 5000\n")
    words = ("mem_parser", "table", str(file))
    collections, frozen = map(int, output("-c", COUNTED, *words, cache=str(tmp_path)).split())
    assert collections <= 20
    assert frozen > 10_000


def test_a_program_that_imports_the_package_pays_for_nothing_else() -> None:
    lines = f"""
import os, sys
sys.path[:0] = [{str(ROOT / "parser")!r}, {str(ROOT / "bindings")!r}]
import mem_profiler
os.write(3, " ".join(sys.modules).encode())
"""
    modules = imported("-S", "-c", lines)
    assert "mem_profiler" in modules
    assert modules & {*HEAVY, "contextlib", "dataclasses", "pathlib", "re", "typing"} == set()


PYTEST = """
import atexit, os, sys
atexit.register(lambda: os.write(3, " ".join(sys.modules).encode()))
import pytest
sys.exit(pytest.main(["-q", "-p", "mem_cli.pytest_plugin", sys.argv[1]]))
"""


def test_a_run_of_pytest_that_checks_no_limit_has_no_numpy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    file = tmp_path / "test_one.py"
    file.write_text("import pytest\n@pytest.mark.mem_limit('9 MB')\ndef test_one(): ...\n")
    modules = imported("-c", PYTEST, str(file))
    assert "mem_cli.pytest_plugin.marks" in modules
    assert modules & {"numpy", "mem_parser.budget.verdict"} == set()
