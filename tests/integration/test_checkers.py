"""Programs under sanitizers and other checkers: attach, run and doctor refuse them with the same
words, and leave them as they were. Programs that only look like one are captured.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from c_build import WARNINGS, compile_program
from controller_tools import run_command
from mem_parser.errors import TargetUnsupported
from mem_profiler.attach.control import attach
from mem_profiler.doctor import examine_process, examine_program, first_blocker
from sampler_run import TARGETS, WAIT_S, environment

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
    """The same without any."""
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
        assert process.stdout is not None
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
    assert blocker is not None
    with pytest.raises(TargetUnsupported) as caught:
        attach(pid)
    assert str(caught.value) == f"pid {pid}: {blocker.text}"
    return blocker.text


@pytest.mark.parametrize("kind", BUILDS)
def test_a_sanitized_program_is_refused_everywhere_with_one_reason(
    kind: str, segment_dir: Path, tmp_path: Path
) -> None:
    program, name = checked(kind), BUILDS[kind][2]
    with running([program]) as pid:
        text = refusal(pid)
    blocker = first_blocker(examine_program((str(program),)))

    assert text == f"runs under {name}, whose allocator the sampler must not hook"
    assert blocker is not None
    assert blocker.text == text
    if kind not in BY_COMMAND:
        return
    result = run_command("run", "-o", tmp_path / "out", "--", program)
    assert result.returncode == UNSUPPORTED
    assert f"error: {program}: {text}" in result.stderr
    assert [*tmp_path.glob("out*")] == []


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the addresses of its shadow memory")
@pytest.mark.parametrize("kind", WITHOUT_SYMBOLS)
def test_one_without_symbols_is_known_by_its_memory(kind: str, segment_dir: Path) -> None:
    program = checked(kind, "-s")
    with running([program]) as pid:
        assert WITHOUT_SYMBOLS[kind] in refusal(pid)
    blocker = first_blocker(examine_program((str(program),)))
    assert blocker is not None
    assert blocker.check == "sanitizer"


@pytest.mark.parametrize("kind", BUILDS)
def test_a_preloaded_sampler_leaves_a_sanitized_program_alone(kind: str, segment_dir: Path) -> None:
    if kind == "asan":
        pytest.skip("AddressSanitizer itself refuses any library preloaded before its own")
    with running([checked(kind)], environment(segment_dir, rate=1024)):
        pass


def test_a_program_that_becomes_a_sanitized_one_gives_the_same_reason(
    segment_dir: Path, tmp_path: Path
) -> None:
    script = tmp_path / "start.sh"
    script.write_text(f"#!/bin/sh\nexec {checked('tsan')} < /dev/null\n", encoding="utf-8")
    script.chmod(0o755)
    result = run_command("run", "-o", tmp_path / "out", "--", script)
    assert result.returncode == UNSUPPORTED
    assert "runs under ThreadSanitizer, whose allocator the sampler must not hook" in result.stderr


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="no valgrind")
def test_a_program_under_valgrind_is_refused(segment_dir: Path, tmp_path: Path) -> None:
    with running(["valgrind", "-q", plain()]) as pid:
        text = refusal(pid)
    result = run_command("run", "-o", tmp_path / "out", "--", "valgrind", "-q", plain())
    assert text.startswith("runs under Valgrind, which runs the program's code itself")
    assert text in result.stderr


@pytest.mark.skipif(shutil.which(f"qemu-{platform.machine()}") is None, reason="no qemu-user")
def test_a_program_in_an_emulator_is_refused(segment_dir: Path, tmp_path: Path) -> None:
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
def test_an_innocent_program_of_such_a_name_is_captured(
    name: str, segment_dir: Path, tmp_path: Path
) -> None:
    program = tmp_path / name
    shutil.copy(plain(), program)
    with running([program]) as pid:
        attach(pid).detach()
    result = run_command("run", "-o", tmp_path / "out", "--", program)
    assert result.returncode == 0, result.stderr


def test_undefined_behaviour_alone_is_no_reason(segment_dir: Path, tmp_path: Path) -> None:
    program = plain("-fsanitize=undefined", name="checked-ubsan")
    result = run_command("run", "-o", tmp_path / "out", "--", program)
    assert result.returncode == 0, result.stderr
