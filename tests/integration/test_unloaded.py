"""Programs that the sampler cannot enter or whose memory it does not see: the commands say why, in
the words of the doctor.
"""

import contextlib
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from c_build import WARNINGS, compile_program
from controller_tools import LIBRARY, HeapFile, command_ok, refused, run_command, wait_until
from mem_cli.profiler.run import why_stray
from mem_parser.errors import TargetUnsupported
from mem_parser.readers import read_profile
from mem_profiler.attach.control import attach
from mem_profiler.capture import launch, session
from mem_profiler.doctor import examine_process, examine_program, first_blocker
from mem_profiler.profile import bypass
from mem_profiler.profile.readings import Growth
from parser_run import parse
from sampler_run import TARGETS, WAIT_S, Target, build, environment
from simulated import worker

pytestmark = [pytest.mark.usefixtures("sampler", "segment_dir"), pytest.mark.timeout(120)]
SOURCE = "#include <stdlib.h>\nint main(void) { free(malloc(5000)); return 0; }\n"
CLEARED = "the environment that it got does not preload the sampler"


def compile_by(*command: str) -> None:
    subprocess.run(command, check=True, timeout=120)


def made(folder: Path, *flags: str, compiler: str = "cc") -> Path:
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
def test_the_reason_is_that_of_the_doctor(tmp_path: Path, kind: str, way: str) -> None:
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
    tmp_path: Path, wrapper: list[str], span: str
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
    tmp_path: Path,
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


def test_a_gate_fails_with_the_reason(tmp_path: Path) -> None:
    budget = tmp_path / "budget.toml"
    budget.write_text('[budget]\npeak = "1GiB"\n', encoding="utf-8")
    program = static(tmp_path)
    done = refused(4, "run", "--budget", budget, "--", "sh", "-c", f"exec {program}")
    assert "the-program is statically linked" in done


def test_a_variable_that_leaves_the_program_out_is_named(tmp_path: Path) -> None:
    done = run_command("run", "--", made(tmp_path), variables={"MEM_PROFILER_ONLY": "another"})
    error, hint = said_of(done.stderr)
    assert done.returncode == 4
    assert error.endswith("MEM_PROFILER_ONLY=another leaves it out")
    assert hint == "unset MEM_PROFILER_ONLY"


def test_a_script_that_leaves_itself_out_for_its_program_is_no_error(tmp_path: Path) -> None:
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


def test_a_program_that_names_itself_and_ends_at_once_is_still_captured(tmp_path: Path) -> None:
    source, program = tmp_path / "named.c", tmp_path / "named"
    source.write_text(
        "#include <stdlib.h>\n#include <sys/prctl.h>\n#include <unistd.h>\nint main(void) {"
        ' prctl(PR_SET_NAME, "other name"); volatile char *p = malloc(5000); p[0] = 1;'
        " _exit(0); }\n",
        encoding="utf-8",
    )
    compile_by("cc", "-O0", str(source), "-o", str(program))
    command_ok("run", "-c", "1", "-o", tmp_path / "p", "--", program)
    [path] = tmp_path.glob("*.heap")
    assert HeapFile(path).total("alloc_blocks") >= 1


STARTER = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
extern char **environ;
/* starter KEEP PROGRAM FIFO: runs PROGRAM - FIFO as a child, with the environment or with none.
   starter - FIFO: has 90 MB until the FIFO has been opened and closed. */
int main(int argc, char **argv)
{
    if (argc == 3) {
        for (int i = 0; i < 300; i++)
            memset(malloc(300000), 1, 300000);
        FILE *fifo = fopen(argv[2], "r");
        return fifo == NULL || fgetc(fifo) != EOF;
    }
    pid_t pid = fork();
    if (pid == 0) {
        char *none[] = {NULL}, *words[] = {argv[2], "-", argv[3], NULL};
        execve(argv[2], words, *argv[1] == 'k' ? environ : none);
        _exit(9);
    }
    int status;
    return waitpid(pid, &status, 0) != pid || status != 0;
}
"""
LEAST_BYTES = 300 * 250_000
WITHOUT = "1 child process ran without the sampler: "


def run_until(starts: Sequence[object], fifo: Path, prefix: Path) -> launch.Outcome:
    """Follow a starter's child, which ends once it has been looked at."""
    os.mkfifo(fifo)
    run = launch.Run(
        [*map(str, starts), str(fifo)], launch.Options(1024, str(prefix), children=True)
    )
    run.strays.why = why_stray
    writer = -1

    def has_ended() -> bool:
        nonlocal writer
        run.tick()
        if writer < 0:
            with contextlib.suppress(OSError):  # nobody reads yet: the child takes its memory
                writer = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        elif len(run.images) > 1 or any(
            stray.resident_bytes > LEAST_BYTES for stray in run.strays.found.values()
        ):
            os.close(writer)
            return True
        return False

    wait_until(has_ended, "the child was seen")
    return run.finish(run.follow(lambda _gone: None))


@pytest.mark.parametrize(
    ("kind", "flags", "why"),
    [("none", (), CLEARED), ("none", ("-static",), "is statically linked"), ("keep", (), "")],
)
def test_a_child_without_the_sampler_is_named_and_no_limit_passes_that_it_may_exceed(
    tmp_path: Path, kind: str, flags: tuple[str, ...], why: str
) -> None:
    source = tmp_path / "starter.c"
    source.write_text(STARTER, encoding="utf-8")
    starter, child = tmp_path / "starter", tmp_path / "the-child"
    compile_by("cc", str(source), "-o", str(starter))
    compile_by("cc", *flags, str(source), "-o", str(child))
    outcome = run_until([starter, kind, child], tmp_path / "fifo", tmp_path / "p")
    notes = {note for result in outcome.results for note in result.notes}
    assert outcome.status == 0
    assert not outcome.errors
    if not why:
        assert (len(outcome.results), notes) == (2, set())
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


BUILDS = {
    "tsan": ("gcc", ("-fsanitize=thread",), "ThreadSanitizer"),
    "tsan-static": ("gcc", ("-fsanitize=thread", "-static-libtsan"), "ThreadSanitizer"),
    "tsan-clang": ("clang", ("-fsanitize=thread",), "ThreadSanitizer"),
    "asan": ("gcc", ("-fsanitize=address",), "AddressSanitizer"),
    "asan-static": ("gcc", ("-fsanitize=address", "-static-libasan"), "AddressSanitizer"),
    "asan-clang": ("clang", ("-fsanitize=address",), "AddressSanitizer"),
    "msan-clang": ("clang", ("-fsanitize=memory",), "MemorySanitizer"),
    "lsan": ("gcc", ("-fsanitize=leak",), "LeakSanitizer"),
    "lsan-clang": ("clang", ("-fsanitize=leak",), "LeakSanitizer"),
}
BY_COMMAND = ("tsan", "asan-static", "lsan-clang")
UNSUPPORTED = 4
WITHOUT_SYMBOLS = {
    "tsan-static": "ThreadSanitizer",
    "tsan-clang": "ThreadSanitizer",
    "asan-static": "AddressSanitizer",
}


def checked(kind: str, *flags: str) -> Path:
    """The program, built with a sanitizer."""
    compiler, sanitizer, _ = BUILDS[kind]
    return compile_program(
        TARGETS / "checked.c",
        ("-O1", "-g", *WARNINGS, "-D_GNU_SOURCE", f"-I{TARGETS}", *sanitizer, *flags),
        name=f"checked-{kind}", compiler=compiler,
    )  # fmt: skip


def plain(*flags: str, name: str = "checked") -> Path:
    return compile_program(
        TARGETS / "checked.c",
        ("-O1", "-g", *WARNINGS, "-D_GNU_SOURCE", f"-I{TARGETS}", *flags),
        name=name,
    )


@contextmanager
def running(argv: list[str | Path], env: dict[str, str] | None = None) -> Iterator[int]:
    """The program while it allocates; it must end as it wants to."""
    process = subprocess.Popen(
        [str(part) for part in argv],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env,
    )  # fmt: skip
    try:
        assert process.stdout.readline() == "ready\n"
        yield process.pid
        output, errors = process.communicate(timeout=WAIT_S)
        assert (process.returncode, output) == (0, "done\n"), errors
    finally:
        process.kill()
        process.wait()


def refusal(pid: int) -> str:
    """Why an attach is refused, which must be what the doctor says."""
    blocker = first_blocker(examine_process(pid))
    with pytest.raises(TargetUnsupported) as caught:
        attach(pid)
    assert str(caught.value) == f"pid {pid}: {blocker.text}"
    return blocker.text


@pytest.mark.parametrize("kind", BUILDS)
def test_a_sanitized_program_is_refused_everywhere_with_one_reason(
    kind: str, tmp_path: Path
) -> None:
    program, name = checked(kind), BUILDS[kind][2]
    with running([program]) as pid:
        text = refusal(pid)
    blocker = first_blocker(examine_program((str(program),)))

    assert text == f"runs under {name}, whose allocator the sampler must not hook"
    assert blocker.text == text
    if kind not in BY_COMMAND:
        return
    result = run_command("run", "-o", tmp_path / "out", "--", program)
    assert result.returncode == UNSUPPORTED
    assert f"error: {program}: {text}" in result.stderr
    assert [*tmp_path.glob("out*")] == []


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the addresses of its shadow memory")
@pytest.mark.parametrize("kind", WITHOUT_SYMBOLS)
def test_one_without_symbols_is_known_by_its_memory(kind: str) -> None:
    program = checked(kind, "-s")
    with running([program]) as pid:
        assert WITHOUT_SYMBOLS[kind] in refusal(pid)
    blocker = first_blocker(examine_program((str(program),)))
    assert blocker.check == "sanitizer"


@pytest.mark.parametrize("kind", BUILDS)
def test_a_preloaded_sampler_leaves_a_sanitized_program_alone(kind: str, segment_dir: Path) -> None:
    if kind == "asan":
        pytest.skip("AddressSanitizer itself refuses any library preloaded before its own")
    with running([checked(kind)], environment(segment_dir, rate=1024)):
        pass


def test_a_program_that_becomes_a_sanitized_one_gives_the_same_reason(tmp_path: Path) -> None:
    script = tmp_path / "start.sh"
    script.write_text(f"#!/bin/sh\nexec {checked('tsan')} < /dev/null\n", encoding="utf-8")
    script.chmod(0o755)
    result = run_command("run", "-o", tmp_path / "out", "--", script)
    assert result.returncode == UNSUPPORTED
    assert "runs under ThreadSanitizer, whose allocator the sampler must not hook" in result.stderr


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="no valgrind")
def test_a_program_under_valgrind_is_refused(tmp_path: Path) -> None:
    with running(["valgrind", "-q", plain()]) as pid:
        text = refusal(pid)
    result = run_command("run", "-o", tmp_path / "out", "--", "valgrind", "-q", plain())
    assert text.startswith("runs under Valgrind, which runs the program's code itself")
    assert text in result.stderr


@pytest.mark.skipif(shutil.which(f"qemu-{platform.machine()}") is None, reason="no qemu-user")
def test_a_program_in_an_emulator_is_refused(tmp_path: Path) -> None:
    emulator = f"qemu-{platform.machine()}"
    with running([emulator, plain()]) as pid:
        text = refusal(pid)
    result = run_command("run", "-o", tmp_path / "out", "--", emulator, plain())
    assert text.startswith("runs under an emulator (QEMU), which runs the program's code itself")
    assert text in result.stderr


@pytest.mark.parametrize(
    "name",
    ["libtsan.so.2", "qemu-x86_64",
     *(pytest.param(n, marks=pytest.mark.soak) for n in ("tsan", "memcheck-amd64-linux"))],
)  # fmt: skip
def test_an_innocent_program_of_such_a_name_is_captured(name: str, tmp_path: Path) -> None:
    program = tmp_path / name
    shutil.copy(plain(), program)
    with running([program]) as pid:
        attach(pid).detach()
    command_ok("run", "-o", tmp_path / "out", "--", program)


def test_undefined_behaviour_alone_is_no_reason(tmp_path: Path) -> None:
    program = plain("-fsanitize=undefined", name="checked-ubsan")
    command_ok("run", "-o", tmp_path / "out", "--", program)


SCRIPT = """<?php
echo "ready\\n";
$rows = [];
while (fgets(STDIN)) {
    for ($i = 0; $i < 800000; $i++) { $rows[] = str_repeat("x", 50) . $i; }
    echo "done\\n";
}
"""


def notes_on(prefix: Path, order: str, *words: object, **variables: str) -> list[str]:
    """Capture a program while it carries out an order; the notes on memory by mmap."""
    with subprocess.Popen(
        list(map(str, words)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        bufsize=1, env={**os.environ, "LD_PRELOAD": str(LIBRARY), **variables},
    ) as child:  # fmt: skip
        assert child.stdin is not None
        try:
            assert child.stdout.readline() == "ready\n"
            one = session.Session(child.pid)
            one.start(session.Rates(65536), None)
            one.tick()
            child.stdin.write(order + "\n")
            assert child.stdout.readline() == "done\n"
            result = one.finish(str(prefix), "stopped")
            one.close()
        finally:
            child.kill()
    notes: list[str] = HeapFile(Path(result.path)).header["notes"]
    assert notes == result.notes
    return [note for note in notes if "mmap" in note]


@pytest.fixture(scope="module")
def mapper() -> Path:
    return build("mapper.c")


def test_memory_that_a_program_maps_itself_is_said(mapper: Path, tmp_path: Path) -> None:
    [note] = notes_on(tmp_path / "p", "200 10", mapper)
    assert "the program takes memory by mmap" in note
    assert 205 < float(note.split("grew by ")[1].split(" MiB")[0]) < 230
    assert "malloc gave out 10.0 MiB" in note
    assert note.endswith("; --device mmap shows it by function")
    assert notes_on(tmp_path / "q", "200 10", mapper, MEM_PROFILER_DEVICE="mmap") == []
    [host] = (path for path in tmp_path.glob("q.*.heap") if "mmap" not in path.name)
    sizes = [reading.mapped_bytes for reading in read_profile(host).series]
    assert (sizes[0], sizes[-1]) == (0, 200 << 20)


def test_less_is_said_where_a_library_brings_an_allocator_along() -> None:
    profile = worker(np.random.default_rng(1), rate=0.01)
    grew = Growth(0, 15 << 20, 15 << 20)
    told = [
        bypass.notes_on(profile, grew, None, brought, known=True, opened=False)
        for brought in ({}, {"/lib/libarrow.so.9": "mimalloc"})
    ]
    assert told[0] == [] and "libarrow.so.9 brings along (mimalloc)" in told[1][0]


@pytest.mark.parametrize("order", ["200 100", "10 0", "1 100"])
def test_nothing_is_said_where_malloc_explains_much_or_the_growth_is_small(
    mapper: Path, tmp_path: Path, order: str
) -> None:
    assert notes_on(tmp_path / "p", order, mapper) == []


@pytest.fixture
def php() -> str:
    found = shutil.which("php")
    if found is None:
        pytest.skip("no php")
    return found


def test_php_is_named_with_what_makes_it_use_malloc(php: str, tmp_path: Path) -> None:
    script = tmp_path / "rows.php"
    script.write_text(SCRIPT)
    [note] = notes_on(tmp_path / "p", "go", php, script)
    assert "PHP takes memory by mmap" in note
    assert "USE_ZEND_ALLOC=0" in note
    assert notes_on(tmp_path / "again", "go", php, script, USE_ZEND_ALLOC="0") == []


def test_php_is_named_wherever_its_file_might_say_that_all_is_well(
    php: str, segment_dir: Path, tmp_path: Path
) -> None:
    script = tmp_path / "rows.php"
    script.write_text(SCRIPT)
    said = "PHP takes memory by mmap, which the profile does not show"
    with Target([php, script], environment(segment_dir, rate=1 << 30)) as target:
        target.line()
        saved = run_command("snapshot", target.pid, "-o", tmp_path / "s")
        target.kill()
    assert f"{said}; USE_ZEND_ALLOC=0 makes it use malloc\n" in saved.stdout
    assert run_command("recover", target.pid, "-o", tmp_path / "r").returncode == 0
    [heap] = tmp_path.glob("r.*.heap")
    for report in ("summary", "leaks"):
        shown = " ".join(parse(report, heap).stdout.split())
        assert f"{said}, unless it ran with USE_ZEND_ALLOC=0" in shown
        assert "no leaks" not in shown


def test_the_doctor_names_php_before(php: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def findings() -> list[str]:
        done = run_command("doctor", "--json", "--", php, "x.php")
        return [
            row["text"] for row in json.loads(done.stdout)["findings"] if row["check"] == "runtime"
        ]

    assert findings() == ["PHP takes memory by mmap, which the sampler does not see"]
    monkeypatch.setenv("USE_ZEND_ALLOC", "0")
    assert findings() == []
