"""Python's frames where interpreters fork, end, begin again, and are many: right or absent."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from controller_tools import run_command
from mem_parser.readers import read_profile
from python_embedding import build
from python_stacks_seen import BLOCK_BYTES, RATE_BYTES, stacks_of
from pythons import interpreter, of_versions

GRAB = f"def grab():\n    return bytes({BLOCK_BYTES} - bytes.__basicsize__)\n"
"""Its block has BLOCK_BYTES."""
Names = Counter[tuple[str, ...]]


def run(folder: Path, *program: object, options: Sequence[str] = ()) -> list[tuple[Names, int]]:
    """Run a program to its good end: of each capture, its stacks as names with how many blocks, and
    how many samples have no Python part, or one that was cut."""
    done = run_command("run", *options, "-c", RATE_BYTES, "-o", folder / "x", "--", *program)
    assert done.returncode == 0, done.stderr
    found = []
    for path in sorted(folder.glob("x*.heap")):
        profile = read_profile(str(path))
        names: Names = Counter()
        if profile.python is not None:
            for stack, blocks in stacks_of(profile, BLOCK_BYTES).items():
                names[tuple(name.rpartition(".")[2] for name, _, _ in stack)] += blocks
        found.append((names, profile.capture.lost["python"]))
    assert found
    return found


def script(folder: Path, text: str) -> Path:
    path = folder / "script.py"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return path


def calling(name: str, times: int) -> str:
    """A program whose function of that name allocates so many blocks."""
    return f"{GRAB}def {name}():\n    grab()\nfor _ in range({times}): {name}()\n"


@dataclass(frozen=True)
class Scenario:
    """A program, and how many blocks each function allocates, by capture."""

    versions: Sequence[str]
    text: str
    expected: Sequence[dict[str, int]]
    options: Sequence[str] = ()


MANY = (
    "try: import _interpreters as many\nexcept ImportError: import _xxsubinterpreters as many\n"
    f"import threading\n{GRAB}def outer():\n    grab()\n"
)
WITH_SUBINTERPRETERS = ("3.9", "3.10", "3.11", "3.12", "3.13", "3.14", "3.15")
SCENARIOS = {
    "a followed fork child": Scenario(
        ("3.9", "3.11", "3.13", "3.15"),
        f"import os\n{calling('parent', 10)}"
        "def child():\n    grab()\n"
        "pid = os.fork()\n"
        "for _ in range(30): parent() if pid else child()\n"
        "if pid: assert os.waitpid(pid, 0)[1] == 0\n",
        [{"parent": 40}, {"child": 30}],
        ("--children",),
    ),
    "another program after exec": Scenario(
        ("3.10", "3.11", "3.12"),
        "import os, sys\n"
        f"os.execv(sys.executable, [sys.executable, '-c', {calling('after', 10)!r}])\n",
        [{"after": 10}],
    ),
    "subinterpreters": Scenario(
        WITH_SUBINTERPRETERS,
        f"{MANY}for n in range(12):\n"
        "    one = many.create()\n"
        f"    many.run_string(one, {calling('NAME', 5)!r}.replace('NAME', 'f%02d' % n))\n"
        "    outer()\n"
        "    many.destroy(one)\n",
        [{"outer": 12} | {f"f{n:02}": 5 for n in range(12)}],
    ),
    "threads in subinterpreters": Scenario(
        WITH_SUBINTERPRETERS,
        f"{MANY}began = threading.Barrier(3)\n"
        "def run(name):\n"
        "    one = many.create()\n"
        "    began.wait()\n"
        f"    many.run_string(one, {calling('NAME', 200)!r}.replace('NAME', name))\n"
        "    many.destroy(one)\n"
        "threads = [threading.Thread(target=run, args=(n,)) for n in ('left', 'right')]\n"
        "for one in threads: one.start()\n"
        "began.wait()\n"
        "for _ in range(200): outer()\n"
        "for one in threads: one.join()\n",
        [{"left": 200, "right": 200, "outer": 200}],
    ),
}


@pytest.mark.parametrize(
    ("name", "version"),
    [
        pytest.param(name, *one.values, marks=one.marks)
        for name, scenario in SCENARIOS.items()
        for one in of_versions(scenario.versions)
    ],
)
def test_each_interpreter_has_the_frames_that_it_runs(
    name: str, version: str, tmp_path: Path
) -> None:
    scenario = SCENARIOS[name]
    program = interpreter(version), script(tmp_path, scenario.text)
    found: list[Any] = [names for names, _ in run(tmp_path, *program, options=scenario.options)]
    expected = [
        {("grab", function, "<module>"): blocks for function, blocks in one.items()}
        for one in scenario.expected
    ]
    assert sorted(filter(None, found), key=str) == sorted(map(Counter, expected), key=str)


@pytest.mark.parametrize("version", of_versions(["3.10", "3.11", "3.12", "3.13"]))
def test_interpreters_one_after_another_in_a_program_have_each_their_names(
    version: str, tmp_path: Path
) -> None:
    program = build(str(interpreter(version)), tmp_path, "own types")
    names = ("one", "uno", "une", "ein")
    [(found, _)] = run(tmp_path, program, "-c", *(calling(name, 20) for name in names))
    assert found == {("grab", name, "<module>"): 20 for name in names}


@pytest.mark.parametrize("version", of_versions(["3.9", "3.11", "3.13", "3.15"]))
def test_recursion_is_cut_at_its_innermost_frames_and_counted(version: str, tmp_path: Path) -> None:
    down = "def down(n):\n    return down(n - 1) if n else grab()\n"
    text = f"{GRAB}{down}for _ in range(10): down(900)\n"
    [(found, lost)] = run(tmp_path, interpreter(version), script(tmp_path, text))
    cut, whole = ("grab", *["down"] * 511), ("grab", *["down"] * 901, "<module>")
    assert found.total() == 10
    assert set(found) <= {cut, whole}, "whole where a shorter stack was known just before"
    assert lost >= found[cut]


@pytest.mark.parametrize("version", of_versions(["3.9", "3.10", "3.11", "3.12", "3.13", "3.15"]))
def test_lines_behind_a_table_above_64_kib_are_right(version: str, tmp_path: Path) -> None:
    lines = 40000
    run(tmp_path, interpreter(version), script(tmp_path, GRAB + "x = 1\n" * lines + "grab()\n"))
    [heap] = tmp_path.glob("x*.heap")
    found = stacks_of(read_profile(str(heap)), BLOCK_BYTES)
    assert [[(name, line) for name, _, line in stack] for stack in found] == [
        [("grab", 2), ("<module>", lines + 3)]
    ]


@pytest.mark.parametrize("version", of_versions(["3.9", "3.11", "3.13", "3.15"]))
def test_names_may_have_any_characters(version: str, tmp_path: Path) -> None:
    text = (
        f"{GRAB}def größe():\n    grab()\ndef 名前():\n    grab()\ndef 𝒳𐐀():\n    grab()\n"
        "def broken(): grab()\n"
        "if hasattr(broken.__code__, 'co_qualname'):\n"
        "    code = broken.__code__.replace(co_name='a\\ud800b', co_qualname='a\\ud800b')\n"
        "else:\n    code = broken.__code__.replace(co_name='a\\ud800b')\n"
        "broken.__code__ = code\n"
        "größe(); 名前(); 𝒳𐐀(); broken()\n"
    )
    [(found, _)] = run(tmp_path, interpreter(version), script(tmp_path, text))
    names = {stack[1] for stack in found}
    assert found.total() == 4
    assert {"größe", "名前"} <= names
    assert any(name.startswith("a") and name.endswith("b") for name in names), names


@pytest.mark.parametrize("version", of_versions(["3.9", "3.11", "3.13", "3.15"]))
def test_threads_that_c_made_have_frames_while_they_call_in(version: str, tmp_path: Path) -> None:
    text = (
        f"import ctypes\n{GRAB}"
        "libc = ctypes.CDLL(None)\n"
        "entry = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)\n"
        "def called(_):\n    for _ in range(5): grab()\n    return None\n"
        "inner = entry(called)\n"
        "for _ in range(8):\n"
        "    thread = ctypes.c_ulong()\n"
        "    assert libc.pthread_create(ctypes.byref(thread), None, inner, None) == 0\n"
        "    assert libc.pthread_join(thread, None) == 0\n"
    )
    [(found, _)] = run(tmp_path, interpreter(version), script(tmp_path, text))
    assert found == {("grab", "called"): 40}


@pytest.mark.parametrize("version", of_versions(["3.8", "3.9", "3.11", "3.13", "3.15"]))
def test_daemon_threads_that_allocate_while_the_interpreter_ends_never_crash(
    version: str, tmp_path: Path
) -> None:
    text = (
        "import ctypes, threading\n"
        "libc = ctypes.CDLL(None)\n"
        "libc.malloc.restype = ctypes.c_void_p\n"
        "libc.free.argtypes = [ctypes.c_void_p]\n"
        "began = threading.Barrier(5)\n"
        "def storm():\n    began.wait()\n    while True: libc.free(libc.malloc(100000))\n"
        "for _ in range(4): threading.Thread(target=storm, daemon=True).start()\n"
        "began.wait()\n"
    )
    program = (
        f"for n in 1 2 3 4 5; do {interpreter(version)} {script(tmp_path, text)} || exit 9; done"
    )
    done = run_command("run", "--children", "-c", 4096, "-o", tmp_path / "x", "--",
                       "sh", "-c", program)  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_greenlets_have_frames_that_are_right(tmp_path: Path) -> None:
    pytest.importorskip("greenlet")
    text = (
        f"import greenlet\n{GRAB}"
        "def left(n):\n    if n: return left(n - 1)\n"
        "    for _ in range(20): grab(); other.switch(3)\n"
        "def right(n):\n    if n: return right(n - 1)\n"
        "    for _ in range(20): grab(); one.switch()\n"
        "one, other = greenlet.greenlet(left), greenlet.greenlet(right)\n"
        "one.switch(3)\n"
    )
    [(found, _)] = run(tmp_path, sys.executable, script(tmp_path, text))
    assert found.total() >= 39
    for stack in found:
        inner = stack[1:]
        assert stack == () or {*inner} - {"<module>"} in ({"left"}, {"right"}), stack


def test_an_old_interpreter_has_no_python_part(tmp_path: Path) -> None:
    [(found, lost)] = run(tmp_path, interpreter("3.8"), script(tmp_path, f"{GRAB}grab()\n"))
    assert set(found) <= {()}
    assert lost == 0
