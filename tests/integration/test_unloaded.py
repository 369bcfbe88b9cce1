"""A program that ends without the sampler: the command says why, in the words of the doctor."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from controller_tools import HeapFile, run_command
from mem_profiler.doctor import examine_program, first_blocker

pytestmark = [pytest.mark.usefixtures("sampler"), pytest.mark.timeout(120)]

SOURCE = "#include <stdlib.h>\nint main(void) { free(malloc(5000)); return 0; }\n"
CLEARED = "the environment that it got does not preload the sampler"


def compile_by(*command: str) -> None:
    subprocess.run(command, check=True, timeout=120)


def made(folder: Path, *flags: str, compiler: str = "cc") -> Path:
    """A program of one block."""
    source, program = folder / "one.c", folder / "the-program"
    source.write_text(SOURCE, encoding="utf-8")
    compile_by(compiler, "-O0", *flags, str(source), "-o", str(program))
    return program


def static(folder: Path) -> Path:
    return made(folder, "-static")


def sanitized(folder: Path) -> Path:
    return made(folder, "-fsanitize=address", "-static-libasan")


def on_musl(folder: Path) -> Path:
    if shutil.which("musl-gcc") is None:
        pytest.skip("no musl-gcc")
    return made(folder, compiler="musl-gcc")


def set_uid(folder: Path) -> Path:
    program = made(folder)
    os.chown(program, 1000, 1000)
    program.chmod(0o4755)
    return program


def set_gid(folder: Path) -> Path:
    program = made(folder)
    os.chown(program, 0, 1000)
    program.chmod(0o2755)
    return program


KINDS: dict[str, Callable[[Path], Path]] = {
    "static": static, "sanitized": sanitized, "musl": on_musl, "set-uid": set_uid,
    "set-gid": set_gid,
}  # fmt: skip


def said_of(stderr: str) -> tuple[str, str]:
    """The error and the hint of a command."""
    lines = stderr.splitlines()
    error = next(line for line in lines if line.startswith("error: "))
    hint = next((line for line in lines if line.startswith("hint:  ")), "")
    return error.removeprefix("error: "), hint.removeprefix("hint:  ")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["exec", "itself"])
def test_the_reason_is_that_of_the_doctor(
    tmp_path: Path, segment_dir: Path, kind: str, way: str
) -> None:
    if kind.startswith("set-") and os.geteuid() != 0:
        pytest.skip("needs root to make one")
    program = KINDS[kind](tmp_path)
    blocker = first_blocker(examine_program((str(program),)))
    assert blocker is not None
    wrapped = [program] if way == "itself" else ["sh", "-c", f"exec {program}"]
    done = run_command("run", "-o", tmp_path / "p", "--", *wrapped)
    error, hint = said_of(done.stderr)
    assert done.returncode != 0
    assert error.endswith(blocker.text)
    assert hint == blocker.cure
    assert "succeeded" not in done.stderr and "note:" not in done.stderr
    if way == "exec":
        assert error.startswith("the-program ended without ")


@pytest.mark.parametrize("span", ["short", "long"])
@pytest.mark.parametrize(
    "wrapper",
    [["env", "-i"], ["env", "LD_PRELOAD="], ["sh", "-c", 'unset LD_PRELOAD; exec "$@"', "sh"]],
    ids=["env -i", "empty", "unset"],
)
def test_a_wrapper_that_clears_the_environment_is_not_taken_for_the_program(
    tmp_path: Path, segment_dir: Path, wrapper: list[str], span: str
) -> None:
    program = [str(made(tmp_path))] if span == "short" else ["/usr/bin/sleep", "0.5"]
    done = run_command("run", "-o", tmp_path / "p", "--", *wrapper, *program)
    error, hint = said_of(done.stderr)
    assert done.returncode == 4
    name = Path(program[0]).name
    assert error.startswith(f"{name} ended without loading the sampler: ")
    assert f"run -- {program[0]}" in hint
    if span == "long":
        assert error.endswith(CLEARED)
    assert "succeeded" not in done.stderr


def test_a_gate_fails_with_the_reason(tmp_path: Path, segment_dir: Path) -> None:
    budget = tmp_path / "budget.toml"
    budget.write_text('[budget]\npeak = "1GiB"\n', encoding="utf-8")
    program = static(tmp_path)
    done = run_command("run", "--budget", budget, "--", "sh", "-c", f"exec {program}")
    assert done.returncode == 4, done.stderr
    assert "the-program is statically linked" in done.stderr


def test_a_variable_that_leaves_the_program_out_is_named(tmp_path: Path, segment_dir: Path) -> None:
    done = run_command("run", "--", made(tmp_path), variables={"MEM_PROFILER_ONLY": "another"})
    error, hint = said_of(done.stderr)
    assert done.returncode == 4
    assert error.endswith("MEM_PROFILER_ONLY=another leaves it out")
    assert hint == "unset MEM_PROFILER_ONLY"


def test_a_script_that_leaves_itself_out_for_its_program_is_no_error(
    tmp_path: Path, segment_dir: Path
) -> None:
    budget, script = tmp_path / "budget.toml", tmp_path / "run.sh"
    budget.write_text('[budget]\npeak = "1GiB"\n', encoding="utf-8")
    for code in (0, 3):
        script.write_text(f"#!/bin/sh\n{made(tmp_path)}\nexit {code}\n", encoding="utf-8")
        script.chmod(0o755)
        done = run_command(
            "run", "-c", 1, "--budget", budget, "-o", tmp_path / "p", "--", script,
            variables={"MEM_PROFILER_ONLY": "the-program"},
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        assert "PASS  peak" in done.stderr
        assert "error:" not in done.stderr


def test_a_program_that_names_itself_and_ends_at_once_is_still_captured(
    tmp_path: Path, segment_dir: Path
) -> None:
    source, program = tmp_path / "named.c", tmp_path / "named"
    source.write_text(
        "#include <stdlib.h>\n#include <sys/prctl.h>\n#include <unistd.h>\nint main(void) {"
        ' prctl(PR_SET_NAME, "other name"); volatile char *p = malloc(5000); p[0] = 1;'
        " _exit(0); }\n",
        encoding="utf-8",
    )
    compile_by("cc", "-O0", str(source), "-o", str(program))
    done = run_command("run", "-c", "1", "-o", tmp_path / "p", "--", program)
    assert done.returncode == 0, done.stderr
    [path] = tmp_path.glob("*.heap")
    assert HeapFile(path).total("alloc_blocks") >= 1
