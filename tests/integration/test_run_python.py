"""`mem_profiler run` takes Python programs as `python` does: the same words, output and status."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from controller_tools import command_environment, run_command
from mem_cli import errors
from mem_cli.profiler.group import cli
from mem_cli.profiler.started import interpreter
from mem_parser.readers import read_profile
from mem_parser.sizes import parse_amount

pytestmark = [pytest.mark.usefixtures("sampler", "segment_dir"), pytest.mark.timeout(120)]

FACTS = """
import os, sys
import beside
print(sys.argv, sys.path[0], __name__, globals().get("__file__"), globals().get("__package__"))
print(beside.__file__, sys.flags.isolated, "MEM" in os.environ)
"""
MODES = {
    "exit": "import sys; sys.exit(3)",
    "text": "import sys; sys.exit('some text')",
    "hard": "import os; os._exit(5)",
    "killed": "import os; os.kill(os.getpid(), 9)",
    "raised": "1 / 0",
    "deep": "def f(n): return f(n + 1)\ntry: f(0)\nexcept RecursionError: exit(7)",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Scripts, a module and a package, and a folder where files go."""
    (tmp_path / "beside.py").write_text("")
    (tmp_path / "facts.py").write_text(FACTS)
    for name, text in MODES.items():
        (tmp_path / f"{name}.py").write_text(text)
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(FACTS)
    (tmp_path / "out").mkdir()
    return tmp_path


def as_python(folder: Path, *words: str, **options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=command_environment(),
        capture_output=True, text=True, timeout=60, **options,
    )  # fmt: skip


@pytest.mark.parametrize(
    "words",
    [
        ("facts.py",),
        ("facts.py", "-m", "-o", "x", "--", "-c", "2"),
        ("./facts.py", "a b"),
        ("-m", "facts", "--children"),
        ("-mpackage", "-q"),
        ("-c", FACTS, "-x", "y"),
        ("-m", "nothing"),
        *((f"{name}.py",) for name in MODES if name != "killed"),
    ],
)
def test_a_program_runs_as_python_runs_it(folder: Path, words: tuple[str, ...]) -> None:
    plain = as_python(folder, *words)
    done = run_command("run", "-q", "-o", "out/p", *words, cwd=folder)
    assert (done.returncode, done.stdout, done.stderr) == (
        plain.returncode, plain.stdout, plain.stderr,
    )  # fmt: skip
    assert len(list((folder / "out").iterdir())) == 1


@pytest.mark.parametrize("words", [("facts.py", "a"), ("-mfacts",), ("-c", FACTS)])
def test_two_dashes_before_a_program_change_nothing(folder: Path, words: tuple[str, ...]) -> None:
    done = run_command("run", "-q", "-c", "1024", "-o", "out/p", "--", *words, cwd=folder)
    assert (done.returncode, done.stdout) == (0, as_python(folder, *words).stdout), done.stderr


def test_a_program_that_is_killed_has_its_file_and_status(folder: Path) -> None:
    done = run_command("run", "-q", "-o", "out/p", "killed.py", cwd=folder)
    assert done.returncode == -9
    assert "target ended by signal 9 (SIGKILL)" in done.stderr
    assert len(list((folder / "out").iterdir())) == 1


def test_a_program_on_standard_input_is_python_too(folder: Path) -> None:
    done = run_command("run", "-q", "-o", "out/p", "-", "a", cwd=folder, input=FACTS)
    assert done.returncode == 0, done.stderr
    assert done.stdout == as_python(folder, "-", "a", input=FACTS).stdout


def test_a_python_of_ones_own_and_other_programs_start_as_before(folder: Path) -> None:
    done = run_command("run", "-q", "-o", "out/p", sys.executable, "-B", "exit.py", cwd=folder)
    assert (done.returncode, done.stderr) == (3, "")
    done = run_command("run", "-q", "-o", "out/p", "sh", "-c", "exit 4", cwd=folder)
    assert (done.returncode, done.stderr) == (4, "")


def test_the_commands_are_modules_too(folder: Path) -> None:
    done = as_python(folder, "-m", "mem_profiler", "run", "-q", "-o", "a.heap", "exit.py")
    assert (done.returncode, done.stderr) == (3, "")
    shown = as_python(folder, "-m", "mem_parser", "summary", "a.heap")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "\nTotal: " in shown.stdout


def test_a_name_with_the_suffix_of_a_file_is_that_file(folder: Path) -> None:
    first = run_command("run", "-q", "-o", "a.heap", "exit.py", cwd=folder)
    assert (first.returncode, first.stderr) == (3, "")
    before = (folder / "a.heap").read_bytes()
    assert read_profile(str(folder / "a.heap")).capture.from_start
    again = run_command("run", "-o", "a.heap", "exit.py", cwd=folder)
    assert again.returncode == 2
    assert again.stderr.splitlines() == [
        "error: -o a.heap: the file exists already",
        "hint:  -f replaces it; or give another name",
    ]
    assert (folder / "a.heap").read_bytes() == before
    forced = run_command("run", "-q", "-f", "-o", "a.heap", "-m", "facts", cwd=folder)
    assert forced.returncode == 0
    assert (folder / "a.heap").read_bytes() != before
    other = run_command("run", "-q", "--output", "b.bin", "exit.py", cwd=folder)
    assert (other.returncode, (folder / "b.bin").exists()) == (3, True)


def test_children_have_files_beside_that_of_the_program(folder: Path) -> None:
    (folder / "fork.py").write_text(
        "import os\npid = os.fork()\nif pid:\n    os.waitpid(pid, 0)\n    print(pid)\n"
    )
    on_anyway = ("--native", "--aggregate", "--trace-python-allocators")  # options of memray
    words = ("run", "-q", *on_anyway, "--follow-fork", "-o", "a.heap", "fork.py")
    done = run_command(*words, cwd=folder)
    assert done.returncode == 0, done.stderr
    names = sorted(name for name in os.listdir(folder) if name.endswith(".heap"))
    assert names == [f"a.{done.stdout.strip()}.heap", "a.heap"]


PROCESSES = """
import multiprocessing, subprocess, sys
def work(n):
    return len([bytes(1000) for _ in range(n)])
if __name__ == "__main__":
    with multiprocessing.get_context("forkserver").Pool(1) as pool:
        pool.map(work, [1000])
    subprocess.run([sys.executable, "-c", "x = bytearray(1 << 20)"], check=True)
"""


def test_files_of_several_processes_say_which_they_are_of(folder: Path) -> None:
    (folder / "several.py").write_text(PROCESSES)
    done = run_command("run", "-o", "out/p", "several.py", cwd=folder)
    assert "its workers, which a server of multiprocessing forks, are in no" in done.stderr
    assert len(re.findall("(?m)^pid ", done.stderr)) == 0
    done = run_command("run", "--children", "-o", "out/q", "several.py", cwd=folder)
    name = os.path.basename(interpreter())
    row = r"(?m)^ *(\d+)  +(\S+(?: [KM]iB)?)  +(\S+ [KM]iB)  +[\d,]+  +0  (.*\S)  +out/q\.\1\."
    rows = re.findall(row, done.stderr)
    held = [
        max(parse_amount(size.replace(" ", "").replace("-", "0")) for size in row[1:3])
        for row in rows
    ]
    assert held == sorted(held, reverse=True) and len(rows) == 5
    assert sorted(role for *_, role in rows) == [
        f"{name} -c x = bytearray(1 << 20)",
        f"{name} several.py (the program itself)",
        "server of forks of multiprocessing",
        "tracker of resources of multiprocessing",
        "worker of multiprocessing",
    ]


@pytest.mark.parametrize(
    ("words", "again"),
    [
        (("facts.py", "a b"), "python facts.py 'a b'"),
        (("-m", "nothing"), "python -m nothing"),
        (("--", "python", "facts.py"), "python facts.py"),
        (("./manage", "serve"), "python ./manage serve"),
        (("--", "python", "good.py"), None),
        (("--", sys.executable, "facts.py"), None),
        (("exit.py",), None),
    ],
)
def test_a_module_that_is_not_found_names_the_python_and_how_to_choose_one(
    folder: Path, words: tuple[str, ...], again: str | None
) -> None:
    (folder / "beside.py").unlink()
    (folder / "good.py").write_text("")
    (folder / "manage").write_text("#!/usr/bin/env python\nimport nothing_of_that_name\n")
    (folder / "manage").chmod(0o755)
    own = os.path.dirname(sys.executable)
    variables = {"PATH": f"{own}:{os.environ['PATH']}", "VIRTUAL_ENV": os.path.dirname(own)}
    done = run_command("run", "-o", "out/p", *words, cwd=folder, variables=variables)
    told = [line for line in done.stderr.splitlines() if "mem_profiler's own Python" in line]
    if again is None:
        assert told == []
        return
    with_own = f"note: this ran with mem_profiler's own Python, {own}/python"
    assert told == [f"{with_own}; with another: mem_profiler run -- /path/to/venv/bin/{again}"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("nope.py",), "error: the program nope.py was not found"),
        (("--live", "exit.py"), "the live view needs a terminal"),
        (("--live-remote", "exit.py"), "any program that runs can be watched"),
        (("--trace-python-allocators", "--keep-pymalloc", "exit.py"), "exclude each other"),
        (("-m",), "-m needs the name of a module"),
        (("--budget", "x.toml", "-o", "a.heap", "exit.py"), "names one file"),
        (("-z", "exit.py"), "No such option '-z'"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    folder: Path,
    words: tuple[str, ...],
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    assert errors.run_command(cli, "mem_profiler", ["run", *words]) == 2
    said = capfd.readouterr()
    assert said.out == ""
    assert text in said.err.splitlines()[0]
    assert not list(folder.glob("*.heap"))
