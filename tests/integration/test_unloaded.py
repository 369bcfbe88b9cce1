"""A program that ends without the sampler: the command says why, in the words of the doctor."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from controller_tools import HeapFile, run_command, wait_until
from mem_cli.profiler.run import why_stray
from mem_profiler.capture import launch
from mem_profiler.doctor import examine_program, first_blocker
from parser_run import parse

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


def test_a_program_that_its_loader_refuses_is_not_said_to_lack_an_environment(
    tmp_path: Path, segment_dir: Path
) -> None:
    library = tmp_path / "libx.so"
    compile_by("cc", "-shared", "-fPIC", "-xc", os.devnull, "-o", str(library))
    flags = ("-Wl,--no-as-needed", f"-Wl,-rpath,{tmp_path}", str(library))
    program = made(tmp_path, *flags)
    library.write_bytes(library.read_bytes()[:100])
    done = run_command("run", "-o", tmp_path / "p", "--", program)
    error, hint = said_of(done.stderr)
    assert done.returncode == 127
    assert error.startswith("the-program ended without loading the sampler: its loader refused")
    assert hint == f"{program} has to start alone first"


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


STARTER = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
extern char **environ;
/* starter KIND PROGRAM FIFO: runs PROGRAM KIND FIFO as a child, with the environment or with none.
   starter KIND FIFO: has 90 MB, or nothing, until the FIFO has been opened and closed. */
int main(int argc, char **argv)
{
    if (argc == 3) {
        for (int i = 0; i < 300 && *argv[1] != 'l'; i++)
            memset(malloc(300000), 1, 300000);
        FILE *fifo = fopen(argv[2], "r");
        return fifo == NULL || fgetc(fifo) != EOF;
    }
    pid_t pid = fork();
    if (pid == 0) {
        char *none[] = {NULL}, *words[] = {argv[2], argv[1], argv[3], NULL};
        execve(argv[2], words, *argv[1] == 'n' ? none : environ);
        _exit(9);
    }
    int status;
    return waitpid(pid, &status, 0) != pid || status != 0;
}
"""
LEAST_BYTES = 300 * 250_000
WITHOUT = "1 child process ran without the sampler: "


def run_until(
    starts: Sequence[object], fifo: Path, prefix: Path, rate_bytes: int = 1024
) -> launch.Outcome:
    """Follow a starter's child, which ends once it has been looked at."""
    os.mkfifo(fifo)
    run = launch.Run(
        [*map(str, starts), str(fifo)], launch.Options(rate_bytes, str(prefix), children=True)
    )
    run.strays.why = why_stray
    writer = -1

    def has_ended() -> bool:
        nonlocal writer
        run.tick()
        if writer < 0:
            with contextlib.suppress(OSError):  # nobody reads yet: the child takes its memory
                writer = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        elif (
            len(run.images) > 1
            or (rate_bytes > 1024 and "the-child" in run.strays.sampled.values())
            or any(stray.resident_bytes > LEAST_BYTES for stray in run.strays.found.values())
        ):
            os.close(writer)
            return True
        return False

    wait_until(has_ended, "the child was seen")
    return run.finish(run.follow(lambda _gone: None))


def made_starter(folder: Path, *flags: str) -> tuple[Path, Path]:
    """A starter, and its child."""
    source = folder / "starter.c"
    source.write_text(STARTER, encoding="utf-8")
    starter, child = folder / "starter", folder / "the-child"
    compile_by("cc", str(source), "-o", str(starter))
    compile_by("cc", *flags, str(source), "-o", str(child))
    return starter, child


def test_a_child_that_took_no_sample_is_said_to_have_been_seen(
    tmp_path: Path, segment_dir: Path
) -> None:
    starter, child = made_starter(tmp_path)
    outcome = run_until([starter, "little", child], tmp_path / "fifo", tmp_path / "p", 1 << 30)
    assert [result.pid for result in outcome.results] == [outcome.pid]
    [note] = outcome.notes
    assert note == (
        "at least 1 child process took no sample, and so left no file: the-child;"
        " without a sample a process allocated less than 3 GiB (95 %)"
    )


@pytest.mark.parametrize(
    ("kind", "flags", "why"),
    [("none", (), CLEARED), ("none", ("-static",), "is statically linked"), ("keep", (), "")],
)
def test_a_child_without_the_sampler_is_named_and_no_limit_passes_that_it_may_exceed(
    tmp_path: Path, segment_dir: Path, kind: str, flags: tuple[str, ...], why: str
) -> None:
    starter, child = made_starter(tmp_path, *flags)
    outcome = run_until([starter, kind, child], tmp_path / "fifo", tmp_path / "p")
    notes = {note for result in outcome.results for note in result.notes}
    assert outcome.status == 0
    assert not outcome.errors
    if not why:
        assert (len(outcome.results), notes, outcome.notes) == (2, set(), [])
        return
    [note], [result] = notes, outcome.results
    assert note.startswith(f"the profile may lack the program's memory: {WITHOUT}the-child (pid ")
    assert why in note
    said = {}
    for limit in ("60 MiB", "4 GiB"):
        check = tmp_path / "check.toml"
        check.write_text(f"[budget]\npeak = '{limit}'\n", encoding="utf-8")
        said[limit] = parse("budget", check, result.path)
    assert [done.returncode for done in said.values()] == [7, 0], said
    reason = " ".join(said["60 MiB"].stdout.split())
    assert "a child process without the sampler may have had" in reason
