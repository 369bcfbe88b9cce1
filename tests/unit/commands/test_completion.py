"""Completion, as bash runs it, and what the other shells are told."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from screens import ENVIRONMENT

ROOT = Path(__file__).resolve().parents[3]
SHELLS = ("bash", "zsh", "fish")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH in which both commands are those of this tree."""
    folder = tmp_path_factory.mktemp("bin")
    for name, module in (("mem_parser", "parser"), ("mem_profiler", "profiler")):
        script = folder / name
        script.write_text(
            f"#!{sys.executable}\nfrom mem_cli.entry import {name}\n{name}()\n# {module}\n"
        )
        script.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def run(path: str, arguments: list[str], **variables: str) -> str:
    return subprocess.run(
        arguments, capture_output=True, text=True, timeout=60, check=True,
        env=os.environ | ENVIRONMENT | {"PATH": path} | variables,
    ).stdout  # fmt: skip


def told(path: str, shell: str, line: str) -> list[str]:
    """What a command answers to the line's last word, which may be empty."""
    name, words = line.split(" ", 1)
    variables = {f"_{name.upper()}_COMPLETE": f"{shell}_complete", "COMP_WORDS": line}
    last = words.rpartition(" ")[2]
    number = str(len(line.split(" ")) - 1)
    variables["COMP_CWORD"] = last if shell == "fish" else number
    return run(path, [name], **variables).splitlines()


def completed(path: str, folder: Path, line: str) -> list[str]:
    """What bash makes of the line's last word."""
    name = line.split(maxsplit=1)[0]
    words = " ".join(f"'{word}'" for word in line.split(" "))
    number = len(line.split(" ")) - 1
    script = (
        f'eval "$(_{name.upper()}_COMPLETE=bash_source {name})"\n'
        'compopt() { echo "compopt $1 $2"; }\n'
        f"COMP_WORDS=({words}); COMP_CWORD={number}\n"
        f'cd {folder}; _{name}_completion {name} "${{COMP_WORDS[COMP_CWORD]}}"\n'
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    return run(path, ["bash", "-c", script]).split("\n")[:-1]


@pytest.mark.parametrize("name", ["mem_parser", "mem_profiler"])
@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_gets_a_script_that_it_reads(path: str, name: str, shell: str) -> None:
    script = run(path, [name], **{f"_{name.upper()}_COMPLETE": f"{shell}_source"})
    assert f"_{name}_completion" in script
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    subprocess.run([shell, "-n"], input=script, text=True, timeout=60, check=True)


def test_bash_completes_commands_files_and_options(path: str, tmp_path: Path) -> None:
    first = completed(path, tmp_path, "mem_parser ")
    assert "compopt -o default" in first
    assert {"leaks", "top", "summary"} <= set(first)
    assert completed(path, tmp_path, "mem_parser le")[-1] == "leaks"
    options = completed(path, tmp_path, "mem_parser top --s")
    assert set(options) == {"--sort", "--space", "--start-frames", "--swapped"}
    assert completed(path, tmp_path, "mem_parser top --sort ") == ["flat", "cum"]
    assert completed(path, tmp_path, "mem_parser top ")[0] == "compopt -o default"
    assert completed(path, tmp_path, "mem_parser top -o ")[0] == "compopt -o default"


def test_processes_are_completed_by_name_and_number(path: str) -> None:
    link = Path(path.split(os.pathsep, maxsplit=1)[0]) / f"zz{os.getpid()}-sleep"
    link.symlink_to("/bin/sleep")
    with subprocess.Popen([str(link), "60"]) as child:
        try:
            for line in ("mem_profiler zz", "mem_profiler start zz", "mem_profiler -p zz"):
                assert f"plain,{link.name[:15]}" in told(path, "bash", line), line
            number = f"mem_profiler stop {str(child.pid)[:-1]}"
            assert f"plain,{child.pid}" in told(path, "bash", number)
        finally:
            child.kill()


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_are_told_the_same(path: str, shell: str) -> None:
    answer = "\n".join(told(path, shell, "mem_parser le"))
    assert "leaks" in answer
    assert "Find leaks and tell them" in answer
    assert "file" in answer
