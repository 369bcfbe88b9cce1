"""Python's frames and labels in the sampled stack, against what Python itself says at the same
moment: right or absent, also where interpreters fork, end, begin again, and are many.
"""

import json
import re
import shutil
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from elftools.elf.elffile import ELFFile

from attach_run import Unprepared
from controller_tools import command_ok
from mem_cli.parser.group import cli
from mem_parser.libraries.rules import Libraries
from mem_parser.live.naming import Naming, NamingChoice
from mem_parser.memlog.profiles import read_part
from mem_parser.model import Profile
from mem_parser.readers import read_profile
from mem_parser.startframes import START_FUNCTIONS, fold_starts
from python_embedding import FORMS, build
from python_stacks_seen import (
    BLOCK_BYTES,
    MOST_WITHOUT,
    RATE_BYTES,
    captured,
    check_against,
    noted,
    stacks_of,
)
from pythons import interpreter, of_pythons, of_versions
from sampler_run import TARGETS

BLOCKS = 8000
ROUNDS = 5
LATER = 0x031000F0  # 3.16.0


def home_of(python: str | Path) -> str:
    asked = [python, "-c", "import sys; print(sys.base_prefix)"]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("python", of_pythons(ends=True))
def test_frames_are_those_that_python_itself_sees(python: str, tmp_path: Path) -> None:
    out = tmp_path / "stacks.json"
    profile = captured(python, tmp_path, TARGETS / "python_stacks.py", out, BLOCKS, 7)
    expected = noted(out)
    assert expected.total() >= BLOCKS
    check_against(expected, profile)


def test_a_stack_that_finds_no_room_has_no_python_frames_rather_than_wrong_ones(
    tmp_path: Path,
) -> None:
    out = tmp_path / "stacks.json"
    words = (TARGETS / "python_stacks.py", out, 20000, 7)
    small = {"MEM_PROFILER_MAX_MEMORY": "4M"}
    profile = captured(sys.executable, tmp_path, *words, variables=small)
    expected = noted(out)
    without = check_against(expected, profile, 1 << 30)
    assert expected.total() // 10 < without < expected.total() * 9 // 10


def storm(target: Unprepared, seed: int, out: Path) -> str:
    """Make, call and free functions; where the interpreter's way to free code leads then."""
    return target.ask(f"60 {seed} {out}")


@pytest.mark.usefixtures("sampler")
@pytest.mark.parametrize("python", of_pythons())
def test_functions_that_are_made_and_freed_have_their_own_frames_from_attach_to_detach(
    python: str, tmp_path: Path
) -> None:
    script = TARGETS / "python_made_code.py"
    with Unprepared.started([python, "-S", "-u", script], tmp_path) as target:
        own = storm(target, 1, tmp_path / "unseen.json")
        for turn in range(2):
            out, prefix = tmp_path / f"{turn}.json", tmp_path / f"heap{turn}"
            command_ok("attach", target.pid, "-c", RATE_BYTES)
            assert "libmem_sampler" in storm(target, 2 + turn, out)
            for words in (("stop", target.pid, "-o", prefix), ("detach", target.pid)):
                command_ok(*words)
            assert storm(target, 10 + turn, tmp_path / "unseen.json") == own
            [path] = tmp_path.glob(f"{prefix.name}*.heap")
            check_against(noted(out), read_profile(str(path)))
        target.finish()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("python", of_pythons())
def test_interpreters_that_begin_again_have_their_own_frames(
    python: str, form: str, tmp_path: Path
) -> None:
    profile = captured(str(build(python, tmp_path, form)), tmp_path, ROUNDS, home_of(python))
    found = stacks_of(profile, BLOCK_BYTES)
    assert found.pop((), 0) == ROUNDS  # without an interpreter
    seen: dict[str, list[tuple[int, ...]]] = {}
    for stack, count in found.items():
        assert [name for name, _, _ in stack] == ["work", "<module>"]
        [file] = {file for _, file, _ in stack}
        seen.setdefault(file, []).extend([tuple(line for _, _, line in stack)] * count)
    assert {file: sorted(lines) for file, lines in seen.items()} == {
        f"/made/round_{k}.py": sorted(
            [(3, 5 + k % 2), (4 + k % 2, 5 + k % 2)] * (2 if k >= 2 else 1)
        )
        for k in range(ROUNDS)
    }
    assert profile.capture.lost["python"] == 0


def place_of(elf: ELFFile, name: str) -> int:
    """Where the data of an exported symbol is in the file."""
    [symbol] = elf.get_section_by_name(".dynsym").get_symbol_by_name(name)
    [place] = elf.address_offsets(symbol["st_value"])
    return int(place)


def later(program: Path, folder: Path) -> list[str]:
    """The words that start a copy of the interpreter that says it is of a later version."""
    libraries = program.resolve().parents[1].glob("lib/libpython3.*.so.1.0")
    original = next(libraries, program.resolve())
    copy = folder / original.name
    shutil.copy(original, copy)
    with copy.open("r+b") as file:
        elf = ELFFile(file)
        places = place_of(elf, "Py_Version"), place_of(elf, "_PyRuntime") + len("xdebugpy")
        for place in places:
            file.seek(place)
            file.write(struct.pack("<Q", LATER))
    variables = [f"PYTHONHOME={home_of(program)}", f"LD_LIBRARY_PATH={folder}"]
    return [*variables, str(copy if original == program.resolve() else program)]


@pytest.mark.parametrize("version", of_versions(["3.13", "3.14", "3.15"], ends=True))
def test_a_later_version_is_read_as_it_says_or_has_native_frames_alone(
    version: str, tmp_path: Path
) -> None:
    out = tmp_path / "stacks.json"
    started = later(interpreter(version), tmp_path)
    script = (TARGETS / "python_stacks.py", out, 4000, 7)
    profile = captured("env", tmp_path, *started, *script)
    notes = " ".join(profile.capture.notes)
    if version != "3.15":  # its offsets are not where the newest known version has them
        assert profile.python is None
        assert re.search(r"Python 3\.16 is not known: .* native frames alone", notes)
        return
    check_against(noted(out), profile)
    assert "Python 3.16 is not known: Python frames are where it says itself" in notes


GRAB = f"def grab():\n    return bytes({BLOCK_BYTES} - bytes.__basicsize__)\n"
"""Its block has BLOCK_BYTES."""
Names = Counter[tuple[str, ...]]


def run(folder: Path, *program: object, options: Sequence[str] = ()) -> list[tuple[Names, int]]:
    """Run a program to its good end: of each capture, its stacks as names with how many blocks, and
    how many samples have no Python part, or one that was cut."""
    command_ok("run", *options, "-c", RATE_BYTES, "-o", folder / "x", "--", *program)
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
    command_ok("run", "--children", "-c", 4096, "-o", tmp_path / "x", "--", "sh", "-c", program)


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


BLOCK_BYTES, BARE_BYTES = 3000001, 3100001
MOST_NAMES = 256
MOST_BYTES = 128
TARGET = TARGETS / "python_labels.py"


def who_allocated(profile: Profile, block_bytes: int) -> Counter[str]:
    """How often the threads and tasks of each path allocated blocks of that size."""
    sites = profile.sites
    assert profile.labels is not None
    chosen = np.flatnonzero(sites.alloc_bytes == block_bytes * sites.alloc_blocks)
    found: Counter[str] = Counter()
    numbers = profile.stacks.label_numbers[sites.stack[chosen]].tolist()
    for number, blocks in zip(numbers, sites.alloc_blocks[chosen].tolist(), strict=True):
        found[profile.labels.path(number)] += blocks
    return found


def assert_said(profile: Profile, block_bytes: int, expected: Counter[str]) -> None:
    """Each name as often as the program said it; a stack that is lost has none."""
    found, lost = who_allocated(profile, block_bytes), profile.capture.lost
    counted = lost["python"] + lost["stack_table_full"] + lost["stack_sites_full"]
    assert found.total() == expected.total()
    assert set(found - expected) <= {""}
    # A busy machine may give the segment its pages too late.
    assert (found - expected).total() <= counted < MOST_WITHOUT, (found - expected, lost)


def label_of(thread: str, task: str | None) -> str:
    """What a label says of names that nobody gave, and of all others."""
    found = []
    if thread.startswith("long"):
        thread = thread[: MOST_BYTES - 4 + 1]  # room for one character of four bytes is kept
    thread = re.sub(r"^Thread-\d+$|^MainThread$", "", thread)
    thread = re.sub(r"^Thread-\d+ ", "Thread ", thread)
    thread = re.sub(r"^ThreadPoolExecutor-\d+_\d+$", "ThreadPoolExecutor", thread)
    thread = re.sub(r"^asyncio_\d+$", "asyncio", thread)
    if thread:
        found.append(f"thread {thread}")
    if task is not None and not re.fullmatch(r"Task-\d+", task):
        found.append(f"task {task}")
    return ", ".join(found)


def expected(noted: list[tuple[tuple[str, str | None], int]], *, tasks: bool) -> Counter[str]:
    found: Counter[str] = Counter()
    for (thread, task), count in noted:
        found[label_of(thread, task if tasks else None)] += count
    return found


@pytest.mark.parametrize("python", of_pythons(ends=True))
def test_stacks_have_the_thread_and_task_that_the_program_names(
    python: str, tmp_path: Path
) -> None:
    out = tmp_path / "names.json"
    profile = captured(python, tmp_path, TARGET, out)
    held, bare = json.loads(out.read_text())

    assert_said(profile, BLOCK_BYTES, expected(held, tasks=True))
    # Without the GIL nobody may read the name of a task.
    assert_said(profile, BARE_BYTES, expected(bare, tasks=False))
    assert profile.capture.lost["label"] == 0
    assert_program_alone(profile)


def assert_program_alone(profile: Profile) -> None:
    """Frames by which threads and event loops call the program are folded."""
    symbols = fold_starts(Naming(NamingChoice(libraries=Libraries())).names(profile))
    sites = profile.sites
    blocks = sites.stack[sites.alloc_bytes == BLOCK_BYTES * sites.alloc_blocks]
    stack = np.repeat(np.arange(len(profile.stacks)), np.diff(symbols.offsets))
    places = symbols.locations_of_stack[np.isin(stack, blocks)]
    functions = [symbols.functions[symbols.locations[k].function] for k in places]
    assert {f.file for f in functions if f.python} == {str(TARGET)}
    starts = {f.name for f in functions if f in START_FUNCTIONS}
    assert starts == {"[thread start]", "[event loop]"}


def test_ten_thousand_names_make_no_more_labels_than_are_kept(tmp_path: Path) -> None:
    out = tmp_path / "names.json"
    profile = captured(sys.executable, tmp_path, TARGET, out, 10000)
    found = who_allocated(profile, BLOCK_BYTES)

    others = found.pop("other tasks")
    assert others == 10000 - MOST_NAMES
    assert len(found) == MOST_NAMES
    assert set(found.values()) == {1}
    assert all(re.fullmatch(r"task request-\d+", name) for name in found)
    assert profile.capture.lost["label"] >= others
    assert profile.labels is not None
    assert len(profile.labels) == MOST_NAMES + 1


def test_a_log_of_events_has_the_labels_of_its_capture(tmp_path: Path) -> None:
    out = tmp_path / "names.json"
    done = command_ok(
        "run", "-c", RATE_BYTES, "--events", "-o", tmp_path / "x.heap", "--", sys.executable,
        TARGET, out,
    )  # fmt: skip
    logs = sorted(tmp_path.glob("x-*.memlog"))
    assert "removed" not in done.stderr
    heap, [log] = read_profile(tmp_path / "x.heap"), read_part(logs)
    for size in (BLOCK_BYTES, BARE_BYTES):
        assert who_allocated(log, size) == who_allocated(heap, size)
    held, _ = json.loads(out.read_text())
    assert_said(heap, BLOCK_BYTES, expected(held, tasks=True))
    tables = [
        CliRunner().invoke(cli, ["table", "--alloc", "-n", "0", "--labels", *map(str, paths)])
        for paths in ([tmp_path / "x.heap"], logs)
    ]
    of_heap, of_log = (
        Counter(re.findall(r"thread io, task fetch|thread [\w-]+|other tasks", one.output))
        for one in tables
    )
    assert of_log == of_heap
    assert of_log["thread io, task fetch"]


def test_reports_show_labels_if_asked_and_are_else_as_without_any(tmp_path: Path) -> None:
    captured(sys.executable, tmp_path, TARGET, tmp_path / "names.json")
    [path] = tmp_path.glob("x*.heap")

    def said(*arguments: str) -> str:
        done = CliRunner().invoke(cli, [*arguments, str(path)])
        assert done.exit_code == 0, done.output
        return done.output

    collapsed = ("convert", "--to", "collapsed", "-o", "-", "--alloc")
    plain, labelled = said(*collapsed), said(*collapsed, "--labels")
    assert "thread worker-1" not in plain
    assert any(line.startswith("thread io;task fetch;") for line in labelled.splitlines())

    def sums(text: str) -> Counter[str]:
        total: Counter[str] = Counter()
        for line in text.splitlines():
            stack, _, value = line.rpartition(" ")
            total[re.sub(r"^((thread|task|other) [^;]*;)+", "", stack)] += int(value)
        return total

    bare, merged = sums(plain), sums(labelled)
    assert bare.keys() == merged.keys()
    assert all(abs(bare[k] - merged[k]) <= 200 for k in bare)  # numbers are rounded line by line
    tree = ("tree", "--alloc", "-n", "0")
    assert "task fetch" in said(*tree, "--labels")
    assert "task fetch" not in said(*tree, "--no-labels")
    assert "thread io, task fetch" in said("table", "--alloc", "-n", "0", "--labels")
