"""A fresh clone: three commands of the README to a first answer, and extras that are missing."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from c_build import ROOT
from page_commands import blocks, commands

TIMEOUT_S = 600
SECTION = r"^## Install\n\n(.*?)^## "
PROGRAM = "kept = [bytes(500) for _ in range(20_000)]\n"
# What each extra's command says of its library, without and with it.
EXTRAS = {
    "live": ("mem_profiler live 1", "needs the package textual", "needs a terminal"),
    "query": ("mem_parser query 'SELECT count(*) FROM sites' first.heap", "duckdb is missing", ""),
    "serve": ("mem_profiler serve --public", ": not installed", "are for --listen"),
}
pytestmark = pytest.mark.soak


def typed(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Type lines into a shell that knows nothing of this environment."""
    keep = {"HOME", "LANG", "SYSTEM_PACKAGES"}
    pip = {name for name in os.environ if name.startswith(("PIP_", "PYENV", "UV_", "SSL_"))}
    mine = str(Path(sys.executable).parent)
    path = [part for part in os.environ["PATH"].split(":") if part != mine]
    return subprocess.run(
        ["bash", "-c", text], cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S,
        env={n: os.environ[n] for n in keep | pip if n in os.environ} | {"PATH": ":".join(path)},
    )  # fmt: skip


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of what git has here."""
    folder = tmp_path_factory.mktemp("clone") / "mem-profiler"
    subprocess.run(
        ["git", "clone", "-q", str(ROOT), str(folder)], check=True, timeout=60, capture_output=True
    )
    (folder / "program.py").write_text(PROGRAM, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def first_lines(clone: Path) -> list[str]:
    """The lines of the first block of the README's section, for a program that is there."""
    section = re.search(SECTION, (clone / "README.md").read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert "three commands" in section[1].partition("\n    ")[0]
    lines = [command.text for command in commands(next(blocks(section[1])))]
    assert len(lines) == 3
    return [line.replace("PROG ARGS", "program.py") for line in lines]


def test_three_commands_lead_from_a_clone_to_an_answer(clone: Path, first_lines: list[str]) -> None:
    done = typed(" && ".join([*first_lines, "man -w mem_parser"]), clone)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"MiB .*\bprogram\.py\)", done.stdout), done.stdout
    assert done.stdout.rstrip().endswith("mem_parser.1")


@pytest.mark.parametrize("origin", ["clone", "wheel"])
def test_the_line_that_a_missing_extra_prints_makes_its_command_work(
    origin: str, clone: Path, first_lines: list[str], tmp_path: Path
) -> None:
    begin = first_lines[0]
    if origin == "wheel":
        pip = f"{sys.executable} -m pip --disable-pip-version-check"
        begin = (
            f"{pip} wheel -q --no-deps -w {tmp_path} {clone} && {sys.executable} -m venv"
            f" {tmp_path}/v && . {tmp_path}/v/bin/activate && pip install -q {tmp_path}/*.whl"
        )
    done = typed(f"{begin} && {first_lines[1].replace('-o', '-f -o')}", clone)
    assert done.returncode == 0, done.stdout + done.stderr
    activate = begin.rpartition("&& . ")[2].partition(" &&")[0]
    for extra, (command, missing, ready) in EXTRAS.items():
        before = typed(f". {activate} && {command}", clone)
        assert before.returncode != 0
        assert missing in before.stderr, before.stderr
        [line] = re.findall(r"^hint:  (.*)$", before.stderr, re.MULTILINE)
        assert line == f"pip install 'mem-profiler[{extra}]'"
        after = typed(f". {activate} && {line} && {command}", clone)
        assert ready in after.stderr, after.stderr
        assert missing not in after.stderr
    if origin == "clone":
        where = typed(
            f". {activate} && cd / && python -c 'import mem_parser as m; print(m)'", clone
        )
        assert str(clone) in where.stdout


def test_the_line_works_in_an_environment_of_uv(clone: Path, tmp_path: Path) -> None:
    if shutil.which("uv") is None:
        pytest.skip("uv is not installed")
    done = typed(
        f"uv venv -q {tmp_path}/v && uv pip install -q --python {tmp_path}/v/bin/python {clone}",
        clone,
    )
    assert done.returncode == 0, done.stderr
    before = typed(f"{tmp_path}/v/bin/mem_profiler live 1", clone)
    [line] = re.findall(r"^hint:  (.*)$", before.stderr, re.MULTILINE)
    after = typed(f"{line} && {tmp_path}/v/bin/mem_profiler live 1", clone)
    assert "needs a terminal" in after.stderr, after.stderr
